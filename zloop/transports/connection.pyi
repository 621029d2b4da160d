# Transports of connected stream sockets are made here.

import asyncio
from contextvars import Context
from socket import socket
from typing import Any

from zloop.core.loop import Loop
from zloop.transports.direct_connect import ConnectingDescriptor
from zloop.transports.stream_socket import SocketTransport

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
def make_descriptor_transport(
    loop: Loop,
    sock: socket | ConnectingDescriptor,
    protocol: asyncio.BaseProtocol,
    waiter: asyncio.Future[None],
    context: Context,
) -> SocketTransport | None: ...
