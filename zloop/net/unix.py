"""Unix stream sockets, in the file system or with abstract names: create_unix_connection(), create_unix_server()."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import sys
from asyncio.log import logger
from typing import TYPE_CHECKING

from zloop.core.blocking import call_as_create_unix_server, call_as_stop_serving
from zloop.core.interface import MixinBase
from zloop.core.socket_objects import refuse_ssl_socket
from zloop.net.connect import check_tls_arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from zloop.core.interface import ProtocolFactory, ProtocolT, TlsContext

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class UnixMixin(MixinBase):
    """Connections and servers on Unix stream sockets."""

    def __init__(self) -> None:
        super().__init__()
        self._unix_server_inodes: dict[socket.socket, int] = {}  # of the files to remove when their server stops

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        path: Path | None = None,
        *,
        ssl: TlsContext = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Connect to a Unix stream socket's path, or take over a connected one; return (transport, protocol).

        protocol_factory() makes the protocol.
        path: str, bytes or os.PathLike; one that begins with a null byte is an abstract name (unix(7), Linux).
        ssl: an ssl.SSLContext, or True for ssl.create_default_context()'s; server_hostname is required with it.
        sock: a connected Unix stream socket, in place of the path; the transport owns it from here on.
        server_hostname: the name that the certificate must have; "" switches the check off.
        ssl_handshake_timeout, ssl_shutdown_timeout: seconds, by default 60 and 30.

        Raises ValueError for arguments that contradict one another, OSError if the connection fails, ssl.SSLError if
        the handshake fails.
        """
        assert server_hostname is None or isinstance(server_hostname, str)
        if ssl and server_hostname is None:
            raise ValueError("you have to pass server_hostname when using ssl")
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        check_tls_arguments(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)

        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = await self._connect_unix(os.fspath(path))
        elif sock is None:
            raise ValueError("no path and sock were specified")
        else:
            check_unix_socket(sock)
        return await self._create_connection_transport(
            sock,
            protocol_factory,
            ssl,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )

    async def _connect_unix(self, path: str | bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self.sock_connect(sock, path)
        except BaseException:
            sock.close()
            raise
        return sock

    async def create_unix_server(
        self,
        protocol_factory: ProtocolFactory,
        path: Path | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: TlsContext = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = sys.version_info >= (3, 13),
    ) -> asyncio.Server:
        """Listen on a Unix stream socket's path, or on a bound one; return an asyncio.Server.

        protocol_factory() makes the protocol of each accepted connection.
        path: str, bytes or os.PathLike; one that begins with a null byte is an abstract name (unix(7), Linux). A socket
            file that exists at the path is removed first.
        sock: a bound Unix stream socket, in place of the path; the Server owns it from here on.
        backlog: how many connections the kernel queues for accept(2), as for listen(2).
        ssl: an ssl.SSLContext, with which each connection begins with a TLS handshake.
        ssl_handshake_timeout, ssl_shutdown_timeout: seconds for each connection, by default 60 and 30.
        start_serving: accept connections at once; else Server.start_serving() or serve_forever() begins.
        cleanup_socket: remove the socket file when the server closes, unless it has been replaced by another file; the
            keyword and its default of True are CPython 3.13's, before it the default is False.

        Raises ValueError for arguments that contradict one another, TypeError for an `ssl` that is a bool, OSError if
        the path cannot be bound.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_arguments(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)

        if path is not None:
            if sock is not None:
                raise ValueError("path and sock can not be specified at the same time")
            sock = bind_unix(os.fspath(path))
        elif sock is None:
            raise ValueError("path was not specified, and no sock specified")
        else:
            check_unix_socket(sock)

        if cleanup_socket:
            self._note_inode(sock)
        return await self._make_server(
            [sock], protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout, start_serving
        )

    def _note_inode(self, sock: socket.socket) -> None:
        path = sock.getsockname()
        if not is_abstract(path):
            try:
                self._unix_server_inodes[sock] = call_as_create_unix_server(os.stat, path).st_ino
            except FileNotFoundError:
                pass  # removed already

    def _stop_serving(self, sock: socket.socket) -> None:
        """Close a listening socket, and remove its file if that is still the one that bind() made."""
        inode = self._unix_server_inodes.pop(sock, None)
        path = None if inode is None else sock.getsockname()
        super()._stop_serving(sock)
        if path is None:
            return
        try:
            if call_as_stop_serving(os.stat, path).st_ino == inode:
                call_as_stop_serving(os.unlink, path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.error("Unable to clean up listening UNIX socket %r: %r", path, exc)


def is_abstract(path: str | bytes) -> bool:
    """True for an abstract name (unix(7))."""
    return path[0] in (0, "\0")


def check_unix_socket(sock: socket.socket) -> None:
    """ValueError unless it is a Unix stream socket; TypeError for an ssl.SSLSocket."""
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A UNIX Domain Stream Socket was expected, got {sock!r}")
    refuse_ssl_socket(sock)


def bind_unix(path: str | bytes) -> socket.socket:
    """A stream socket bound to the path, after a stale socket file there is removed; OSError names a path in use."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not is_abstract(path):
            remove_stale_socket(path, lambda name: call_as_create_unix_server(os.stat, name))
        sock.bind(path)
    except BaseException as exc:
        sock.close()
        if isinstance(exc, OSError) and exc.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use") from None
        raise
    return sock


def remove_stale_socket(path: str | bytes, status: Callable[[str | bytes], os.stat_result] = os.stat) -> None:
    """Remove the file at the path if it is a socket, since bind(2) refuses an existing file; status() is os.stat()."""
    try:
        if stat.S_ISSOCK(status(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # The directory's permissions may allow bind() all the same.
        logger.error("Unable to check or remove stale UNIX socket %r: %r", path, exc)
