"""The loop's sock_* methods: coroutines over plain, non-blocking sockets.

Each tries first and waits only when the kernel says so; what it takes is in zloop/net/sock_calls.pyx.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from zloop.core.interface import MixinBase
from zloop.core.waiters import next_turn
from zloop.net import sock_calls
from zloop.net.sock_calls import Operation

if TYPE_CHECKING:
    from socket import _Address, _RetAddress

    from _typeshed import ReadableBuffer, WriteableBuffer


class SocketMixin(MixinBase):
    """sock_recv() and its kin."""

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; b"" at the end of the stream."""
        outcome = sock_calls.receive(self, sock, n)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        """Receive into a writable buffer; the number of bytes received."""
        outcome = sock_calls.receive_into(self, sock, buf)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, _RetAddress]:
        """Receive a datagram of up to bufsize bytes; the bytes and the sender's address."""
        outcome = sock_calls.receive_from(self, sock, bufsize)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> tuple[int, _RetAddress]:
        """Receive a datagram of up to nbytes (0: len(buf)) into a writable buffer; its size and sender."""
        outcome = sock_calls.receive_from_into(self, sock, buf, nbytes)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        """Send all of a bytes-like object. After an error nobody knows how much of it was sent."""
        outcome = sock_calls.send_all(self, sock, data)
        if outcome is not None:
            await outcome

    async def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: _Address) -> int:
        """Send a datagram to an address; the number of bytes sent."""
        outcome = sock_calls.send_to(self, sock, data, address)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_connect(self, sock: socket.socket, address: _Address) -> None:
        """Connect to an address. Internet host names are resolved first."""
        sock_calls.check_socket(self, sock)
        if not sock_calls.is_resolved(sock, address) and sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        if sock_calls.begin_connect(self, sock, address):
            # As long as asyncio takes at least; and over the loopback interface it is done by then, without a poller.
            await next_turn()
            outcome = sock_calls.finish_connect(self, sock, address)
            if outcome is not None:
                await outcome

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, _RetAddress]:
        """Accept a connection; a new non-blocking socket, which is the caller's, and the peer's address."""
        outcome = sock_calls.accept(self, sock)
        return await outcome if isinstance(outcome, Operation) else outcome
