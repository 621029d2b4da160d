"""Timers, set and cancelled: none is early, none is out of order, none runs that was cancelled, none is forgotten."""

import asyncio

LONGEST = 2.0
AT_ONCE = 200


async def run(world):
    random = world.random("timers")

    async def step():
        batch = Batch(world.loop, random)
        await asyncio.sleep(LONGEST / 2)
        batch.cancel_some(random)
        await asyncio.wait_for(batch.done.wait(), 10 * LONGEST)
        batch.check()
        world.counts["timers"] += AT_ONCE

    await world.repeat("batches of timers", step, 0.05)


class Batch:
    """Timers that were set together."""

    def __init__(self, loop, random):
        self.loop = loop
        self.ran = []
        self.early = []
        self.done = asyncio.Event()
        self.cancelled = set()
        now = loop.time()
        self.deadlines = [now + random.uniform(0, LONGEST) for _ in range(AT_ONCE)]
        self.handles = [loop.call_at(when, self.note, number, when) for number, when in enumerate(self.deadlines)]
        self.cancel_some(random)
        self.end = loop.call_at(now + LONGEST + loop_resolution(loop), self.done.set)

    def note(self, number, when):
        self.ran.append(number)
        if self.loop.time() + loop_resolution(self.loop) < when:
            self.early.append(number)

    def cancel_some(self, random):
        """Cancel a quarter of those that have not run."""
        for number in random.sample(range(AT_ONCE), AT_ONCE // 4):
            if number not in self.ran:
                self.handles[number].cancel()
                self.cancelled.add(number)

    def check(self):
        assert not self.early, f"{len(self.early)} timers ran early"
        assert not self.cancelled & set(self.ran), "a timer ran that had been cancelled"
        expected = sorted(set(range(AT_ONCE)) - self.cancelled, key=self.deadlines.__getitem__)
        assert len(self.ran) == len(expected), f"{len(self.ran)} timers ran, not {len(expected)}"
        assert self.ran == expected, "timers ran out of order"


def loop_resolution(_loop):
    """The clock's, and what asyncio adds to it: a timer may run so many seconds before its time."""
    return 0.002
