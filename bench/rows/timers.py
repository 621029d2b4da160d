"""Timers, of which most never fire."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rows.declare import Bench, batches, operation


def nothing() -> None:
    pass


@operation("timer-cancel", "call_later(), cancel()", topic="timers")
async def cancel(count: int) -> None:
    loop = asyncio.get_running_loop()
    for batch in batches(count, 1000):
        for _ in range(batch):
            loop.call_later(60, nothing).cancel()
        await asyncio.sleep(0)


@operation("timer-fire", "200,000 timers fire", topic="timers", count=200_000)
async def fire(count: int) -> None:
    loop = asyncio.get_running_loop()
    # In no order, and all of them due before the last is set: nobody waits.
    soon, apart = loop.time(), 1e-2 / count
    for number in range(count - 1):
        loop.call_at(soon + apart * (number * 7919 % count), nothing)
    done = loop.create_future()
    loop.call_at(soon + apart * count, done.set_result, None)
    await done


@contextlib.asynccontextmanager
async def many_timers(bench: Bench) -> AsyncIterator[list[asyncio.TimerHandle]]:
    loop = asyncio.get_running_loop()
    pending = [loop.call_later(600 + number % 977, nothing) for number in range(100_000)]
    yield pending
    for handle in pending:
        handle.cancel()


@operation("timer-rearm", "cancel and re-arm one among 100,000", topic="timers", setup=many_timers)
async def rearm(count: int, pending: list[asyncio.TimerHandle]) -> None:
    loop = asyncio.get_running_loop()
    for number in range(count):
        place = number * 7919 % len(pending)
        pending[place].cancel()
        pending[place] = loop.call_later(600 + number % 977, nothing)
        if not number % 1000:
            await asyncio.sleep(0)


@operation("timeout", "asyncio.timeout() around nothing", topic="timers")
async def timeout(count: int) -> None:
    for _ in range(count):
        async with asyncio.timeout(60):  # noqa: ASYNC100  (it is what is measured)
            pass


@operation("wait-for", "wait_for() of a future that is done soon", topic="timers")
async def wait_for(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await asyncio.wait_for(future, 60)
