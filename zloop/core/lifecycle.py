"""run_until_complete(), asynchronous generators and close()."""

from __future__ import annotations

import asyncio
import sys
import warnings
import weakref
from asyncio.log import logger
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeVar

from zloop.core.interface import MixinBase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

T = TypeVar("T")


class LifecycleMixin(MixinBase):
    """Methods that are called once in a run, or once in a loop's life."""

    def __init__(self) -> None:
        self._asyncgens: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._asyncgens_shutdown_called = False

    def print_debug_info(self) -> None:
        """Print to standard error what the loop has to do and what it waits for, for a human to read."""
        words = "closed" if self.is_closed() else "running" if self.is_running() else "not running"
        lines = [f"{type(self).__name__} at {id(self):#x}, {words}"]
        lines += [f"{count:10,}  {name}" for name, count in self._state().items()]
        sys.stderr.write("\n".join([*lines, ""]))

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Run the loop until a future is done; return its result or raise its exception.

        A coroutine is made into a task. Raises RuntimeError if the loop is closed or runs already, if another loop runs
        in this thread, and if the loop is stopped before the future is done; TypeError for an object that is neither a
        future nor awaitable, ValueError for a future of another loop.
        """
        self._check_closed()
        self._check_running()
        new_task = not asyncio.isfuture(future)
        future = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]  # asyncio takes generators, too
        if new_task:
            future._log_destroy_pending = False  # type: ignore[attr-defined]  # else a RuntimeError below says so
        self._run_until_done(future, new_task)
        if not future.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return future.result()

    def close(self) -> None:
        """Close the loop: release its callbacks and descriptors, and shut the default executor down without waiting.

        A closed loop cannot run again; a second call does nothing. Raises RuntimeError while the loop runs.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            logger.debug("Close %r", self)
        # Each step is taken, whatever another one raises.
        try:
            self._close_signals()
        finally:
            try:
                self._close_child_watches()
            finally:
                try:
                    self._close()
                finally:
                    self._executor_shutdown_called = True
                    executor, self._default_executor = self._default_executor, None
                    if executor is not None:
                        executor.shutdown(wait=False)

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self.is_closed():
            return
        if not hasattr(self, "_previous_wakeup_fd"):  # a subclass's __init__() failed before the mixins'
            self._close()
            return
        _warn(f"unclosed event loop {self!r}", ResourceWarning, source=self)
        if not self.is_running():
            self.close()

    # ---- asynchronous generators: sys.set_asyncgen_hooks() calls these while the loop runs

    def _asyncgen_firstiter_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
            )
        self._asyncgens.add(generator)

    def _asyncgen_finalizer_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())  # the collector may run in any thread

    async def shutdown_asyncgens(self) -> None:
        """Close all asynchronous generators that are open. Their exceptions go to the exception handler."""
        self._asyncgens_shutdown_called = True
        generators = list(self._asyncgens)
        self._asyncgens.clear()
        if not generators:
            return
        results = await asyncio.gather(*[generator.aclose() for generator in generators], return_exceptions=True)
        for result, generator in zip(results, generators, strict=True):
            if isinstance(result, Exception):
                self.call_exception_handler(
                    {
                        "message": f"an error occurred during closing of asynchronous generator {generator!r}",
                        "exception": result,
                        "asyncgen": generator,
                    }
                )
