"""Callbacks, tasks, and threads that call."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator

from rows.declare import Bench, batches, idle_connections, operation

BATCH = 1000
"""Callbacks scheduled in one turn, which is far from memory's limits and far from an empty turn's."""


def nothing(*arguments: object) -> None:
    pass


@operation("call-soon", "call_soon(f)", topic="scheduling")
async def call_soon(count: int) -> None:
    loop = asyncio.get_running_loop()
    for batch in batches(count, BATCH):
        for _ in range(batch):
            loop.call_soon(nothing)
        await asyncio.sleep(0)


@operation("call-soon-arguments", "call_soon(f, 1, 2, 3)", topic="scheduling")
async def call_soon_arguments(count: int) -> None:
    loop = asyncio.get_running_loop()
    for batch in batches(count, BATCH):
        for _ in range(batch):
            loop.call_soon(nothing, 1, 2, 3)
        await asyncio.sleep(0)


@operation("call-soon-context", "call_soon(f, context=c)", topic="scheduling")
async def call_soon_context(count: int) -> None:
    loop = asyncio.get_running_loop()
    context = contextvars.copy_context()
    for batch in batches(count, BATCH):
        for _ in range(batch):
            loop.call_soon(nothing, context=context)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def no_connections(bench: Bench) -> AsyncIterator[None]:
    yield


@contextlib.asynccontextmanager
async def many_connections(bench: Bench) -> AsyncIterator[None]:
    async with idle_connections(250):
        yield


async def chain(count: int, connections: None) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def step(left: int) -> None:
        if left:
            loop.call_soon(step, left - 1)
        else:
            done.set_result(None)

    step(count)
    await done


for name, title, setup in (
    ("chain", "one callback a turn", no_connections),
    ("chain-beside-250", "one callback a turn, beside 250 idle connections", many_connections),
):
    operation(name, title, topic="scheduling", setup=setup)(chain)


async def from_threads(count: int, threads: int) -> None:
    """`count` callbacks from all threads together."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    share = max(1, count // threads)
    left = share * threads

    def arrive() -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)

    def call() -> None:
        for _ in range(share):
            loop.call_soon_threadsafe(arrive)

    callers = [threading.Thread(target=call, daemon=True) for _ in range(threads)]
    for caller in callers:
        caller.start()
    await done
    for caller in callers:
        caller.join()


@operation("threadsafe-1", "call_soon_threadsafe() from one thread", topic="scheduling")
async def one_thread(count: int) -> None:
    await from_threads(count, 1)


@operation("threadsafe-4", "call_soon_threadsafe() from four threads", topic="scheduling")
async def four_threads(count: int) -> None:
    await from_threads(count, 4)


@operation("wake-up", "call_soon_threadsafe() to an idle loop, and back", topic="scheduling", waits=True)
async def wake_up(count: int) -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    answered = threading.Event()

    def ask() -> None:
        for _ in range(count):
            loop.call_soon_threadsafe(answered.set)
            answered.wait()
            answered.clear()
        loop.call_soon_threadsafe(done.set_result, None)

    caller = threading.Thread(target=ask, daemon=True)
    caller.start()
    await done
    caller.join()


async def nothing_at_all() -> None:
    pass


@operation("create-task", "create_task(), in hundreds", topic="scheduling")
async def create_task(count: int) -> None:
    loop = asyncio.get_running_loop()
    for batch in batches(count, 100):
        tasks = [loop.create_task(nothing_at_all()) for _ in range(batch)]
        await tasks[-1]


@operation("sleep-0", "sleep(0), one task", topic="scheduling")
async def sleep_one(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@operation("sleep-0-100", "sleep(0), a hundred tasks", topic="scheduling")
async def sleep_hundred(count: int) -> None:
    await asyncio.gather(*(sleep_one((count + number) // 100) for number in range(100)))


@operation("queue", "ping-pong through two Queues", topic="scheduling")
async def queue(count: int) -> None:
    there: asyncio.Queue[int] = asyncio.Queue()
    back: asyncio.Queue[int] = asyncio.Queue()

    async def answer() -> None:
        for _ in range(count):
            back.put_nowait(await there.get())

    answering = asyncio.get_running_loop().create_task(answer())
    for number in range(count):
        there.put_nowait(number)
        await back.get()
    await answering


@operation("gather", "gather() of 100 coroutines", topic="scheduling")
async def gather(count: int) -> None:
    for _ in range(count):
        await asyncio.gather(*(nothing_at_all() for _ in range(100)))


@operation("executor", "run_in_executor()", topic="scheduling", waits=True)
async def executor(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.run_in_executor(None, nothing)
