"""Garbage collections of every generation at random moments, and cycles that hold what the loop knows."""

import asyncio
import gc


async def run(world):
    random = world.random("garbage")

    async def step():
        for _ in range(random.randrange(10)):
            future = world.loop.create_future()
            future.itself = [future]
            future.handle = world.loop.call_later(random.uniform(0, 0.2), future.itself.append, future)
            asyncio.ensure_future(future).cancel()
        gc.collect(random.choice((0, 0, 0, 0, 1, 1, 2)))

    await world.repeat("collections", step, 0.2)
