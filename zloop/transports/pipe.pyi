# The transports of a pipe's ends.

import asyncio
from typing import Any, final

from zloop.core.loop import Loop
from zloop.transports.base import BaseTransport
from zloop.transports.stream import StreamTransport

@final
class ReadPipeTransport(BaseTransport, asyncio.ReadTransport):
    _pipe: Any

@final
class WritePipeTransport(StreamTransport):
    _pipe: Any

def make_read_pipe_transport(
    loop: Loop, pipe: Any, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None]
) -> ReadPipeTransport: ...
def make_write_pipe_transport(
    loop: Loop, pipe: Any, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None]
) -> WritePipeTransport: ...
