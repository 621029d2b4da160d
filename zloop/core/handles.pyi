# Handles, as the loop's methods return them. They pass for asyncio's in isinstance(), and are typed so.

import asyncio
from collections.abc import Sequence
from contextvars import Context
from traceback import StackSummary
from typing import Any

class Handle(asyncio.Handle):
    _context: Context
    _source_traceback: StackSummary | None
    def get_context(self) -> Context: ...
    def report(self, exc: BaseException, callback: object, args: Sequence[Any]) -> None: ...

class ThreadSafeHandle(Handle): ...

class TimerHandle(Handle, asyncio.TimerHandle):
    _when: float
