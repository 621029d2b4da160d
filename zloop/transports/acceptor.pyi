# The accepting end of a server.

from asyncio import BaseProtocol, Transport
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from socket import socket
from typing import Any

from zloop.core.loop import Loop

class Clients:
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Transport]: ...
    def __contains__(self, transport: object) -> bool: ...
    def add(self, transport: Transport) -> None: ...
    def discard(self, transport: Transport) -> None: ...
    def copy(self) -> list[Transport]: ...

class Acceptor:
    server: Any
    def __init__(
        self,
        loop: Loop,
        sock: socket,
        held: socket,
        protocol_factory: Callable[[], BaseProtocol],
        server: Any,
        backlog: int,
        context: Context,
        accept_tls: Callable[[socket, dict[str, Any]], Coroutine[Any, Any, None]] | None = None,
    ) -> None: ...
    def close(self) -> None: ...
