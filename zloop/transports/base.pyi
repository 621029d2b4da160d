# What all transports share.

import asyncio
from contextvars import Context

from typing_extensions import disjoint_base

from zloop.core.loop import Loop

@disjoint_base
class BaseTransport(asyncio.BaseTransport):
    @property
    def _context(self) -> Context: ...
    @property
    def _loop(self) -> Loop | None: ...
    @property
    def _protocol(self) -> asyncio.BaseProtocol | None: ...
    @property
    def _paused(self) -> bool: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

@disjoint_base
class WritingTransport(BaseTransport, asyncio.Transport):
    @property
    def _protocol_paused(self) -> bool: ...
