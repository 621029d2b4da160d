"""Handle and TimerHandle: what callback registration returns, and what a program can ask of it."""

import asyncio
import contextvars
import functools
import gc
import sys
import threading
import weakref
from fractions import Fraction

import pytest
from support import alike, enable_debug, info_of, outcome_of

MARK = contextvars.ContextVar("MARK", default="unset")


def callback(*args):
    """A callback with a name that reprs can show."""


class Callable:
    def method(self):
        pass

    def __call__(self):
        pass

    def __repr__(self):
        return "<a callable>"


CALLBACKS = {
    "function": callback,
    "lambda": lambda: None,
    "builtin": print,
    "method": Callable().method,
    "instance": Callable(),
    "class": Callable,
    "partial": functools.partial(callback, 1, key="word"),
    "partial of a partial": functools.partial(functools.partial(callback, 1), [2]),
    "partial of a method": functools.partial(Callable().method),
    "bound builtin": [].append,
}

SCHEDULES = {
    "call_soon": lambda loop, *args, **kwargs: loop.call_soon(*args, **kwargs),
    "call_soon_threadsafe": lambda loop, *args, **kwargs: loop.call_soon_threadsafe(*args, **kwargs),
    "call_later": lambda loop, *args, **kwargs: loop.call_later(10, *args, **kwargs),
    "call_at": lambda loop, *args, **kwargs: loop.call_at(10, *args, **kwargs),
}


@pytest.fixture(params=SCHEDULES)
def schedule(request, loop):
    """Register a callback in one of the four ways."""
    return functools.partial(SCHEDULES[request.param], loop)


def test_handles_are_asyncios(loop):
    assert isinstance(loop.call_soon(callback), asyncio.Handle)
    assert isinstance(loop.call_soon_threadsafe(callback), asyncio.Handle)
    for timer in (loop.call_later(0, callback), loop.call_later(10, callback), loop.call_at(10, callback)):
        assert isinstance(timer, asyncio.TimerHandle)


def test_cancelling(schedule):
    handle = schedule(callback)
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancelled() is True
    handle.cancel()
    assert handle.cancelled() is True


def test_handles_can_be_referenced_weakly(schedule):
    handle = schedule(callback)
    reference = weakref.ref(handle)
    assert reference() is handle


def test_handle_of_a_callback_that_ran_is_freed(loop, forever):
    references = [weakref.ref(loop.call_soon(callback)), weakref.ref(loop.call_later(0, callback))]
    loop.call_later(0.001, loop.stop)
    forever()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context is new in 3.12")
def test_handle_gives_its_context(schedule):
    context = contextvars.copy_context()
    assert schedule(callback, context=context).get_context() is context
    token = MARK.set("copied")
    copied = schedule(callback).get_context()
    MARK.reset(token)
    assert isinstance(copied, contextvars.Context)
    assert copied[MARK] == "copied"


# -- timers --------------------------------------------------------------------------------------------------------


def test_timers_compare_by_deadline(same_as_asyncio):
    def scenario(loop):
        def comparisons(left, right):
            return left < right, left <= right, left == right, left != right, left >= right, left > right

        early, same, late = (loop.call_at(when, callback) for when in (1, 1, 2))
        other_arguments = loop.call_at(1, callback, "argument")
        cancelled = loop.call_at(1, callback)
        cancelled.cancel()
        return [comparisons(early, timer) for timer in (early, same, late, other_arguments, cancelled)]

    assert same_as_asyncio(scenario).returned[2] == (True, True, False, True, False, False)


def test_timers_do_not_compare_with_anything_else(same_as_asyncio):
    def scenario(loop):
        timer = loop.call_at(1, callback)
        others = [1, "text", None, loop.call_soon(callback)]
        outcomes = [outcome_of(lambda other=other: timer < other)[:2] for other in others]
        outcomes += [outcome_of(lambda other=other: timer >= other)[:2] for other in others]
        return outcomes, [timer == other for other in others], [timer != other for other in others]

    assert set(same_as_asyncio(scenario).returned[0]) == {("raised", TypeError)}


def test_timers_that_are_equal_hash_alike(loop):
    first, second = loop.call_at(7.5, callback), loop.call_at(7.5, callback)
    assert first == second
    assert hash(first) == hash(second) == hash(7.5)


def test_timers_sort(loop):
    timers = [loop.call_at(when, callback) for when in (3, 1, 2)]
    assert [timer.when() for timer in sorted(timers)] == [1, 2, 3]


def test_deadline_survives_cancelling_and_running(loop, forever):
    cancelled = loop.call_at(12.25, callback)
    cancelled.cancel()
    assert cancelled.when() == 12.25
    past = loop.time() - 1
    ran = loop.call_at(past, callback)
    loop.call_later(0.001, loop.stop)
    forever()
    assert ran.when() == past


def test_deadline_stays_the_number_that_was_given(same_as_asyncio):
    def scenario(loop):
        deadlines = [loop.call_at(when, callback).when() for when in (10, 10.5, True, Fraction(21, 2))]
        return [(type(when), when) for when in deadlines]

    assert same_as_asyncio(scenario).returned[0] == (int, 10)


# -- reprs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("way", SCHEDULES)
@pytest.mark.parametrize("name", CALLBACKS)
def test_repr_tells_callback_and_arguments(same_as_asyncio, name, way, debug):
    def scenario(loop):
        if debug:
            enable_debug(loop)
        pending = SCHEDULES[way](loop, CALLBACKS[name], 1, "two", [3])
        cancelled = SCHEDULES[way](loop, CALLBACKS[name])
        cancelled.cancel()
        told = [alike(repr(handle)) for handle in (pending, cancelled)]
        pending.cancel()
        return told

    pending, cancelled = same_as_asyncio(scenario).returned
    assert "cancelled" in cancelled
    assert "cancelled" not in pending


def test_repr_of_long_arguments_is_shortened(same_as_asyncio):
    def scenario(loop):
        enable_debug(loop)
        return info_of(loop.call_soon(callback, "x" * 1000, list(range(1000))))

    assert len(same_as_asyncio(scenario).returned) < 1000


def test_repr_in_debug_mode_tells_where_the_handle_was_made(loop):
    enable_debug(loop)
    for handle in (
        loop.call_soon(callback),
        loop.call_later(1, callback),
        loop.call_at(1, callback),
        loop.call_soon_threadsafe(callback),
    ):
        assert f"created at {__file__}:" in repr(handle)


def test_repr_after_the_run(same_as_asyncio):
    def scenario(loop):
        handle = loop.call_soon(callback, "argument")
        loop.call_soon(loop.stop)
        loop.run_forever()
        return alike(repr(handle))

    assert "callback" in same_as_asyncio(scenario).returned


# -- lifetime ------------------------------------------------------------------------------------------------------


class Payload:
    """Something that can be referenced weakly."""

    def method(self):
        pass


def test_arguments_are_freed_once_the_callback_ran(loop, forever):
    gc.disable()
    try:
        payload = Payload()
        reference = weakref.ref(payload)
        loop.call_soon(callback, payload)
        loop.call_later(0, payload.method)
        loop.call_soon_threadsafe(callback, 1, 2, 3, 4, 5, payload)
        del payload
        loop.call_later(0.001, loop.stop)
        forever()
        assert reference() is None
    finally:
        gc.enable()


def test_cancelling_frees_callback_and_arguments_at_once(schedule):
    gc.disable()
    try:
        payload = Payload()
        reference = weakref.ref(payload)
        handles = [schedule(payload.method, payload), schedule(callback, 1, 2, 3, 4, payload)]
        del payload
        for handle in handles:
            handle.cancel()
        assert reference() is None
    finally:
        gc.enable()


def test_argument_whose_destructor_uses_the_loop(loop, forever):
    ran = []

    class Reenters:
        def __del__(self):
            loop.call_soon(ran.append, "from a destructor")
            loop.call_later(0, ran.append, "timer from a destructor")

    loop.call_soon(callback, Reenters())
    loop.call_later(10, callback, Reenters()).cancel()
    loop.call_later(0.005, loop.stop)
    forever()
    assert sorted(ran) == ["from a destructor"] * 2 + ["timer from a destructor"] * 2


@pytest.mark.skipif(sys.version_info < (3, 14), reason="cancelling waits since 3.14")
def test_cancelling_from_another_thread_waits_for_a_started_callback(loop, forever):
    order = []
    started, cancelled = threading.Event(), threading.Event()

    def slow_callback():
        started.set()
        if not cancelled.wait(0.05):  # a cancel() that does not wait is through long before
            order.append("callback ends")

    def cancel():
        started.wait()
        handle.cancel()
        cancelled.set()
        order.append("cancel returns")
        loop.call_soon_threadsafe(loop.stop)

    handle = loop.call_soon_threadsafe(slow_callback)
    thread = threading.Thread(target=cancel)
    thread.start()
    forever()
    thread.join()
    assert order == ["callback ends", "cancel returns"]
    assert handle.cancelled()


@pytest.mark.zloop_only  # asyncio has let the callback go by then
@pytest.mark.parametrize("schedule", ["call_soon", "call_later"])
def test_callback_that_cancels_itself_is_reported_by_its_name(loop, unhandled, schedule):
    def cancel_itself(number):
        handle.cancel()
        raise ValueError(number)

    delay = [0] if schedule == "call_later" else []
    handle = getattr(loop, schedule)(*delay, cancel_itself, 42)
    getattr(loop, schedule)(*delay, loop.stop)
    loop.run_forever()
    [context] = unhandled
    assert ".cancel_itself(" in context["message"]  # from CPython 3.13 on without its arguments, but in debug mode
    assert repr(context["exception"]) == "ValueError(42)"


@pytest.mark.zloop_only  # asyncio calls None, and reports that it cannot
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_cancelled_handle_that_is_run_does_nothing(loop, method):
    called = []
    handle = getattr(loop, method)(called.append, 1)
    handle.cancel()
    handle._run()
    assert called == []


@pytest.mark.zloop_only  # asyncio calls None, and reports that it cannot
@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_callback_that_the_clock_of_debug_mode_cancels(loop, method):
    def time():
        handle.cancel()
        return plain()

    called = []
    plain, loop.time = loop.time, time
    enable_debug(loop)
    handle = getattr(loop, method)(called.append, 1)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert called == []
