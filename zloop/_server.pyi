# The accepting end of a server.

from asyncio import BaseProtocol
from collections.abc import Callable
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
    ) -> None: ...
    def close(self) -> None: ...
