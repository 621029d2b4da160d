# The transports of a pipe's ends.

import asyncio
from typing import Any

from typing_extensions import disjoint_base

from zloop.core.loop import Loop
from zloop.transports.base import BaseTransport
from zloop.transports.stream import StreamTransport

@disjoint_base
class ReadPipeTransport(BaseTransport, asyncio.ReadTransport):
    _pipe: Any

@disjoint_base
class WritePipeTransport(StreamTransport):
    _pipe: Any

def make_read_pipe_transport(
    loop: Loop, pipe: Any, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None]
) -> ReadPipeTransport: ...
def make_write_pipe_transport(
    loop: Loop, pipe: Any, protocol: asyncio.BaseProtocol, waiter: asyncio.Future[None]
) -> WritePipeTransport: ...
