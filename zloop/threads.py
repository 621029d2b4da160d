"""A loop per thread: run_threads(), and the Worker that it gives each of them.

One process and one program in memory, with a loop for each core. That pays without a GIL only (PEP 703); with one it
works all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import sys
import sysconfig
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import Context, copy_context
from types import FrameType
from typing import Any, TypeVar

import zloop

T = TypeVar("T")


class Worker:
    """What a thread of run_threads() knows of itself: its place among the others, and when it shall end."""

    def __init__(self, team: _Team, index: int) -> None:
        self._team = team
        self.index = index
        """From 0 to count - 1."""
        self.count = team.count
        """How many threads there are."""
        self.stopping = asyncio.Event()
        """Of this thread's loop: set when all threads shall come to their end."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.index} of {self.count}>"

    def listen(self, host: str | None, port: int, **options: Any) -> socket.socket:
        """Return a listening TCP socket, for the ``sock`` of loop.create_server() or asyncio.start_server().

        Threads that ask for the same get sockets of their own on one queue of connections: each connection goes to one
        of them, and a thread that closes its own refuses nothing. Port 0 is a free port, the same in all threads. The
        options are socket.create_server()'s: family, backlog, reuse_port, dualstack_ipv6. A host of None is all
        interfaces. Raises OSError as bind(2) and listen(2) do.
        """
        return self._team.listen(host, port, options)


class _Team:
    """What the threads share. Any thread may call its methods."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.events: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        """The index of each thread that has ended; None for a signal."""
        self.errors: list[BaseException] = []
        self.results: list[Any] = [None] * count
        self._lock = threading.Lock()
        self._listening: dict[Any, socket.socket] = {}
        self._tasks: dict[Worker, asyncio.Task[Any]] = {}
        self._stopping = False
        self._cancelled = False

    def listen(self, host: str | None, port: int, options: dict[str, Any]) -> socket.socket:
        key = host, port, tuple(sorted(options.items()))
        with self._lock:
            shared = self._listening.get(key)
            if shared is None:
                shared = self._listening[key] = socket.create_server((host or "", port), **options)
            own = shared.dup()
        own.setblocking(False)
        return own

    def close(self) -> None:
        for shared in self._listening.values():
            shared.close()

    def join(self, worker: Worker, task: asyncio.Task[Any]) -> None:
        with self._lock:
            self._tasks[worker] = task
            if self._stopping:
                worker.stopping.set()
            if self._cancelled:
                task.cancel()

    def leave(self, worker: Worker) -> None:
        """From here on its loop may be closed."""
        with self._lock:
            del self._tasks[worker]

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            for worker, task in self._tasks.items():
                task.get_loop().call_soon_threadsafe(worker.stopping.set)

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            for task in self._tasks.values():
                task.get_loop().call_soon_threadsafe(task.cancel)

    def was_cancelled(self) -> bool:
        return self._cancelled

    def wait(self, grace: float) -> None:
        """Until all threads have ended. The first signal or error stops them, and, after `grace` seconds, cancels."""
        left = self.count
        deadline = None
        while left > 0:
            try:
                event = self.events.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                self.cancel()
                deadline = None
                continue
            if event is not None:
                left -= 1
            if (event is None or self.errors) and not self._stopping:
                self.stop()
                deadline = time.monotonic() + grace


def run_threads(
    main: Callable[[Worker], Coroutine[Any, Any, T]],
    *,
    threads: int | None = None,
    name: str = "zloop",
    debug: bool | None = None,
    signals: Iterable[int] = (signal.SIGINT, signal.SIGTERM),
    grace: float = 30.0,
) -> list[T]:
    """Run main(worker), a coroutine function, in each of several threads, on a loop of its own; return the results.

    threads=None is one for each core that this process may use. Threads are named name-0, name-1 and so on, and each
    runs in a copy of the caller's context. debug is zloop.run()'s.

    The first of the signals sets worker.stopping in all threads; so does an exception that leaves one of them. What has
    not ended after `grace` seconds is cancelled, and has None for a result. A second signal raises KeyboardInterrupt
    here, when everything has been cancelled and has ended. Signals need the main thread, as signal.signal() does:
    ValueError in others, unless signals=(). Exceptions of the threads leave as one ExceptionGroup. RuntimeError if this
    thread runs a loop, ValueError for less than one thread.

    Without a GIL the threads run at the same time. With it they take turns, of which a RuntimeWarning tells once.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("run_threads() cannot be called from a running event loop")
    count = usable_cores() if threads is None else threads
    if count < 1:
        raise ValueError(f"threads must be 1 or more, not {count}")
    warn_of_gil()
    _ = zloop.Loop  # loaded here, not by all threads at once
    team = _Team(count)
    made = [
        threading.Thread(target=run_worker, args=(team, index, main, debug, copy_context()), name=f"{name}-{index}")
        for index in range(count)
    ]
    try:
        with signals_that_stop(team, signals):
            try:
                for thread in made:
                    thread.start()
                team.wait(grace)
            finally:
                team.cancel()
                for thread in made:
                    if thread.ident is not None:
                        thread.join()
    finally:
        team.close()
    if team.errors:
        raise BaseExceptionGroup("errors in run_threads()", team.errors)
    return team.results


def run_worker(
    team: _Team, index: int, main: Callable[[Worker], Coroutine[Any, Any, T]], debug: bool | None, context: Context
) -> None:
    """What a thread does."""

    async def attend() -> T:
        worker = Worker(team, index)
        task = asyncio.current_task()
        assert task is not None
        team.join(worker, task)
        try:
            return await main(worker)
        finally:
            team.leave(worker)

    try:
        with asyncio.Runner(debug=debug, loop_factory=zloop.new_event_loop) as runner:
            team.results[index] = runner.run(attend(), context=context)
    except asyncio.CancelledError as exc:
        if not team.was_cancelled():
            team.errors.append(exc)
    except BaseException as exc:
        team.errors.append(exc)
    finally:
        team.events.put(index)


@contextlib.contextmanager
def signals_that_stop(team: _Team, signals: Iterable[int]) -> Iterator[None]:
    """The first one is an event of the team's; each other raises KeyboardInterrupt."""
    seen = []

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            raise KeyboardInterrupt
        team.events.put(None)

    previous = {}
    try:
        for number in signals:
            previous[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was not set from Python


def usable_cores() -> int:
    """How many cores this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_warned: list[bool] = []  # not empty: said already


def warn_of_gil() -> None:
    """Say, once in a process, that threads take turns here, and why."""
    if _warned or not getattr(sys, "_is_gil_enabled", lambda: True)():
        return
    _warned.append(True)
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        reason = "this Python has a GIL; a free-threaded build (python3.14t) has none"
    else:
        names = modules_that_need_gil()
        which = f"for the sake of {', '.join(names)}" if names else "by PYTHON_GIL or -X gil"
        reason = f"the GIL was turned on {which}"
    warnings.warn(f"the threads of run_threads() take turns: {reason}", RuntimeWarning, stacklevel=3)


def modules_that_need_gil() -> list[str]:
    """The extension modules that have not declared that they do without a GIL."""
    from zloop.core.scheduler import needs_gil  # noqa: PLC0415  # native, and not loaded with this module

    return sorted(name for name, module in list(sys.modules.items()) if needs_gil(module))
