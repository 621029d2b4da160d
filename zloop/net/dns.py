"""Names to addresses and back: on the default executor, or at once for numeric hosts, which need no resolver."""

from __future__ import annotations

import functools
import socket
import sys
from asyncio.log import logger
from typing import Any

from zloop.core.interface import MixinBase

# (family, type, protocol, canonical name, address), as socket.getaddrinfo() has them
AddressInfo = tuple[int, int, int, str, tuple[Any, ...]]

PROTOCOL_OF_TYPE: dict[int, int] = {socket.SOCK_STREAM: socket.IPPROTO_TCP, socket.SOCK_DGRAM: socket.IPPROTO_UDP}
LAST_PORT = 0xFFFF

stock_getaddrinfo = socket.getaddrinfo  # to tell whether a program has replaced it


class DnsMixin(MixinBase):
    """getaddrinfo() and getnameinfo()."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, socket.SocketKind, int, str, Any]]:
        """Resolve a host and a port; return what socket.getaddrinfo() returns, without blocking the loop.

        The call runs in the default executor; a numeric host and port are answered at once. Arguments are those of
        socket.getaddrinfo(), which getaddrinfo(3) describes. Raises socket.gaierror if the resolver fails, RuntimeError
        after shutdown_default_executor().
        """
        # Looked up at each call, because programs replace it.
        resolve = self._getaddrinfo_debug if self.get_debug() else socket.getaddrinfo
        if (
            resolve is stock_getaddrinfo
            and host.__class__ is str
            and port.__class__ is int
            and not self._executor_shutdown_called
        ):
            try:
                info: Any = numeric_info(host, port, family, type, proto, flags)
            except TypeError:  # an unhashable argument in place of a number: the resolver raises the error
                info = None
            if info is not None:
                # The resolver's own audit event, with plain ints as it has.
                sys.audit("socket.getaddrinfo", host, port, +family, +type, +proto)
                return [info]
        return await self.run_in_executor(None, resolve, host, port, family, type, proto, flags)

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int = 0
    ) -> tuple[str, str]:
        """Resolve an address; return (host, port) as socket.getnameinfo() does, without blocking the loop.

        The call runs in the default executor. `sockaddr` is (host, port), for IPv6 also with flow info and scope id;
        `flags` are getnameinfo(3)'s NI_* constants. Raises socket.gaierror if the resolver fails.
        """
        return await self.run_in_executor(None, socket.getnameinfo, sockaddr, flags)

    def _getaddrinfo_debug(self, host: Any, port: Any, family: int, type: int, proto: int, flags: int) -> list[Any]:
        words = [f"{host}:{port!r}"]
        given = {"family": family, "type": type, "proto": proto, "flags": flags}
        words += [f"{name}={value!r}" for name, value in given.items() if value]
        query = ", ".join(words)
        logger.debug("Get address info %s", query)
        started = self.time()
        infos = socket.getaddrinfo(host, port, family, type, proto, flags)
        seconds = self.time() - started
        report = logger.info if seconds >= self.slow_callback_duration else logger.debug
        report(f"Getting address info {query} took {seconds * 1e3:.3f}ms: {infos!r}")
        return infos

    async def _ensure_resolved(
        self,
        address: Any,
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
        loop: Any,
    ) -> list[AddressInfo]:
        """The addresses of (host, port, ...). A numeric host needs no resolver."""
        host, port = address[:2]
        if host.__class__ is str and port.__class__ is int:
            try:
                info = remembered_literal_info(host, port, family, type, proto, *address[2:])
            except TypeError:  # an unhashable argument in place of a number: literal_info() raises the error
                info = literal_info(host, port, family, type, proto, *address[2:])
        else:
            info = literal_info(host, port, family, type, proto, *address[2:])
        if info is not None:
            return [info]
        infos: list[AddressInfo] = await loop.getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )
        return infos


@functools.lru_cache(maxsize=256, typed=True)
def numeric_info(host: str, port: int, family: int, type: int, proto: int, flags: int) -> AddressInfo | None:
    """The one result of socket.getaddrinfo() for a numeric host and port; None for names and for unusual arguments.

    The cache is the process's, because the result depends on the arguments alone.
    """
    if flags or not all(isinstance(number, int) for number in (family, type, proto, flags)):
        return None
    if type not in PROTOCOL_OF_TYPE or proto not in {0, PROTOCOL_OF_TYPE[type]} or not 0 <= port <= LAST_PORT:
        return None
    for candidate in (socket.AF_INET, socket.AF_INET6):
        try:
            packed = socket.inet_pton(candidate, host)
        except (OSError, ValueError):
            continue
        if family not in {socket.AF_UNSPEC, candidate}:
            return None
        tail = (0, 0) if candidate == socket.AF_INET6 else ()
        address = (socket.inet_ntop(candidate, packed), port, *tail)
        return candidate, socket.SocketKind(type), int(PROTOCOL_OF_TYPE[type]), "", address
    return None


def literal_info(
    host: Any, port: Any, family: int, type: int, proto: int, flow: int = 0, scope: int = 0
) -> AddressInfo | None:
    """The result of getaddrinfo() for a numeric host and port; None for names, which need a resolver."""
    if host is None or type not in PROTOCOL_OF_TYPE or proto not in {0, socket.IPPROTO_TCP, socket.IPPROTO_UDP}:
        return None
    try:
        number = 0 if port is None or (isinstance(port, (str, bytes)) and not port) else int(port)
    except (TypeError, ValueError):
        return None  # a service name
    if isinstance(host, bytes):
        host = host.decode("idna")
    if "%" in host:  # an interface name, which inet_pton(3) does not read
        return None
    wanted = (socket.AF_INET, socket.AF_INET6) if family == socket.AF_UNSPEC else (family,)
    for candidate in wanted:
        try:
            socket.inet_pton(candidate, host)
        except OSError:
            continue
        tail = (flow, scope) if candidate == socket.AF_INET6 else ()
        return candidate, type, PROTOCOL_OF_TYPE[type], "", (host, number, *tail)
    return None


# The result depends on the arguments alone, and programs connect to the same few addresses.
remembered_literal_info = functools.lru_cache(maxsize=256, typed=True)(literal_info)
