# What all transports share.

import asyncio
from contextvars import Context

from zloop.core.loop import Loop

class BaseTransport(asyncio.BaseTransport):
    @property
    def _context(self) -> Context: ...
    @property
    def _loop(self) -> Loop | None: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _paused(self) -> bool: ...

class WritingTransport(BaseTransport, asyncio.Transport):
    @property
    def _protocol_paused(self) -> bool: ...
