"""Datagram endpoints: create_datagram_endpoint()."""

from __future__ import annotations

import socket
import sys
from asyncio.log import logger
from typing import TYPE_CHECKING, Any, NamedTuple

from zloop.core.interface import MixinBase
from zloop.core.socket_objects import DATAGRAM_METHODS, has_plain_methods
from zloop.net.servers import set_reuse_port
from zloop.net.unix import remove_stale_socket
from zloop.transports import selector_transports
from zloop.transports.datagram import make_datagram_transport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zloop.core.interface import ProtocolT


class Candidate(NamedTuple):
    """The parameters of a socket that may become the endpoint's, with the resolved addresses of both ends, or None."""

    family: int
    proto: int
    local: Any
    remote: Any


class DatagramMixin(MixinBase):
    """Datagram endpoints: UDP, Unix datagrams and others."""

    async def create_datagram_endpoint(  # type: ignore[override]  # typeshed still has reuse_address
        self,
        protocol_factory: Callable[[], ProtocolT],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, ProtocolT]:
        """Make a datagram endpoint, with a new socket or a given one; return (transport, protocol).

        protocol_factory() makes the protocol.
        local_addr: the address to bind; (host, port), or for AF_UNIX a path, where a socket file is removed first.
        remote_addr: the address to connect to, likewise; with allow_broadcast the socket is not connected, and the
            address is the default destination.
        family, proto, flags: restrict or modify the name resolution, as for getaddrinfo(); without both addresses,
            `family` is required.
        reuse_port: set SO_REUSEPORT (socket(7)), so that several sockets may bind the port.
        allow_broadcast: set SO_BROADCAST (socket(7)).
        sock: a datagram socket in place of all of these; the transport owns it from here on.

        Raises ValueError for arguments that contradict one another and if reuse_port is not supported, TypeError for an
        address that is no pair (AF_UNIX: no str), socket.gaierror if a name cannot be resolved, and the first OSError
        if no address can be bound and connected.
        """
        given = sock is not None
        remote = None
        if sock is None:
            candidates = await self._find_candidates(local_addr, remote_addr, family, proto, flags)
            sock, remote = await self._open_first(candidates, bool(reuse_port), bool(allow_broadcast))
        else:
            refuse_stream_socket(sock)
            refuse_modifiers(
                local_addr=local_addr,
                remote_addr=remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
            sock.setblocking(False)

        waiter = self.create_future()
        try:
            protocol = protocol_factory()
            if has_plain_methods(sock, DATAGRAM_METHODS):
                transport = make_datagram_transport(self, sock, protocol, remote, waiter)
            else:
                transport = selector_transports.make_datagram_transport(self, sock, protocol, remote, waiter)
        except BaseException:
            if not given:
                sock.close()
            raise
        if self.get_debug():
            log_endpoint(local_addr, remote_addr, transport, protocol)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport, protocol

    async def _find_candidates(
        self, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> list[Candidate]:
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [Candidate(family, proto, None, None)]
        if family == socket.AF_UNIX:
            for addr in (local_addr, remote_addr):
                if addr is not None and not isinstance(addr, str):
                    raise TypeError("string is expected")
            if local_addr and not local_addr.startswith("\0"):
                remove_stale_socket(local_addr)
            return [Candidate(family, proto, local_addr, remote_addr)]
        return await self._resolve_both(local_addr, remote_addr, family, proto, flags)

    async def _resolve_both(
        self, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
    ) -> list[Candidate]:
        """A candidate for each (family, proto) that both addresses have; ValueError if there is none."""
        ends: list[dict[tuple[int, int], Any]] = []
        for addr in (local_addr, remote_addr):
            addresses: dict[tuple[int, int], Any] = {}
            ends.append(addresses)
            if addr is None:
                continue
            if not (isinstance(addr, tuple) and len(addr) == 2):  # noqa: PLR2004
                raise TypeError("2-tuple is expected")
            infos = await self._ensure_resolved(
                addr, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags, loop=self
            )
            if not infos:
                raise OSError("getaddrinfo() returned empty list")
            for info_family, _, info_proto, _, address in infos:
                addresses[info_family, info_proto] = address
        local, remote = ends
        candidates = [
            Candidate(*kind, local.get(kind), remote.get(kind))
            for kind in local | remote
            if not (local_addr and kind not in local) and not (remote_addr and kind not in remote)
        ]
        if not candidates:
            raise ValueError("can not get address information")
        return candidates

    async def _open_first(
        self, candidates: list[Candidate], reuse_port: bool, allow_broadcast: bool
    ) -> tuple[socket.socket, Any]:
        """The first socket that can be bound and connected, with its remote address; else the first OSError."""
        errors = []
        for candidate in candidates:
            try:
                return await self._open_candidate(candidate, reuse_port, allow_broadcast), candidate.remote
            except OSError as exc:
                errors.append(exc)
        try:
            raise errors[0]
        finally:
            errors.clear()  # else the exception's traceback refers to the exception: a cycle

    async def _open_candidate(self, candidate: Candidate, reuse_port: bool, allow_broadcast: bool) -> socket.socket:
        sock = socket.socket(candidate.family, socket.SOCK_DGRAM, candidate.proto)
        try:
            if reuse_port:
                set_reuse_port(sock)
            if allow_broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setblocking(False)
            if candidate.local:
                sock.bind(candidate.local)
            if candidate.remote and not allow_broadcast:
                await self.sock_connect(sock, candidate.remote)
        except BaseException:
            sock.close()
            raise
        return sock


def log_endpoint(local_addr: Any, remote_addr: Any, transport: Any, protocol: Any) -> None:
    """Log a new endpoint in debug mode, as asyncio does."""
    if local_addr:
        message = "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)"
        logger.info(message, local_addr, remote_addr, transport, protocol)
    else:
        logger.debug("Datagram endpoint remote_addr=%r created: (%r, %r)", remote_addr, transport, protocol)


def refuse_stream_socket(sock: socket.socket) -> None:
    """ValueError for a stream socket; before CPython 3.13, for any that is not SOCK_DGRAM."""
    if sys.version_info >= (3, 13):
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
    elif sock.type != socket.SOCK_DGRAM:
        raise ValueError(f"A UDP Socket was expected, got {sock!r}")


def refuse_modifiers(**options: Any) -> None:
    """ValueError for options that would apply to a new socket, while one is given."""
    problems = ", ".join(f"{name}={value}" for name, value in options.items() if value)
    if problems:
        raise ValueError(f"socket modifier keyword arguments can not be used when sock is specified. ({problems})")
