"""Listening: create_server(), and the loop's methods that asyncio.Server calls.

The Server class is the running Python's own, because its behaviour differs with every version.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import itertools
import socket
import sys
from asyncio.log import logger
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zloop.core.diagnostics import bind_error
from zloop.core.interface import MixinBase
from zloop.core.socket_objects import accepting_socket, refuse_ssl_socket
from zloop.net.connect import check_tls_arguments
from zloop.net.dns import AddressInfo
from zloop.tls.start_tls import accept_tls
from zloop.transports.acceptor import Acceptor, Clients
from zloop.transports.selector_transports import LoopMethods, takes_context
from zloop.transports.state import acceptor_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zloop.core.interface import ProtocolFactory, TlsContext


class ServerMixin(MixinBase):
    """Servers for stream sockets."""

    async def create_server(
        self,
        protocol_factory: ProtocolFactory,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: TlsContext = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> asyncio.Server:
        """Listen on host:port, or on a bound socket; return an asyncio.Server.

        protocol_factory() makes the protocol of each accepted connection.
        host: a name or address, or an iterable of them; None or "" listens on every interface.
        port: an int or service name; with 0 or None the system chooses one, for each address by itself.
        family, flags: restrict or modify the name resolution, as for getaddrinfo().
        sock: a bound stream socket, in place of host and port; the Server owns it from here on.
        backlog: how many connections the kernel queues for accept(2), as for listen(2).
        ssl: an ssl.SSLContext, with which each connection begins with a TLS handshake.
        reuse_address: set SO_REUSEADDR (socket(7)); None, the default, sets it, too.
        reuse_port: set SO_REUSEPORT (socket(7)), so that several sockets may bind the port; internet sockets only.
        keep_alive: set SO_KEEPALIVE (socket(7)); a keyword since CPython 3.13, accepted on every version.
        ssl_handshake_timeout, ssl_shutdown_timeout: seconds for each connection, by default 60 and 30.
        start_serving: accept connections at once; else Server.start_serving() or serve_forever() begins.

        Raises ValueError for arguments that contradict one another, and if reuse_port is not supported; TypeError for
        an `ssl` that is a bool; socket.gaierror if a name cannot be resolved; OSError if an address cannot be bound.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_tls_arguments(None if ssl is None else True, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            refuse_ssl_socket(sock)

        if host is not None or port is not None:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos = await self._resolve_hosts(host, port, family, flags)
            sockets = self._bind_all(
                infos, reuse_address is None or bool(reuse_address), bool(reuse_port), bool(keep_alive)
            )
        elif sock is None:
            raise ValueError("Neither host/port nor sock were specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        else:
            sockets = [sock]
        server = await self._make_server(
            sockets, protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout, start_serving
        )
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _make_server(
        self,
        sockets: list[socket.socket],
        protocol_factory: Any,
        ssl: Any,
        backlog: int,
        ssl_handshake_timeout: float | None,
        ssl_shutdown_timeout: float | None,
        start_serving: bool,
    ) -> asyncio.Server:
        """A Server that owns the sockets. They are closed if it cannot start, or if this call is cancelled."""
        for sock in sockets:
            sock.setblocking(False)
        server = asyncio.Server(
            self, sockets, protocol_factory, ssl, backlog, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if hasattr(server, "_clients"):
            server._clients = Clients()
        if start_serving:
            try:
                server._start_serving()  # type: ignore[attr-defined]
                await asyncio.sleep(0)  # one turn, as in asyncio
            except BaseException:
                # A socket passed as `sock` may belong to another server, too, which goes on.
                own = [sock for sock in sockets if not self._is_served(sock, by_others_than=server)]
                server._sockets = own  # type: ignore[attr-defined]
                server.close()
                raise
        return server

    def _is_served(self, sock: socket.socket, by_others_than: asyncio.Server) -> bool:
        acceptor = acceptor_of(self, sock)
        return acceptor is not None and acceptor.server is not by_others_than

    async def _resolve_hosts(self, host: Any, port: Any, family: int, flags: int) -> list[AddressInfo]:
        """The addresses of all hosts, each of them once."""
        if host == "":
            hosts: list[Any] = [None]
        elif isinstance(host, str) or not isinstance(host, Iterable):
            hosts = [host]
        else:
            hosts = list(host)
        found = await asyncio.gather(*[self._resolve_host(name, port, family, flags) for name in hosts])
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    async def _resolve_host(self, host: Any, port: Any, family: int, flags: int) -> list[AddressInfo]:
        infos = await self._ensure_resolved(
            (host, port), family=family, type=socket.SOCK_STREAM, flags=flags, loop=self
        )
        if not infos:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        return infos

    def _bind_all(
        self, infos: list[AddressInfo], reuse_address: bool, reuse_port: bool, keep_alive: bool
    ) -> list[socket.socket]:
        """A bound socket for each address of this machine. On OSError all of them are closed."""
        sockets: list[socket.socket] = []
        try:
            for family, kind, proto, _, address in infos:
                try:
                    sock = socket.socket(family, kind, proto)
                except OSError:
                    if self.get_debug():
                        logger.warning(
                            "create_server() failed to create socket.socket(%r, %r, %r)",
                            family,
                            kind,
                            proto,
                            exc_info=True,
                        )
                    continue
                sockets.append(sock)
                set_listening_options(sock, reuse_address, reuse_port, keep_alive)
                try:
                    sock.bind(address)
                except OSError as exc:
                    error = bind_error(exc, address)
                    # Since CPython 3.13 the address is skipped: its family may be switched off.
                    if exc.errno != errno.EADDRNOTAVAIL or sys.version_info < (3, 13):
                        raise error from None
                    sockets.pop().close()
                    if self.get_debug():
                        logger.warning(error.strerror)
            if not sockets and sys.version_info >= (3, 13):  # before 3.13 the server listens to nothing
                raise OSError(f"could not bind on any address out of {[info[4] for info in infos]!r}")
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return sockets

    def _start_serving(
        self,
        protocol_factory: Any,
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        """Accept connections on a listening socket. asyncio.Server calls it for each of its sockets."""
        self._check_closed()
        held = accepting_socket(sock)
        if held is None:
            options = {"context": context} if takes_context else {}
            LoopMethods._start_serving(
                self,
                protocol_factory,
                sock,
                sslcontext,
                server,
                backlog,
                ssl_handshake_timeout,
                ssl_shutdown_timeout,
                **options,
            )
            return
        tls = None
        if sslcontext:
            tls = functools.partial(
                accept_tls, self, protocol_factory, sslcontext, server, ssl_handshake_timeout, ssl_shutdown_timeout
            )
        Acceptor(self, sock, held, protocol_factory, server, backlog, context or contextvars.copy_context(), tls)

    def _stop_serving(self, sock: socket.socket) -> None:
        """Close a listening socket. asyncio.Server calls it for each of its sockets."""
        acceptor = acceptor_of(self, sock)
        if acceptor is not None:
            acceptor.close()
        else:  # not started, or accept() is overridden, or the loop is closed
            if not self.is_closed() and sock.fileno() >= 0:
                self._remove_reader(sock.fileno())
            sock.close()

    # asyncio's functions, which call an overridden accept().
    _accept_connection = LoopMethods._accept_connection
    _accept_connection2 = LoopMethods._accept_connection2


def set_listening_options(sock: socket.socket, reuse_address: bool, reuse_port: bool, keep_alive: bool) -> None:
    """Set a listening socket's options; ValueError if reuse_port is not supported."""
    if reuse_address:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Linux 6.12.9 refuses SO_REUSEPORT for other families.
    if reuse_port and sock.family in (socket.AF_INET, socket.AF_INET6):
        set_reuse_port(sock)
    if keep_alive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sock.family == socket.AF_INET6:
        # Else Linux accepts IPv4 connections, too, and the IPv4 socket of the same port cannot bind.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def set_reuse_port(sock: socket.socket) -> None:
    """Set SO_REUSEPORT, so that several sockets may bind one port; ValueError if it is not supported."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined but not implemented."
        ) from None
