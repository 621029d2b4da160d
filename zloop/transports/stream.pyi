# What the transports that write to a stream share.

from typing_extensions import disjoint_base

from zloop.transports.base import WritingTransport

@disjoint_base
class StreamTransport(WritingTransport): ...
