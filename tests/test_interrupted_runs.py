"""An exception out of a signal's handler comes wherever Python code runs: also while a loop begins or ceases to run.

A trace function raises in place of the handler, at each operation of the interpreter in turn, so that none is left out.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.zloop_only  # after some of these interruptions asyncio's loop is running for ever


class Interruption(KeyboardInterrupt):
    """What the handler raises."""


@contextlib.contextmanager
def interrupted_at(number):
    """Raise at that operation of those done in this block; the list that is given is empty until then."""
    before = sys.gettrace()  # that of coverage.py, if any
    operations = itertools.count()
    done = []

    def trace(frame, event, _arg):
        frame.f_trace_opcodes = True
        if "zloop" not in Path(frame.f_code.co_filename).parts:
            return None  # a weak reference's callback, for example, whose exceptions nobody gets
        if event == "opcode" and next(operations) == number:
            sys.settrace(before)
            done.append(frame.f_code.co_qualname)
            raise Interruption
        return trace

    sys._getframe().f_trace_opcodes = True  # CPython 3.12 looks for a frame that wants them when the function is set
    sys.settrace(trace)
    try:
        yield done
    except Interruption:
        assert done
    finally:
        sys.settrace(before)


def wakeup_fd():
    """The descriptor that signals are told of by."""
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


def state():
    """What a run changes of the process, and undoes."""
    return (
        sys.get_asyncgen_hooks(),
        sys.get_coroutine_origin_tracking_depth(),
        asyncio._get_running_loop(),
        wakeup_fd(),
    )


@pytest.fixture(params=["no handler", "handler"])
def signalled_loop(request, loop):
    """A loop without a handler of its own, and one with."""
    if request.param == "handler":
        loop.add_signal_handler(signal.SIGUSR1, print)
    yield loop
    loop.remove_signal_handler(signal.SIGUSR1)


def settle(loop, coro):
    """End what an interrupted run has left, in another."""
    loop.run_until_complete(asyncio.sleep(0.001))  # of a task that is scheduled and not registered, too
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()  # what it waits for may have been interrupted
        loop.run_until_complete(asyncio.wait(tasks))
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Interruption):
                task.result()
    coro.close()


async def wait_a_moment():
    await asyncio.sleep(0)
    await asyncio.sleep(0.0001)


def test_interrupted_at_every_point_of_a_run(signalled_loop):
    loop = signalled_loop
    before = state()
    for number in itertools.count():
        coro = wait_a_moment()
        with interrupted_at(number) as done:
            loop.run_until_complete(coro)
        assert not loop.is_running(), done
        assert state() == before, done
        if not done:
            break
        settle(loop, coro)
        assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran", done
        assert state() == before, done
    assert number > 10


def test_interrupted_at_every_point_in_debug_mode(signalled_loop):
    """Without a task, which would wait for ever where it is interrupted while a handle is made for it."""
    loop = signalled_loop
    loop.set_debug(True)
    before = state()
    for number in itertools.count():
        stopping = loop.call_later(0.0001, loop.stop)
        with interrupted_at(number) as done:
            loop.run_forever()
        stopping.cancel()
        assert not loop.is_running(), done
        assert state() == before, done
        if not done:
            break


def test_interrupted_at_every_point_with_a_wake_up_descriptor_of_the_programs_own(loop):
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable)
    try:
        for number in itertools.count():
            coro = asyncio.sleep(0.0001)
            with interrupted_at(number) as done:
                loop.run_until_complete(coro)
            assert wakeup_fd() == writable, done
            settle(loop, coro)
            if not done:
                break
    finally:
        signal.set_wakeup_fd(-1)
        os.close(readable)
        os.close(writable)


@pytest.mark.parametrize("step", ["_run_forever_setup", "_run_forever_cleanup"])
@pytest.mark.parametrize("before", [True, False])
def test_step_of_a_subclass_that_is_interrupted(loop, step, before):
    class Interrupted(type(loop)):
        armed = True

        def interrupt(self):
            if self.armed:
                self.armed = False
                raise Interruption

    def interrupted_step(self):
        if before:
            self.interrupt()
        getattr(super(Interrupted, self), step)()
        self.interrupt()

    setattr(Interrupted, step, interrupted_step)
    expected = state()
    other = Interrupted()
    try:
        stopping = other.call_soon(other.stop)
        with pytest.raises(Interruption):
            other.run_forever()
        stopping.cancel()
        assert not other.is_running()
        assert state() == expected
        assert other.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
        assert state() == expected
    finally:
        other.close()


def test_first_exception_of_the_end_of_a_run_is_the_one_that_is_raised(loop):
    """And none of them keeps the other steps from being done."""
    before = state()

    class Failing(type(loop)):
        def _give_wakeup_fd_back(self):
            super()._give_wakeup_fd_back()
            raise ValueError("first")

        def _set_coroutine_origin_tracking(self, enabled):
            super()._set_coroutine_origin_tracking(enabled)
            if not enabled:
                raise ValueError("second")

    other = Failing()
    other.set_debug(True)
    other.call_soon(other.stop)
    with pytest.raises(ValueError, match="first"):
        other.run_forever()
    assert not other.is_running()
    assert state() == before
    Failing._give_wakeup_fd_back = type(loop)._give_wakeup_fd_back
    other.close()
