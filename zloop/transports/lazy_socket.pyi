# A transport whose socket object is made when it is asked for.

from socket import socket

from typing_extensions import disjoint_base

from zloop.transports.stream import StreamTransport

@disjoint_base
class LazySocketTransport(StreamTransport):
    @property
    def _sock(self) -> socket | None: ...
