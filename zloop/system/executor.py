"""Blocking functions in threads: run_in_executor() and the default executor."""

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
    """Executors; the default one is created when it is first used."""

    _default_executor: concurrent.futures.ThreadPoolExecutor | None = None
    _executor_shutdown_called = False

    def run_in_executor(
        self, executor: concurrent.futures.Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run func(*args) in a concurrent.futures.Executor; return an asyncio.Future for its result.

        With None as `executor` it runs in a thread of the default executor. Raises RuntimeError if the loop is closed
        or the executor is shut down; in debug mode TypeError for a coroutine function or an object that is not
        callable.
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
        """Set the default executor; TypeError if it is no concurrent.futures.ThreadPoolExecutor."""
        if not isinstance(executor, concurrent.futures.ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Shut the default executor down and wait for its threads, for at most `timeout` seconds.

        None waits without a limit; the parameter is CPython 3.12's, accepted on every version. After the time-out a
        RuntimeWarning is issued, and the threads finish by themselves. run_in_executor() raises RuntimeError from here
        on for the default executor.
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
            # CPython before 3.12 waits for the thread although it is cancelled.
            if sys.version_info < (3, 12):
                thread.join()
            raise
        else:
            thread.join()

    def _join_executor(self, executor: concurrent.futures.ThreadPoolExecutor, done: asyncio.Future[None]) -> None:
        """Runs in a thread of its own, because shutdown() blocks."""
        try:
            executor.shutdown(wait=True)
            if not self.is_closed():
                self.call_soon_threadsafe(set_result_unless_cancelled, done, None)
        except Exception as exc:
            if not self.is_closed():
                self.call_soon_threadsafe(set_exception_unless_cancelled, done, exc)
