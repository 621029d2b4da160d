# The transports of a pipe's ends.

import asyncio
from typing import Any

from zloop.core.loop import Loop
from zloop.transports.writing import WritingTransport

class ReadPipeTransport(asyncio.ReadTransport):
    _pipe: Any
    @property
    def _paused(self) -> bool: ...
    @property
    def _loop(self) -> Loop | None: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...

class WritePipeTransport(WritingTransport):
    _pipe: Any

def make_read_pipe_transport(
    loop: Loop, pipe: Any, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None]
) -> ReadPipeTransport: ...
def make_write_pipe_transport(
    loop: Loop, pipe: Any, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None]
) -> WritePipeTransport: ...
