"""A state machine that compares the order in which callbacks run with asyncio's.

A program is a list of callbacks, each with what it does when it runs: schedule others, cancel, move the clock, start a
task, finish a future, raise. It runs on asyncio's loop and on zloop's, by the same clock, which only the program moves.
What has run, in which turn, and what was reported has to be the same.
"""

import asyncio
import contextvars
from typing import Any, NamedTuple

from hypothesis import strategies as st
from loops import new_loop

CALLBACKS = 12
STEPS = st.one_of(
    st.tuples(st.just("soon"), st.integers(0, CALLBACKS - 1)),
    st.tuples(st.just("later"), st.integers(0, CALLBACKS - 1), st.sampled_from([-1, 0, 0.5, 1, 1, 2, 3])),
    st.tuples(st.just("at"), st.integers(0, CALLBACKS - 1), st.sampled_from([0, 1, 2, 4, 8])),
    st.tuples(st.just("cancel"), st.integers(0, CALLBACKS - 1)),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 1, 2])),
    st.tuples(st.just("task"), st.integers(0, CALLBACKS - 1), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, CALLBACKS - 1)),
    st.tuples(st.just("finish"), st.integers(0, CALLBACKS - 1)),
    st.tuples(st.just("cancel task"), st.integers(0, CALLBACKS - 1)),
    st.tuples(st.just("stop")),
    st.tuples(st.just("raise"), st.sampled_from([ValueError, SystemExit, KeyboardInterrupt])),
    st.tuples(st.just("set"), st.integers(0, 100)),
)
PROGRAMS = st.lists(st.lists(STEPS, max_size=4), min_size=CALLBACKS, max_size=CALLBACKS)
MOST_CALLS = 200
"""Callbacks of one program, which may schedule themselves for ever."""
LAST_TURN = 60

variable = contextvars.ContextVar("variable", default=None)


class Entry(NamedTuple):
    """What a run has come to at one place."""

    turn: int
    clock: float
    what: str
    more: Any = None


class Run:
    """A program on a loop."""

    def __init__(self, make_loop, program):
        self.program = program
        self.trace = []
        self.now = 0.0
        self.turn = 0
        self.calls = 0
        self.timers = 0
        self.handles = {}
        self.tasks = {}
        self.all_tasks = []  # when a task is let go, and its exception reported, is the garbage collector's matter
        self.futures = {}
        self.loop = make_loop()
        self.loop.time = lambda: self.now
        self.loop.set_exception_handler(self.report)

    def note(self, what, more=None):
        self.trace.append(Entry(self.turn, self.now, what, more))

    def report(self, _loop, context):
        self.note("reported", (context["message"][: len("Exception in callback")], repr(context.get("exception"))))

    def execute(self):
        """Run it for LAST_TURN turns, however often it is stopped. What it has come to."""
        self.loop.call_soon(self.callback, 0)
        self.loop.call_soon(self.callback, 1)
        self.loop.call_soon(self.tick)
        while self.turn < LAST_TURN:
            try:
                self.loop.run_forever()
                self.note("stopped")
            except (SystemExit, KeyboardInterrupt) as exception:
                self.note("left", repr(exception))
        for task in self.tasks.values():
            task.cancel()
        self.loop.call_later(100, self.loop.stop)
        self.now += 200
        self.program = [[] for _ in self.program]
        self.loop.run_forever()
        for task in self.all_tasks:
            self.note("ended", task.cancelled() or repr(task.exception()))
        self.loop.close()
        return self.trace

    def tick(self):
        """Once in each turn, so that the loop never waits."""
        self.turn += 1
        self.now += 0.25
        if self.turn < LAST_TURN:
            self.loop.call_soon(self.tick)
        else:
            self.loop.stop()

    def callback(self, number):
        self.calls += 1
        if self.calls > MOST_CALLS:
            return
        self.note(f"callback {number}", variable.get())
        for step, *arguments in self.program[number]:
            getattr(self, f"do_{step.replace(' ', '_')}")(*arguments)

    def do_soon(self, number):
        self.handles[number] = self.loop.call_soon(self.callback, number)

    def do_later(self, number, delay):
        self.handles[number] = self.loop.call_later(delay + self.a_moment(), self.callback, number)

    def do_at(self, number, when):
        self.handles[number] = self.loop.call_at(when + self.a_moment(), self.callback, number)

    def a_moment(self):
        """More for each timer: asyncio leaves the order of equal deadlines open."""
        self.timers += 1
        return self.timers * 1e-6

    def do_cancel(self, number):
        if number in self.handles:
            self.handles[number].cancel()

    def do_advance(self, seconds):
        self.now += seconds

    def do_set(self, value):
        variable.set(value)

    def do_task(self, number, sleeps):
        async def sleeping():
            for _ in range(sleeps):
                await asyncio.sleep(0)
            self.callback(number)

        self.start(number, sleeping)

    def do_wait(self, number):
        future = self.futures.setdefault(number, self.loop.create_future())

        async def waiting():
            result = await asyncio.shield(future)
            self.note("waited", result)
            await asyncio.sleep(1)
            self.note("slept")

        self.start(number, waiting)

    def start(self, number, function):
        async def noted():
            try:
                await function()
            except asyncio.CancelledError:
                self.note(f"task {number} cancelled")
                raise

        if self.calls > MOST_CALLS:
            return
        if number in self.tasks:
            self.tasks[number].cancel()
        self.tasks[number] = self.loop.create_task(noted())
        self.all_tasks.append(self.tasks[number])

    def do_finish(self, number):
        future = self.futures.setdefault(number, self.loop.create_future())
        if not future.done():
            future.set_result(number)

    def do_cancel_task(self, number):
        if number in self.tasks:
            self.tasks[number].cancel()

    def do_stop(self):
        self.loop.stop()

    def do_raise(self, kind):
        raise kind


def check_order(program):
    """The program runs on zloop as on asyncio."""
    expected = Run(asyncio.SelectorEventLoop, program).execute()
    assert Run(new_loop, program).execute() == expected
