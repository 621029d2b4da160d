"""Methods of the loop that a subclass, or a program, has put in the place of its own; and asyncio's private names.

A clock of one's own rules the timers: tools for tests put hours forward, or tell the time of a simulation.
"""

import asyncio
import signal
import threading
import time

import pytest
from support import close_loop, new_loop, run_bounded

HOUR = 3600  # seconds; no time limit inside the loop, which would go by the same clock


class Clock:
    """The loop's own clock, put forward by `offset` seconds."""

    def __init__(self):
        self.offset = 0

    def tell(self, plain):
        return plain() + self.offset


def put_into_instance(loop, name, function):
    plain = getattr(loop, name)
    setattr(loop, name, lambda: function(plain))
    return loop


def put_into_subclass(loop, name, function):
    kind = type(loop)
    close_loop(loop)
    return type("Derived", (kind,), {name: lambda self: function(lambda: getattr(kind, name)(self))})()


PLACES = [put_into_instance, put_into_subclass]


@pytest.fixture(params=PLACES, ids=["instance", "subclass"])
def clocked(request, loop_kind):
    """A loop and the clock that it goes by."""
    clock = Clock()
    loop = request.param(new_loop(loop_kind), "time", clock.tell)
    yield loop, clock
    close_loop(loop)


def test_timers_follow_a_clock_of_ones_own(clocked):
    loop, clock = clocked

    async def scenario():
        ran = []
        loop.call_later(HOUR, ran.append, "later")
        loop.call_at(loop.time() + 2 * HOUR, ran.append, "at")
        loop.call_later(3 * HOUR, ran.append, "not yet")
        clock.offset += 2 * HOUR + 1
        while len(ran) < 2:
            await asyncio.sleep(0)
        return ran

    assert loop.run_until_complete(scenario()) == ["later", "at"]


def test_waits_by_a_clock_of_ones_own_are_as_long_as_it_says(clocked):
    loop, clock = clocked
    clock.offset = -10 * HOUR

    async def scenario():
        began = time.monotonic()
        await asyncio.sleep(0.05)
        return time.monotonic() - began

    assert 0.045 < loop.run_until_complete(scenario()) < 5


def test_clock_that_jumps_while_the_loop_waits(clocked):
    """The wait was meant to be long; what wakes the loop is something else, and the timer is due by then."""
    loop, clock = clocked

    async def scenario():
        fired = loop.create_future()
        loop.call_later(HOUR, fired.set_result, "fired")

        def jump():
            clock.offset += HOUR + 1
            loop.call_soon_threadsafe(lambda: None)

        thread = threading.Timer(0.01, jump)
        thread.start()
        result = await fired
        thread.join()
        return result

    assert loop.run_until_complete(scenario()) == "fired"


def run_by_a_clock_that_stands_still(loop, now):
    """What runs of two timers, now and at the very time of the other one."""

    def turn():
        loop.call_soon(loop.stop)
        loop.run_forever()

    loop.time = lambda: now
    ran = []
    loop.call_later(1, ran.append, "later")
    loop.call_later(0, ran.append, "now")
    turn()
    turn()
    first = list(ran)
    now += 1
    turn()
    turn()
    return first, ran


def test_clock_that_stands_still(loop):
    """A timer is due when its time has come, and not before."""
    assert run_by_a_clock_that_stands_still(loop, 100.0) == (["now"], ["now", "later"])


@pytest.mark.zloop_only  # asyncio's timers before CPython 3.15 are not due there until the clock goes on
def test_clock_of_the_calendar_that_stands_still(loop):
    """Its numbers are too big for the nanosecond that asyncio adds to them."""
    assert run_by_a_clock_that_stands_still(loop, 1_700_000_000.0) == (["now"], ["now", "later"])


def test_clock_that_is_set_while_the_loop_runs_and_taken_back(loop):
    async def scenario():
        ran = []
        loop.call_later(HOUR, ran.append, "by the clock")
        loop.time = lambda: type(loop).time(loop) + 2 * HOUR
        while not ran:
            await asyncio.sleep(0)
        del loop.time
        loop.call_later(HOUR, ran.append, "never")
        await asyncio.sleep(0.01)
        return ran

    assert loop.run_until_complete(scenario()) == ["by the clock"]


def test_clock_in_the_class_itself(make_loop, monkeypatch):
    kind = type(make_loop())
    plain = kind.time
    monkeypatch.setattr(kind, "time", lambda self: plain(self) + offset)
    offset = 0
    loop = make_loop()

    async def scenario():
        nonlocal offset
        fired = loop.create_future()
        loop.call_later(HOUR, fired.set_result, "fired")
        offset = HOUR + 1
        loop.call_soon(lambda: None)
        return await fired

    assert loop.run_until_complete(scenario()) == "fired"


def test_clock_that_fails_ends_the_run(loop):
    class Broken(Exception):
        pass

    def fail():
        raise Broken

    loop.call_later(HOUR, print)
    loop.time = fail
    with pytest.raises(Broken):
        loop.run_forever()
    del loop.time
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_slow_callbacks_are_told_by_a_clock_of_ones_own(loop, loop_log):
    now = 100.0
    loop.time = lambda: now

    def work():
        nonlocal now
        now += 7

    loop.set_debug(True)
    loop.call_soon(work)
    loop.call_soon(loop.stop)
    loop.run_forever()
    del loop.time
    [message] = loop_log.take_messages()
    assert message.endswith("took 7.000 seconds")


@pytest.mark.parametrize("place", PLACES, ids=["instance", "subclass"])
def test_turns_of_ones_own(loop_kind, place):
    turns = []
    loop = place(new_loop(loop_kind), "_run_once", lambda plain: (turns.append(1), plain()))
    run_bounded(loop, asyncio.sleep(0.01))
    seen = len(turns)
    run_bounded(loop, asyncio.sleep(0))
    assert 2 <= seen < len(turns)
    close_loop(loop)


def test_turns_of_the_classs_own(make_loop, monkeypatch):
    made_before = make_loop()
    turns = []
    plain = type(made_before)._run_once
    monkeypatch.setattr(type(made_before), "_run_once", lambda self: (turns.append(self), plain(self)))
    for loop in (made_before, make_loop()):
        run_bounded(loop, asyncio.sleep(0))
        assert loop in turns


def test_turn_that_is_replaced_while_the_loop_runs(loop, run):
    async def scenario():
        turns = []
        plain = loop._run_once
        loop._run_once = lambda: (turns.append(1), plain())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen = len(turns)
        del loop._run_once
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return seen, len(turns)

    seen, in_the_end = run(scenario())
    assert 0 < seen <= in_the_end <= seen + 1


# -- private names that programs read ------------------------------------------------------------------------------


def test_thread_of_the_loop(loop, run):
    async def scenario():
        loop._check_thread()
        with pytest.raises(RuntimeError, match="other than the current one"):
            await asyncio.to_thread(loop._check_thread)
        return loop._thread_id

    assert loop._thread_id is None
    loop._check_thread()
    assert run(scenario()) == threading.get_ident()
    assert loop._thread_id is None


def test_what_is_ready_and_what_is_scheduled(loop, run):
    async def scenario():
        handles = [loop.call_soon(print), loop.call_soon_threadsafe(print)]
        timers = [loop.call_later(delay, print) for delay in (HOUR, 1, 2)]
        told = [handle in loop._ready for handle in handles], [timer in loop._scheduled for timer in timers]
        told += len(loop._ready) >= 2, min(loop._scheduled) is not timers[0]
        told += tuple(timer._scheduled for timer in timers)
        for handle in handles + timers:
            handle.cancel()
        return told

    assert run(scenario()) == ([True] * 2, [True] * 3, True, True, True, True, True)


def test_timer_that_was_cancelled_or_has_run_is_not_scheduled(loop, run):
    async def scenario():
        due, cancelled = loop.call_later(0, lambda: None), loop.call_later(HOUR, print)
        cancelled.cancel()
        await asyncio.sleep(0.01)
        return due._scheduled, due in loop._scheduled

    assert run(scenario()) == (False, False)


def test_asyncios_own_timer_handle_is_cancelled(loop):
    handle = asyncio.TimerHandle(loop.time() + 1, print, (), loop)
    handle.cancel()
    assert handle.cancelled()


def test_task_factory_by_its_private_name(loop):
    def factory(loop, coro, **kwargs):
        return asyncio.Task(coro, loop=loop, **kwargs)

    assert loop._task_factory is None
    loop.set_task_factory(factory)
    assert loop._task_factory is factory


@pytest.mark.parametrize("number", [signal.SIGUSR1, 0, -1, 10_000, "SIGUSR1", None])
def test_check_of_a_signals_number(same_as_asyncio, number):
    same_as_asyncio(lambda loop: loop._check_signal(number))
