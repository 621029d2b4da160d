"""The loop's sock_* methods: coroutines over plain, non-blocking sockets.

Each tries first and waits only when the kernel says so. A wait ends by taking back its own registration alone: a
cancelled operation never removes the watcher of the one that came after it.

Also here: what transports and servers need of a socket object.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any, TypeVar

from zloop.mixin import MixinBase

try:
    from ssl import SSLSocket
except ImportError:  # an interpreter built without OpenSSL
    SSLSocket = None  # type: ignore[assignment,misc]

WOULD_BLOCK = (BlockingIOError, InterruptedError)

# Past socket.socket's properties, which make members of enumerations of them: that takes longer than the system calls.
_family_of = socket.SocketType.family.__get__
_type_of = socket.SocketType.type.__get__

T = TypeVar("T")


def refuse_ssl_socket(sock: object) -> None:
    """TypeError for an ssl.SSLSocket, whose own state machine a loop cannot follow."""
    if SSLSocket is not None and isinstance(sock, SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def set_nodelay(sock: socket.socket) -> None:
    """Switch Nagle's algorithm off for TCP: small writes leave at once. Does nothing for other sockets."""
    if _family_of(sock) in (socket.AF_INET, socket.AF_INET6) and _type_of(sock) == socket.SOCK_STREAM:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # another stream protocol, or a peer that is gone already: the first read or write will tell


def hold_socket(sock: socket.socket) -> None:
    """Keep the descriptor open while the engine uses it, even if somebody else closes the socket object.

    Otherwise its number could become another file's under the engine's hands. socket.makefile() uses the same count.
    """
    sock._io_refs += 1  # type: ignore[attr-defined]


def unhold_socket(sock: socket.socket) -> None:
    """End hold_socket(). If somebody has closed the socket object meanwhile, this is when the descriptor goes."""
    sock._decref_socketios()  # type: ignore[attr-defined]


def let_go_socket(sock: socket.socket) -> None:
    """End hold_socket() and close the socket: the descriptor goes now, unless a makefile() still uses it."""
    sock._io_refs -= 1  # type: ignore[attr-defined]
    sock.close()


def wrap_accepted(listener: socket.socket, fd: int) -> socket.socket:
    """The socket object for a connection that the listener has accepted, and that does not block.

    It owns the descriptor, which is closed if there is no object to be had.
    """
    try:
        connection = socket.socket(_family_of(listener), _type_of(listener), listener.proto, fileno=fd)
    except BaseException:
        os.close(fd)
        raise
    # The object has to know. SOCK_NONBLOCK in its type would spare the system call; but whoever replaces socket.socket,
    # as proxies do, may know plain types only.
    connection.setblocking(False)
    return connection


class SocketMixin(MixinBase):
    """sock_recv() and its kin."""

    def _check_socket(self, sock: socket.socket) -> None:
        refuse_ssl_socket(sock)
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")

    async def _until_done(
        self, sock: socket.socket, reading: bool, attempt: Callable[[Any], T], undo: Callable[[T], None] | None = None
    ) -> T:
        """Call attempt(sock) whenever the socket is ready, until it does not block; its result or exception.

        undo(result) is called for a result that comes in the very turn in which whoever waits for it is cancelled.
        """
        fd = sock.fileno()
        self._ensure_fd_no_transport(fd)
        future: asyncio.Future[T] = self.create_future()
        add, remove = (self._add_reader, self._remove_reader) if reading else (self._add_writer, self._remove_writer)
        handle = add(fd, _attempt, future, attempt, sock)
        try:
            return await future
        except asyncio.CancelledError:
            if undo is not None and not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise
        finally:
            if not handle.cancelled():  # else somebody else watches this number by now
                remove(fd)
            del future  # its exception's traceback holds this frame

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; b"" at the end of the stream."""
        self._check_socket(sock)
        try:
            return sock.recv(n)
        except WOULD_BLOCK:
            return await self._until_done(sock, True, methodcaller("recv", n))

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a writable buffer; the number of bytes received."""
        self._check_socket(sock)
        try:
            return sock.recv_into(buf)
        except WOULD_BLOCK:
            return await self._until_done(sock, True, methodcaller("recv_into", buf))

    async def sock_recvfrom(self, sock: socket.socket, bufsize: int) -> tuple[bytes, Any]:
        """Receive a datagram of up to bufsize bytes; the bytes and the sender's address."""
        self._check_socket(sock)
        try:
            return sock.recvfrom(bufsize)
        except WOULD_BLOCK:
            return await self._until_done(sock, True, methodcaller("recvfrom", bufsize))

    async def sock_recvfrom_into(self, sock: socket.socket, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        """Receive a datagram of up to nbytes (0: len(buf)) into a writable buffer; its size and sender."""
        self._check_socket(sock)
        nbytes = nbytes or len(buf)
        try:
            return sock.recvfrom_into(buf, nbytes)
        except WOULD_BLOCK:
            return await self._until_done(sock, True, methodcaller("recvfrom_into", buf, nbytes))

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of a bytes-like object. After an error nobody knows how much of it was sent."""
        self._check_socket(sock)
        try:
            sent = sock.send(data)
        except WOULD_BLOCK:
            sent = 0
        view = memoryview(data).cast("B")
        while sent < len(view):
            sent += await self._until_done(sock, False, methodcaller("send", view[sent:]))

    async def sock_sendto(self, sock: socket.socket, data: Any, address: Any) -> int:
        """Send a datagram to an address; the number of bytes sent."""
        self._check_socket(sock)
        try:
            return sock.sendto(data, address)
        except WOULD_BLOCK:
            return await self._until_done(sock, False, methodcaller("sendto", data, address))

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to an address. Internet host names are resolved first."""
        self._check_socket(sock)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            resolved = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = resolved[0][4]
        try:
            sock.connect(address)
        except WOULD_BLOCK:  # connect(2): it goes on, also after EINTR, and the socket becomes writable when it is over
            await self._until_done(sock, False, partial(_finish_connect, address=address))

    async def sock_accept(self, sock: socket.socket) -> tuple[socket.socket, Any]:
        """Accept a connection; a new non-blocking socket, which is the caller's, and the peer's address."""
        self._check_socket(sock)
        sock.fileno()  # what is no socket is missed for this first, as with asyncio
        try:
            return _accept(sock)
        except WOULD_BLOCK:
            return await self._until_done(sock, True, _accept, undo=_close_accepted)


def _attempt(future: asyncio.Future[Any], attempt: Callable[[Any], Any], sock: socket.socket) -> None:
    if future.done():  # cancelled in this turn, and the waiter has not removed the registration yet
        return
    try:
        result = attempt(sock)
    except WOULD_BLOCK:
        return
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        future.set_exception(exc)
        del future  # the exception's traceback holds this frame
    else:
        future.set_result(result)


def _finish_connect(sock: socket.socket, address: Any) -> None:
    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if error != 0:
        raise OSError(error, f"Connect call failed {address}")


def _accept(sock: socket.socket) -> tuple[socket.socket, Any]:
    conn, address = sock.accept()
    conn.setblocking(False)
    return conn, address


def _close_accepted(accepted: tuple[socket.socket, Any]) -> None:
    accepted[0].close()
