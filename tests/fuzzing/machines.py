"""What the state machines of one loop have in common: how each begins, turns, and is judged at its end."""

import asyncio
import contextlib
import gc
import os
import sys
import tempfile
import time
import weakref

from ends import Planned
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from loops import FAULT, new_loop

LIMIT = 5.0 if FAULT is None else 1.0
"""Seconds that nothing may happen where bytes that are promised have not arrived."""


class OneLoop(RuleBasedStateMachine):
    """Drives one loop. A machine has rules, finish(), and let_go()."""

    expected = (Planned,)
    """What the exception handler may be given."""

    def __init__(self):
        super().__init__()
        self.problems = []

    @initialize(debug=st.booleans())
    def begin(self, debug):
        gc.freeze()  # what Hypothesis keeps would make each collection a slow one
        self.descriptors = descriptors()
        self.loop = new_loop()
        self.loop.set_debug(debug)
        self.loop.slow_callback_duration = float("inf")
        self.loop.set_exception_handler(self.handle)
        self.folder = tempfile.TemporaryDirectory()

    def handle(self, _loop, context):
        if not isinstance(context.get("exception"), self.expected):
            self.problems.append(f"the exception handler was given {context}")

    # ---- running

    def run(self, coroutine):
        return self.loop.run_until_complete(asyncio.wait_for(coroutine, LIMIT))

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @rule(count=st.integers(1, 5))
    def turns(self, count):
        for _ in range(count):
            self.turn()

    @rule()
    def collect(self):
        gc.collect()

    def run_until(self, condition, progress):
        """Turn until a condition holds, for as long as what progress() returns becomes something else."""
        last, deadline = None, 0.0
        while not condition():
            assert not self.problems, self.problems
            if last != (last := progress()):
                deadline = time.monotonic() + LIMIT
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {LIMIT} seconds: {self.describe()}")
            self.pass_time()
        self.turns(3)

    def pass_time(self):
        self.run(asyncio.sleep(0.001))

    # ---- the end

    def teardown(self):
        if not hasattr(self, "loop"):
            return
        failed = sys.exception() is not None
        try:
            if not failed:
                self.finish()
        finally:
            self.loop.close()
            self.folder.cleanup()
        assert not self.problems, self.problems
        if failed:
            return  # what has gone wrong in a rule is told
        references = [weakref.ref(each) for each in self.let_go()]
        gc.collect()
        assert descriptors() == self.descriptors
        assert [reference() for reference in references if reference() is not None] == []

    def finish(self):
        """Let everything that is promised arrive, then end all."""
        raise NotImplementedError

    def let_go(self):
        """Drop what the machine holds; return an iterator over what must not outlive that."""
        raise NotImplementedError

    def describe(self):
        """How far everything is, for a message."""
        raise NotImplementedError


def descriptors():
    """The open descriptors, and what they stand for."""
    found = {}
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the descriptor that listed the others
            found[name] = os.readlink(f"/proc/self/fd/{name}") if sys.platform == "linux" else os.fstat(int(name))[:3]
    return found
