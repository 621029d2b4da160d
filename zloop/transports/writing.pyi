# What the transports that write to a stream share.

import asyncio
from contextvars import Context

from zloop.core.loop import Loop

class WritingTransport(asyncio.Transport):
    @property
    def _context(self) -> Context: ...
    @property
    def _loop(self) -> Loop | None: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _protocol_paused(self) -> bool: ...
