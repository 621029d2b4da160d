# The native half of the loop. See MixinBase in zloop/core/interface.py for what the Python half adds to it.

import asyncio
import sys
from asyncio.events import _TaskFactory
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from typing_extensions import disjoint_base

from zloop.core.descriptors import DescriptorLoop
from zloop.core.handles import Handle, TimerHandle

_T = TypeVar("_T")
_LoopT = TypeVar("_LoopT", bound=Loop)
_CoroutineLike: TypeAlias = Generator[Any, None, _T] | Coroutine[Any, Any, _T]

@disjoint_base
class Loop(DescriptorLoop):
    @property
    def _ready(self) -> tuple[Handle, ...]: ...
    @property
    def _scheduled(self) -> tuple[TimerHandle, ...]: ...
    @property
    def _transports(self) -> WeakValueDictionary[int, asyncio.Transport]: ...
    @property
    def _task_factory(self) -> Any: ...
    def create_future(self) -> asyncio.Future[Any]: ...
    if sys.version_info >= (3, 13):
        def create_task(
            self,
            coro: _CoroutineLike[_T],
            *,
            name: str | None = None,
            context: Context | None = None,
            eager_start: bool | None = None,
        ) -> asyncio.Task[_T]: ...
    else:
        def create_task(
            self, coro: _CoroutineLike[_T], *, name: str | None = None, context: Context | None = None
        ) -> asyncio.Task[_T]: ...

    def set_task_factory(self, factory: _TaskFactory | None) -> None: ...
    def get_task_factory(self) -> _TaskFactory | None: ...

    # For the Python half.
    def _close(self) -> None: ...
    def _close_signal_pipe(self) -> None: ...
    def _give_wakeup_fd_back(self) -> None: ...
    def _run_until_done(self, future: asyncio.Future[Any], new_task: bool) -> None: ...
    def _timer_handle_cancelled(self, handle: object) -> None: ...
    def _take_wakeup_fd(self) -> None: ...

def with_methods_of_bases(loop_class: type[_LoopT]) -> type[_LoopT]: ...
