# What the transports that write to a stream share.

from zloop.transports.base import WritingTransport

class StreamTransport(WritingTransport): ...
