# The accepting end of a server.

from asyncio import BaseProtocol, Transport
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from socket import socket
from typing import Any, Self

from typing_extensions import disjoint_base

from zloop.core.loop import Loop

@disjoint_base
class Clients:
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Transport]: ...
    def __contains__(self, transport: object, /) -> bool: ...
    def add(self, transport: Transport) -> None: ...
    def discard(self, transport: Transport) -> None: ...
    def copy(self) -> list[Transport]: ...

@disjoint_base
class Acceptor:
    server: Any
    def __new__(
        cls,
        loop: Loop,
        sock: socket,
        held: socket,
        protocol_factory: Callable[[], BaseProtocol],
        server: Any,
        backlog: int,
        context: Context,
        accept_tls: Callable[[socket, dict[str, Any]], Coroutine[Any, Any, None]] | None = None,
    ) -> Self: ...
    def abandon(self) -> None: ...
    def close(self) -> None: ...
    def _set_shared(self, shared: bool) -> None: ...
    def _line_up_soon(self) -> None: ...
