"""Signals: the handler runs for each that is sent once the one before has been handled."""

import asyncio
import os
import signal

NUMBERS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


async def run(world):
    random = world.random("signals")
    arrived = {number: asyncio.Event() for number in NUMBERS}
    for number, event in arrived.items():
        world.loop.add_signal_handler(number, event.set)

    async def step():
        sent = random.sample(NUMBERS, random.randrange(1, 1 + len(NUMBERS)))
        for number in sent:
            os.kill(os.getpid(), number)
        for number in sent:
            await arrived[number].wait()
            arrived[number].clear()
        assert not any(event.is_set() for event in arrived.values()), "a signal arrived that nobody sent"

    try:
        await world.repeat("rounds of signals", step, 0.1)
    finally:
        for number in NUMBERS:
            world.loop.remove_signal_handler(number)
