"""Blocking functions on threads: run_in_executor() and the default executor's life."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from zloop.core.interface import MixinBase
from zloop.core.waiters import set_exception_unless_cancelled, set_result_unless_cancelled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ExecutorMixin(MixinBase):
    """The default executor is made when it is first needed."""

    _default_executor: concurrent.futures.ThreadPoolExecutor | None = None
    _executor_shutdown_called = False

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run func(*args) in an executor (None: the default one); a future for its result.

        RuntimeError on a closed loop, or when the default executor was shut down.
        """
        self._check_closed()
        if self.get_debug():
            self._check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._ensure_default_executor()
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def _ensure_default_executor(self) -> concurrent.futures.ThreadPoolExecutor:
        if self._executor_shutdown_called:
            raise RuntimeError("Executor shutdown has been called")
        if self._default_executor is None:
            self._default_executor = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="asyncio")
        return self._default_executor

    def set_default_executor(self, executor: concurrent.futures.Executor) -> None:
        """Use another ThreadPoolExecutor by default; TypeError for anything else."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait until the default executor's threads are done, for at most `timeout` seconds (CPython 3.12).

        What they still do after that goes on, with a RuntimeWarning here.
        """
        self._executor_shutdown_called = True
        executor = self._default_executor
        if executor is None:
            return
        done = self.create_future()
        thread = threading.Thread(target=self._join_executor, args=(executor, done))
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            warnings.warn(
                f"The executor did not finishing joining its threads within {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        except BaseException:
            # Cancelled: CPython before 3.12 waits for the thread all the same.
            if sys.version_info < (3, 12):
                thread.join()
            raise
        else:
            thread.join()

    def _join_executor(self, executor: concurrent.futures.ThreadPoolExecutor, done: asyncio.Future[None]) -> None:
        """On a thread of its own: waiting blocks."""
        try:
            executor.shutdown(wait=True)
            if not self.is_closed():
                self.call_soon_threadsafe(set_result_unless_cancelled, done, None)
        except Exception as exc:
            if not self.is_closed():
                self.call_soon_threadsafe(set_exception_unless_cancelled, done, exc)
