"""What the topics of a soak share: the loop, the time, random numbers, counts, and what has gone wrong."""

import asyncio
import contextlib
import os
import random
import time
from collections import Counter

FAULTS = (
    "loses a byte",
    "mixes connections",
    "leaks a descriptor",
    "leaks memory",
    "blocks the loop",
    "raises in a callback",
    "forgets a callback",
)
"""What SOAK_FAULT may name, one or several: faults put in on purpose, which show whether the soak would see them."""

MOST_COMPLAINTS = 50
"""Of those that begin with the same word: connections have many."""


class World:
    """One soak. `seed` decides what each topic does; when things happen, the machine decides."""

    def __init__(self, loop, options, company, number=0):
        self.loop = loop
        self.company = company
        self.number = number  # of this loop, among those of the company
        self.forks = options.forks
        self.seed = options.seed
        self.connections = options.connections
        self.patience = options.patience
        # asyncio's transports send what a buffer contains later on, not what it contained when it was written, and some
        # of its versions never get past an empty line: docs/differences.md.
        self.spares_asyncio = options.loop == "asyncio"
        self.faults = set(filter(None, os.environ.get("SOAK_FAULT", "").split(", ")))
        if unknown := self.faults - set(FAULTS):
            raise SystemExit(f"there is no fault {unknown.pop()!r}: {', '.join(FAULTS)}")
        self.counts = Counter()
        self.complaints = []
        self.complaints_of = Counter()
        self.stopping = asyncio.Event()
        self.began = time.monotonic()
        self.kept = []  # what a fault leaks

    def let_go(self):
        """Forget the loop: what holds it is not to be taken for a leak."""
        self.loop = self.stopping = self.company = None

    def add(self, other):
        """What another world has counted and complained of is this one's, too."""
        self.counts += other.counts
        self.complaints += [f"loop {other.number}: {text}" for text in other.complaints]

    def random(self, topic):
        """The random numbers of one topic."""
        return random.Random(f"{self.seed}/{topic}" + (f"/{self.number}" if self.number else ""))

    def complain(self, text):
        """Something is wrong: the verdict will say so."""
        kind = text.partition(" ")[0]
        self.counts["complaints"] += 1
        self.complaints_of[kind] += 1
        if self.complaints_of[kind] <= MOST_COMPLAINTS:
            self.complaints.append(text)
            print(f"{time.monotonic() - self.began:.1f} s: {text}", flush=True)

    def on_exception(self, _loop, context):
        """The loop's exception handler: nothing has a reason to call it."""
        self.complain(
            f"the loop's exception handler was called: {context.get('message')}: {context.get('exception')!r}"
        )

    async def pause(self, seconds):
        """Wait, but not beyond the end of the soak."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)

    async def repeat(self, name, step, seconds):
        """Do a step again and again, with pauses of so many seconds, until the end. What it raises is a complaint."""
        while not self.stopping.is_set():
            try:
                self.counts[name] += 1
                await asyncio.wait_for(step(), self.patience)
            except TimeoutError:
                self.complain(f"{name}: not done within {self.patience:.0f} seconds")
            except Exception as error:
                self.complain(f"{name}: {error!r}")
            await self.pause(seconds)
