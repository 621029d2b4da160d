"""What is measured while a soak runs: memory, descriptors, threads, children, engine objects, and the lag."""

import asyncio
import gc
import os
import sys
import time
from array import array

PAGE = os.sysconf("SC_PAGE_SIZE")
LEAK = 3 << 20
LAG_INTERVAL = 0.02
"""Seconds between two looks at how late the loop is."""


def state():
    """What there is of the process now."""
    with open("/proc/self/statm") as statm:
        resident = int(statm.read().split()[1]) * PAGE
    tasks = os.listdir("/proc/self/task")
    return {
        "memory": resident,
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
        "threads": len(tasks),
        "children": sum(len(children_of(task)) for task in tasks),
        "blocks": sys.getallocatedblocks(),
        "engine objects": sum(engine_objects().values()),
    }


def children_of(task):
    try:
        with open(f"/proc/self/task/{task}/children") as children:
            return children.read().split()
    except OSError:  # the thread has ended
        return []


def engine_objects():
    """How many objects of zloop's engine there are, by class; none, unless zloop counts them (ZLOOP_INVARIANTS)."""
    native = sys.modules.get("zloop.core.loop")
    return native.live_engine_objects() if native is not None else {}


def settled_state(before):
    """The state once what ends by itself has ended, the executor's threads for one; after two seconds, as it is."""
    deadline = time.monotonic() + 2
    while True:
        gc.collect()
        now = state()
        if all(now[name] <= before[name] for name in ("descriptors", "threads", "children", "engine objects")):
            return now
        if time.monotonic() > deadline:
            return now
        time.sleep(0.05)


def waiting_for_a_core():
    """Seconds that this thread could have run, had other programs not: they are not the loop's. 0 if nobody counts."""
    try:
        with open("/proc/thread-self/schedstat") as schedstat:
            return int(schedstat.read().split()[1]) / 1e9
    except OSError:
        return 0.0


def interpreter_keeps_memory():
    """Whether this interpreter holds on to freed memory for longer and longer, as 3.13t did until 3.13.6 (gh-133136).

    That cannot be told from a leak.
    """
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return not has_gil and sys.version_info < (3, 13, 6)


class Sampler:
    """Samples, until it is told to stop."""

    def __init__(self, world, interval):
        self.world = world
        self.samples = []
        self.interval = interval
        self.lags = array("d")
        self.began = time.monotonic()

    async def run(self):
        watching = asyncio.ensure_future(self.watch_lag())
        while not self.world.stopping.is_set():
            first = len(self.lags)
            await self.world.pause(self.interval)
            if "blocks the loop" in self.world.faults and len(self.samples) % int(1 / self.interval) == 0:
                time.sleep(0.5)  # noqa: ASYNC251  (as a fault would)
                await asyncio.sleep(0)
            if "leaks memory" in self.world.faults:
                self.world.kept.append(bytearray(LEAK))
            lags = self.lags[first:]
            self.samples.append(
                {"time": time.monotonic() - self.began, "lag": max(lags, default=0.0)}
                | state()
                | {"bursts": self.world.counts["bursts"]}
            )
        await watching

    async def watch_lag(self):
        loop = self.world.loop
        while not self.world.stopping.is_set():
            due, waited = loop.time() + LAG_INTERVAL, waiting_for_a_core()
            await asyncio.sleep(LAG_INTERVAL)
            late = loop.time() - due - (waiting_for_a_core() - waited)
            # Whoever is late once would have been late at each look of that time.
            missed = int(late / LAG_INTERVAL)
            self.lags.extend([max(0.0, late), *(late - number * LAG_INTERVAL for number in range(1, missed))])
