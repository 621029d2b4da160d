# A transport whose socket object is made when it is asked for.

from socket import socket

from zloop.transports.stream import StreamTransport

class LazySocketTransport(StreamTransport):
    @property
    def _sock(self) -> socket | None: ...
