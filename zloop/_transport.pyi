# The transport of a connected stream socket.

import asyncio
from contextvars import Context
from socket import socket
from typing import Any

from zloop._loop import Loop
from zloop._sockets import BareSocket
from zloop._writing import WritingTransport

class SocketTransport(WritingTransport):
    _sendfile_compatible: Any
    _start_tls_compatible: bool
    @property
    def _sock(self) -> socket | None: ...

def make_socket_transport(
    loop: Loop,
    sock: socket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None] | None = None,
    *,
    extra: dict[str, Any] | None = None,
    server: Any = None,
    context: Context | None = None,
) -> SocketTransport: ...
def make_bare_transport(
    loop: Loop,
    sock: socket | BareSocket,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None],
    context: Context,
) -> SocketTransport | None: ...
