"""Client connections: create_connection() and connect_accepted_socket()."""

from __future__ import annotations

import contextvars
import functools
import itertools
import socket
import sys
from asyncio import staggered
from asyncio.log import logger
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zloop.core.diagnostics import bind_error
from zloop.core.interface import MixinBase
from zloop.core.socket_objects import refuse_ssl_socket
from zloop.core.waiters import next_turn
from zloop.net import sock_calls
from zloop.net.dns import AddressInfo
from zloop.net.sock_methods import SocketMixin
from zloop.tls.start_tls import make_ssl_transport
from zloop.transports.connection import make_descriptor_transport, make_socket_transport
from zloop.transports.direct_connect import ConnectingDescriptor, can_connect_directly, connect_directly

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zloop.core.interface import ProtocolT, TlsContext

sock_connect = SocketMixin.sock_connect


class ConnectMixin(MixinBase):
    """Client connections, and connections that were accepted elsewhere."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], ProtocolT],
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: TlsContext = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Connect to host:port, or take over a connected stream socket; return (transport, protocol).

        protocol_factory() makes the protocol, once the connection is established.
        host, port: as for getaddrinfo(); the addresses that it returns are tried in order until one connects.
        ssl: an ssl.SSLContext, or True for ssl.create_default_context()'s.
        family, proto, flags: restrict or modify the name resolution, as for getaddrinfo().
        sock: a connected stream socket, in place of host and port; the transport owns it from here on.
        local_addr: (host, port) to which the socket is bound before it connects.
        server_hostname: the name that the certificate must have, by default `host`; "" switches the check off.
        ssl_handshake_timeout, ssl_shutdown_timeout: seconds, by default 60 and 30.
        happy_eyeballs_delay: seconds after which the next address is tried beside the pending attempt (RFC 8305).
        interleave: how many addresses of the first family come before families alternate; 1 by default with
            happy_eyeballs_delay, else the order is not changed.
        all_errors: raise an ExceptionGroup of all attempts' errors (since CPython 3.12).

        Raises ValueError for arguments that contradict one another, socket.gaierror if the name cannot be resolved,
        OSError if no address can be connected to, ssl.SSLError if the handshake fails.
        """
        server_hostname = certificate_name(ssl, server_hostname, host)
        check_tls_arguments(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        if sock is not None:
            refuse_ssl_socket(sock)
        connected: socket.socket | ConnectingDescriptor
        made_here = host is not None or port is not None
        if made_here:
            if sock is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            infos = await self._resolve_end((host, port), family, proto, flags)
            local_infos = None if local_addr is None else await self._resolve_end(local_addr, family, proto, flags)
            infos = interleave_families(infos, interleave, happy_eyeballs_delay)
            connected = await self._connect_first(infos, local_infos, happy_eyeballs_delay, all_errors)
        elif sock is None:
            raise ValueError("host and port was not specified and no sock specified")
        elif sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        else:
            connected = sock
        transport, protocol = await self._create_connection_transport(
            connected,
            protocol_factory,
            ssl,
            server_hostname,
            made_here=made_here,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            logger.debug(
                "%r connected to %s:%r: (%r, %r)", transport.get_extra_info("socket"), host, port, transport, protocol
            )
        return transport, protocol

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], ProtocolT],
        sock: socket.socket,
        *,
        ssl: TlsContext = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, ProtocolT]:
        """Take over a stream socket that was accepted elsewhere; return (transport, protocol).

        protocol_factory() makes the protocol. The transport owns `sock` from here on.
        ssl: an ssl.SSLContext, for the server side of TLS.
        ssl_handshake_timeout, ssl_shutdown_timeout: seconds, by default 60 and 30; ValueError without `ssl`.

        Raises ValueError if `sock` is no stream socket, TypeError for an ssl.SSLSocket, ssl.SSLError if the handshake
        fails.
        """
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        check_tls_arguments(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        refuse_ssl_socket(sock)
        transport, protocol = await self._create_connection_transport(
            sock,
            protocol_factory,
            ssl,
            "",
            server_side=True,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
        )
        if self.get_debug():
            logger.debug("%r handled: (%r, %r)", transport.get_extra_info("socket"), transport, protocol)
        return transport, protocol

    # asyncio's names and signatures: its own functions and other libraries call these.

    def _make_socket_transport(
        self,
        sock: Any,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> Any:
        return make_socket_transport(self, sock, protocol, waiter, extra=extra, server=server, context=context)

    def _make_ssl_transport(
        self, rawsock: Any, protocol: Any, sslcontext: Any, waiter: Any = None, **options: Any
    ) -> Any:
        return make_ssl_transport(self, rawsock, protocol, sslcontext, waiter, **options)

    async def _create_connection_transport(
        self,
        sock: Any,
        protocol_factory: Any,
        ssl: Any,
        server_hostname: str | None,
        *,
        made_here: bool = False,
        server_side: bool = False,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Any, Any]:
        """Make protocol and transport, and wait for connection_made(). On failure the socket is closed.

        A socket that was made_here is non-blocking and has no other user; it may be a ConnectingDescriptor.
        """
        try:
            if not made_here:
                sock.setblocking(False)
            context = contextvars.copy_context()
            protocol = protocol_factory()
            waiter = self.create_future()
            transport: Any = None
            if made_here and not ssl:
                transport = make_descriptor_transport(self, sock, protocol, waiter, context)
            if transport is None and isinstance(sock, ConnectingDescriptor):
                sock = sock.as_socket()
            if ssl:
                transport = make_ssl_transport(
                    self,
                    sock,
                    protocol,
                    None if isinstance(ssl, bool) else ssl,
                    waiter,
                    server_side=server_side,
                    server_hostname=server_hostname,
                    context=context,
                    ssl_handshake_timeout=ssl_handshake_timeout,
                    ssl_shutdown_timeout=ssl_shutdown_timeout,
                )
            elif transport is None:
                transport = make_socket_transport(self, sock, protocol, waiter, context=context)
        except BaseException:
            sock.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        finally:
            del waiter  # its exception's traceback holds this frame
        return transport, protocol

    async def _resolve_end(self, address: Any, family: int, proto: int, flags: int) -> list[AddressInfo]:
        infos = await self._ensure_resolved(
            address, family=family, type=socket.SOCK_STREAM, proto=proto, flags=flags, loop=self
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        return infos

    async def _connect_first(
        self,
        infos: list[AddressInfo],
        local_infos: list[AddressInfo] | None,
        happy_eyeballs_delay: float | None,
        all_errors: bool,
    ) -> socket.socket | ConnectingDescriptor:
        """A socket connected to the first address that answers."""
        errors: list[list[OSError]] = []
        sock: socket.socket | ConnectingDescriptor | None = None
        try:
            if happy_eyeballs_delay is None:
                for info in infos:
                    try:
                        sock = await self._connect_sock(errors, info, local_infos)
                        break
                    except OSError:
                        continue
            else:
                sock = await self._race_to_connect(errors, infos, local_infos, happy_eyeballs_delay)
            if sock is None:
                raise connect_error([error for attempt in errors for error in attempt], all_errors)
            return sock
        finally:
            # An exception's traceback holds this frame, which holds the exceptions. So does the function that made the
            # attempts of a race, for as long as it lives: without a GIL, until the next collection.
            errors.clear()
            del errors

    async def _race_to_connect(
        self, errors: list[list[OSError]], infos: list[AddressInfo], local_infos: list[AddressInfo] | None, delay: float
    ) -> socket.socket | ConnectingDescriptor | None:
        """The first socket that connects, each attempt beginning `delay` seconds after the one before; None: none."""
        connected: list[socket.socket | ConnectingDescriptor] = []
        winner: socket.socket | ConnectingDescriptor | None = None

        async def attempt(info: AddressInfo) -> socket.socket | ConnectingDescriptor:
            connected.append(await self._connect_sock(errors, info, local_infos))
            return connected[-1]

        try:
            attempts = (functools.partial(attempt, info) for info in infos)
            winner = (await staggered.staggered_race(attempts, delay, loop=self))[0]
            return winner
        finally:
            # Two attempts may connect in the same turn, and a race that is cancelled in that turn has no winner.
            for sock in connected:
                if sock is not winner:
                    sock.close()

    async def _connect_sock(
        self, errors: list[list[OSError]], info: AddressInfo, local_infos: list[AddressInfo] | None = None
    ) -> socket.socket | ConnectingDescriptor:
        """A socket for one address, bound and connected. The attempt's errors are appended to `errors` as a list."""
        own_errors: list[OSError] = []
        errors.append(own_errors)
        family, kind, proto, _, address = info
        sock: socket.socket | ConnectingDescriptor | None = None
        try:
            # bind() and a replaced sock_connect() need a socket object.
            needs_object = local_infos is not None or getattr(self.sock_connect, "__func__", None) is not sock_connect
            if not needs_object and can_connect_directly(self, family, kind, proto, address):
                sock = connect_directly(self, family, address)
                if sock.pending:
                    await next_turn()  # as sock_connect() does
                    if not sock.is_connected():
                        sock = sock.as_socket()
                        outcome = sock_calls.finish_connect(self, sock, address)
                        if outcome is not None:
                            await outcome
            else:
                sock = socket.socket(family=family, type=kind, proto=proto)
                sock.setblocking(False)
                if local_infos is not None:
                    bind_to_any(sock, family, local_infos, own_errors)
                await self.sock_connect(sock, address)
            return sock
        except BaseException as exc:
            if isinstance(exc, OSError):
                own_errors.append(exc)
            if sock is not None:
                try:
                    sock.close()
                except OSError:
                    pass  # the first exception is the one to report
            raise
        finally:
            del errors, own_errors


def certificate_name(ssl: TlsContext, server_hostname: str | None, host: str | None) -> str | None:
    """The name that the server's certificate must have. ValueError where ssl needs one, or there is no ssl."""
    if server_hostname is not None and not ssl:
        raise ValueError("server_hostname is only meaningful with ssl")
    if server_hostname is None and ssl:
        if not host:
            raise ValueError("You must set server_hostname when using ssl without a host")
        return host
    return server_hostname


def check_tls_arguments(ssl: Any, handshake_timeout: float | None, shutdown_timeout: float | None) -> None:
    """ValueError for a TLS time-out without TLS."""
    if handshake_timeout is not None and not ssl:
        raise ValueError("ssl_handshake_timeout is only meaningful with ssl")
    if shutdown_timeout is not None and not ssl:
        raise ValueError("ssl_shutdown_timeout is only meaningful with ssl")


def bind_to_any(sock: socket.socket, family: int, local_infos: Iterable[AddressInfo], errors: list[OSError]) -> None:
    """Bind to the first local address of the family that bind(2) accepts; OSError if there is none."""
    for local_family, _, _, _, address in local_infos:
        if local_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as exc:
            errors.append(bind_error(exc, address))
    raise errors.pop() if errors else OSError(f"no matching local address with {family=} found")


def interleave_families(
    infos: list[AddressInfo], first_family_count: int | None, happy_eyeballs_delay: float | None
) -> list[AddressInfo]:
    """Alternate address families, each in its order, after `first_family_count` addresses of the first family.

    Without a number the order stays, unless attempts are to run beside one another.
    """
    if first_family_count is None and happy_eyeballs_delay is not None:
        first_family_count = 1
    if not first_family_count:
        return infos
    by_family: dict[int, list[AddressInfo]] = {}
    for info in infos:
        by_family.setdefault(info[0], []).append(info)
    families = list(by_family.values())
    lead = families[0][: first_family_count - 1] if first_family_count > 1 else []
    families[0] = families[0][len(lead) :]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*families))
    return lead + [info for info in turns if info is not None]


def connect_error(errors: list[OSError], all_errors: bool) -> Exception:
    """The exception to raise for failed attempts, as the running Python's asyncio chooses it."""
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    if not errors and sys.version_info >= (3, 12):
        return TimeoutError("create_connection failed")  # staggered_race() was ended before any attempt failed
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(str(error) for error in errors)}")
