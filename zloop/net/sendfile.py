"""sendfile() and sock_sendfile(): sendfile(2) where file and connection allow it, reading and writing otherwise."""

from __future__ import annotations

import errno
import io
import os
import socket
import sys
from asyncio import Future, Protocol, constants
from asyncio.exceptions import SendfileNotAvailableError
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from zloop.core.blocking import call_as_sock_sendfile
from zloop.core.interface import MixinBase
from zloop.core.socket_objects import WOULD_BLOCK
from zloop.core.waiters import set_exception_unless_cancelled, set_result_unless_cancelled
from zloop.net.sock_calls import check_socket, until_writable
from zloop.transports.selector_transports import LoopMethods, SelectorTransport

if TYPE_CHECKING:
    from asyncio import WriteTransport
    from typing import IO

# sendfile(2): one call moves at most this many bytes.
SENDFILE_MAX = 0x7FFF_F000


class SendfileMixin(MixinBase):
    """Files to sockets and transports."""

    async def sendfile(
        self,
        transport: WriteTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send a file over a transport; return the number of bytes sent.

        file: a file opened in binary mode. Afterwards, also after an error, its position is behind the last byte sent.
        offset: the position of the first byte, in bytes.
        count: how many bytes to send; None sends to the file's end.
        fallback: read and write the file where sendfile(2) cannot be used: over TLS, or for a file that it refuses.

        Queued writes are sent first; while sendfile(2) is used, write() raises RuntimeError. Raises RuntimeError for a
        transport that is closing or takes no files, and with fallback=False for TLS; asyncio.SendfileNotAvailableError
        with fallback=False for a file that sendfile(2) refuses; ConnectionError if the connection is lost.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        mode = getattr(transport, "_sendfile_compatible", constants._SendfileMode.UNSUPPORTED)
        if mode is constants._SendfileMode.UNSUPPORTED:
            raise RuntimeError(f"sendfile is not supported for transport {transport!r}")
        if mode is constants._SendfileMode.TRY_NATIVE:
            try:
                return await self._sendfile_native(transport, file, offset, count)
            except SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(f"fallback is disabled and native sendfile is not supported for transport {transport!r}")
        return await self._sendfile_fallback(transport, file, offset, count)

    async def _sendfile_native(self, transport: Any, file: Any, offset: int, count: int | None) -> int:
        if isinstance(transport, SelectorTransport):
            sent: int = await LoopMethods._sendfile_native(self, transport, file, offset, count)
            return sent
        reading = transport.is_reading()
        transport.pause_reading()
        try:
            drained = transport._make_empty_waiter()
            try:
                await drained
                check_sendfile_arguments(transport._sock, file, offset, count)
                # The transport owns the descriptor and watches it.
                return await send_natively(transport._sock, file, offset, count, transport._make_drain_waiter)
            finally:
                transport._reset_empty_waiter()
        finally:
            if reading:
                transport.resume_reading()

    async def _sendfile_fallback(self, transport: Any, file: Any, offset: int, count: int | None) -> int:
        gate = _WriteGate(self, transport)

        async def send(data: memoryview) -> None:
            transport.write(data)
            await gate.drain()

        try:
            return await self._send_by_reading(file, offset, count, send)
        finally:
            gate.restore()

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send a file over a non-blocking stream socket; return the number of bytes sent.

        file, offset, count: as for sendfile(). With fallback=False, a file that sendfile(2) refuses raises
        asyncio.SendfileNotAvailableError. Raises OSError if the connection is lost.
        """
        check_socket(self, sock)
        check_sendfile_arguments(sock, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._send_by_reading(file, offset, count, partial(self.sock_sendall, sock))

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
        return await send_natively(sock, file, offset, count, partial(until_writable, self, sock))

    async def _send_by_reading(
        self, file: Any, offset: int, count: int | None, send: Callable[[memoryview], Awaitable[None]]
    ) -> int:
        if hasattr(file, "seek"):
            file.seek(offset)
        block = constants.SENDFILE_FALLBACK_READBUFFER_SIZE
        view = memoryview(bytearray(min(count, block) if count else block))
        sent = 0
        try:
            while count is None or sent < count:
                wanted = len(view) if count is None else min(len(view), count - sent)
                size = await self.run_in_executor(None, file.readinto, view[:wanted])
                if not size:
                    break
                await send(view[:size])
                sent += size
            return sent
        finally:
            if sent > 0 and hasattr(file, "seek"):
                file.seek(offset + sent)


async def send_natively(
    sock: socket.socket, file: Any, offset: int, count: int | None, until_room: Callable[[], Awaitable[None]]
) -> int:
    """Send with sendfile(2), awaiting until_room() while the socket is not writable; the number of bytes sent."""
    try:
        fd = file.fileno()
        size = os.fstat(fd).st_size
    except (AttributeError, io.UnsupportedOperation, OSError):
        raise SendfileNotAvailableError("not a regular file") from None
    if not (count or size):
        return 0
    sent = 0
    try:
        while count is None or sent < count:
            wanted = min(SENDFILE_MAX, size if count is None else count - sent)
            try:
                taken = call_as_sock_sendfile(os.sendfile, sock.fileno(), fd, offset + sent, wanted)
            except WOULD_BLOCK:
                await until_room()
                continue
            except OSError as exc:
                raise sendfile_error(exc, sent) from exc
            if taken == 0:
                break
            sent += taken
            await until_room()  # the socket's buffer is likely to be full; and a fast reader must not block the loop
        return sent
    finally:
        if sent > 0 or sys.version_info >= (3, 14):  # before 3.14 the position is kept if nothing was sent
            os.lseek(fd, offset + sent, os.SEEK_SET)


def sendfile_error(exc: OSError, sent: int) -> Exception:
    """The exception for a failed sendfile(2). If nothing was sent, the file may be the cause: reading may work."""
    if sent == 0:
        return SendfileNotAvailableError("os.sendfile call failed")
    if exc.errno == errno.ENOTCONN:
        return ConnectionError("socket is not connected", errno.ENOTCONN)
    return exc


class _WriteGate(Protocol):
    """A transport's protocol while a file is written to it: waits for its write buffer and reads nothing."""

    def __init__(self, loop: Any, transport: Any) -> None:
        if not hasattr(transport, "_protocol_paused"):
            raise TypeError("transport should be _FlowControlMixin instance")
        self.loop = loop
        self.transport = transport
        self.protocol = transport.get_protocol()
        self.was_reading = transport.is_reading()
        self.was_paused = transport._protocol_paused
        self.room: Future[None] | None = loop.create_future() if self.was_paused else None  # None: writable
        transport.pause_reading()
        transport.set_protocol(self)

    async def drain(self) -> None:
        """Wait until the transport resumes writing. ConnectionError if the connection is lost."""
        if self.transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self.room is not None:
            await self.room

    def restore(self) -> None:
        """Restore the transport's own protocol."""
        self.transport.set_protocol(self.protocol)
        if self.was_reading:
            self.transport.resume_reading()
        if self.room is not None:
            self.room.cancel()
        if self.was_paused:
            self.protocol.resume_writing()

    def pause_writing(self) -> None:
        if self.room is None:
            self.room = self.loop.create_future()

    def resume_writing(self) -> None:
        room, self.room = self.room, None
        if room is not None:
            set_result_unless_cancelled(room, None)

    def connection_made(self, transport: object) -> None:
        raise RuntimeError("Invalid state: connection should have been established already.")

    def connection_lost(self, exc: Exception | None) -> None:
        if self.room is not None:
            # An orderly end is an error, too: the file has not been sent whole.
            set_exception_unless_cancelled(self.room, exc or ConnectionError("Connection is closed by peer"))
        self.protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> None:
        raise RuntimeError("Invalid state: reading should be paused")


def check_sendfile_arguments(sock: socket.socket, file: Any, offset: Any, count: Any) -> None:
    """ValueError or TypeError, with asyncio's messages."""
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        if not isinstance(count, int):
            raise TypeError(f"count must be a positive integer (got {count!r})")
        if count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
    if not isinstance(offset, int):
        raise TypeError(f"offset must be a non-negative integer (got {offset!r})")
    if offset < 0:
        raise ValueError(f"offset must be a non-negative integer (got {offset!r})")
