"""The loop's sock_* methods: coroutines over plain, non-blocking sockets.

Each makes its system call at once and waits only if that would block; see zloop/net/sock_calls.pyx.
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
        """Receive up to `n` bytes; return them, or b"" at the end of the stream.

        As each sock_* method: raises OSError if the system call fails, RuntimeError if a transport uses the descriptor,
        TypeError for an ssl.SSLSocket, and in debug mode ValueError for a blocking socket.
        """
        outcome = sock_calls.receive(self, sock, n)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_recv_into(self, sock: socket.socket, buf: WriteableBuffer) -> int:
        """Receive into a writable buffer; return the number of bytes. Raises as sock_recv() does."""
        outcome = sock_calls.receive_into(self, sock, buf)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, _RetAddress]:
        """Receive a datagram; return its first `bufsize` bytes and the sender's address. Raises as sock_recv()."""
        outcome = sock_calls.receive_from(self, sock, bufsize)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_recvfrom_into(
        self, sock: socket.socket, buf: WriteableBuffer, nbytes: int = 0
    ) -> tuple[int, _RetAddress]:
        """Receive a datagram's first `nbytes` bytes into a writable buffer, or len(buf) bytes with nbytes=0.

        Returns the number of bytes received and the sender's address. Raises as sock_recv() does, and ValueError if
        `nbytes` exceeds len(buf).
        """
        outcome = sock_calls.receive_from_into(self, sock, buf, nbytes)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_sendall(self, sock: socket.socket, data: ReadableBuffer) -> None:
        """Send all of a bytes-like object. Raises as sock_recv() does; how much has been sent then is not known."""
        outcome = sock_calls.send_all(self, sock, data)
        if outcome is not None:
            await outcome

    async def sock_sendto(self, sock: socket.socket, data: ReadableBuffer, address: _Address) -> int:
        """Send a datagram to an address; return the number of bytes sent. Raises as sock_recv() does."""
        outcome = sock_calls.send_to(self, sock, data, address)
        return await outcome if isinstance(outcome, Operation) else outcome

    async def sock_connect(self, sock: socket.socket, address: _Address) -> None:
        """Connect a socket to an address, after resolving an internet host name. Raises as sock_recv() does."""
        sock_calls.check_socket(self, sock)
        if not sock_calls.is_resolved(sock, address) and sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        if sock_calls.begin_connect(self, sock, address):
            # One turn at least, as in asyncio; a connection over the loopback interface is complete by then.
            await next_turn()
            outcome = sock_calls.finish_connect(self, sock, address)
            if outcome is not None:
                await outcome

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, _RetAddress]:
        """Accept a connection; return a new non-blocking socket, owned by the caller, and the peer's address.

        The socket must be bound and listening. Raises as sock_recv() does.
        """
        outcome = sock_calls.accept(self, sock)
        return await outcome if isinstance(outcome, Operation) else outcome
