# The transport of a datagram socket.

import asyncio
from contextvars import Context
from socket import socket
from typing import Any, final

from zloop.core.loop import Loop

@final
class DatagramTransport(asyncio.Transport, asyncio.DatagramTransport):
    @property
    def _address(self) -> Any: ...
    @property
    def _context(self) -> Context: ...
    @property
    def _loop(self) -> Loop | None: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _sock(self) -> socket | None: ...

def make_datagram_transport(
    loop: Loop, sock: socket, protocol: asyncio.BaseProtocol, address: Any, waiter: asyncio.Future[None]
) -> DatagramTransport: ...
