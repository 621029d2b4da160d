"""sock_sendfile(): sendfile(2) where the file allows it, reading and sending otherwise."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
import sys
from asyncio import constants
from asyncio.exceptions import SendfileNotAvailableError
from typing import Any

from zloop.mixin import MixinBase
from zloop.sockets import WOULD_BLOCK

# sendfile(2): one call moves at most this many bytes.
SENDFILE_MAX = 0x7FFF_F000


class SendfileMixin(MixinBase):
    """Files to sockets."""

    async def sock_sendfile(
        self, sock: socket.socket, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> int:
        """Send a binary file from `offset`, `count` bytes or to its end; the number of bytes sent.

        The file's position is behind the last byte sent afterwards, also after an error. With fallback=False a file
        that sendfile(2) refuses raises asyncio.SendfileNotAvailableError.
        """
        self._check_socket(sock)
        check_sendfile_arguments(sock, file, offset, count)
        try:
            return await self._sock_sendfile_native(sock, file, offset, count)
        except SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sock_sendfile_fallback(sock, file, offset, count)

    async def _sock_sendfile_native(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
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
                wanted = min(SENDFILE_MAX, (count or size) - sent if count else size)
                try:
                    taken = os.sendfile(sock.fileno(), fd, offset + sent, wanted)
                except WOULD_BLOCK:
                    await self._until_done(sock, False, lambda sock: None)  # writable again
                    continue
                except OSError as exc:
                    raise self._sendfile_error(exc, sent) from exc
                if taken == 0:
                    break
                sent += taken
                await asyncio.sleep(0)  # a fast reader must not keep the loop here
            return sent
        finally:
            if sent > 0 or sys.version_info >= (3, 14):  # before it, nothing sent left the position alone
                os.lseek(fd, offset + sent, os.SEEK_SET)

    @staticmethod
    def _sendfile_error(exc: OSError, sent: int) -> Exception:
        """Nothing sent: the file is to blame, and reading it may work. Else the connection is."""
        if sent == 0:
            return SendfileNotAvailableError("os.sendfile call failed")
        if exc.errno == errno.ENOTCONN:
            return ConnectionError("socket is not connected", errno.ENOTCONN)
        return exc

    async def _sock_sendfile_fallback(self, sock: socket.socket, file: Any, offset: int, count: int | None) -> int:
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
                await self.sock_sendall(sock, view[:size])
                sent += size
            return sent
        finally:
            if sent > 0 and hasattr(file, "seek"):
                file.seek(offset + sent)


def check_sendfile_arguments(sock: socket.socket, file: Any, offset: Any, count: Any) -> None:
    """ValueError or TypeError, in asyncio's words."""
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
