# The accepting end of a server.

from asyncio import BaseProtocol
from collections.abc import Callable, Coroutine
from contextvars import Context
from socket import socket
from typing import Any

from zloop._loop import Loop

class Acceptor:
    def __init__(
        self,
        loop: Loop,
        sock: socket,
        protocol_factory: Callable[[], BaseProtocol],
        server: Any,
        backlog: int,
        context: Context,
        accept_tls: Callable[[socket, dict[str, Any]], Coroutine[Any, Any, None]] | None = None,
    ) -> None: ...
    def close(self) -> None: ...
