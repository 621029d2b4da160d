"""What runs when: ready callbacks, turns, timers, and calls from other threads."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import outcome_of, socket_pair

MARK = contextvars.ContextVar("MARK", default="unset")


def context_with(value):
    context = contextvars.copy_context()
    context.run(MARK.set, value)
    return context


# -- the ready queue and turns of the loop -------------------------------------------------------------------------


def test_call_soon_runs_in_order_and_passes_arguments(loop, forever):
    ran = []
    for number in range(100):
        loop.call_soon(lambda *args: ran.append(args), number, "two", None)
    loop.call_soon(loop.stop)
    forever()
    assert ran == [(number, "two", None) for number in range(100)]


@pytest.mark.parametrize("count", range(8))
def test_any_number_of_arguments(loop, forever, count):
    ran = []
    loop.call_soon(lambda *args: ran.append(args), *range(count))
    loop.call_later(0, lambda *args: ran.append(args), *range(count))
    loop.call_soon_threadsafe(lambda *args: ran.append(args), *range(count))
    loop.call_later(0, loop.stop)
    forever()
    assert ran == [tuple(range(count))] * 3


def test_what_a_callback_schedules_runs_after_what_was_ready(loop, forever):
    ran = []
    loop.call_soon(lambda: (ran.append("first"), loop.call_soon(ran.append, "scheduled by first")))
    loop.call_soon(ran.append, "second")
    loop.call_later(0.001, loop.stop)
    forever()
    assert ran == ["first", "second", "scheduled by first"]


def test_stop_lets_the_batch_finish_and_keeps_the_next(loop, forever):
    ran = []
    loop.call_soon(lambda: (loop.stop(), loop.call_soon(ran.append, "next turn")))
    loop.call_soon(ran.append, "same turn")
    forever()
    assert ran == ["same turn"]
    loop.call_soon(loop.stop)
    forever()
    assert ran == ["same turn", "next turn"]


def test_stop_before_running_runs_one_turn(loop, forever):
    ran = []
    loop.call_soon(lambda: (ran.append("first turn"), loop.call_soon(ran.append, "second turn")))
    loop.stop()
    forever()
    assert ran == ["first turn"]
    loop.stop()
    forever()
    assert ran == ["first turn", "second turn"]


def test_stop_twice_stops_once(loop, forever):
    ran = []
    loop.call_soon(lambda: (loop.stop(), loop.stop()))
    forever()
    loop.call_soon(lambda: loop.call_soon(lambda: (ran.append("not stopped early"), loop.stop())))
    forever()
    assert ran == ["not stopped early"]


def test_one_turn_runs_ready_then_input_then_due_timers(loop, forever):
    ran = []
    with socket_pair() as (left, right):
        loop.call_at(loop.time() - 1, ran.append, "timer")
        loop.add_reader(left, ran.append, "input")
        right.send(b"x")
        loop.call_soon(ran.append, "ready")
        loop.stop()
        forever()
        loop.remove_reader(left)
    assert ran == ["ready", "input", "timer"]


def test_callbacks_that_never_pause_starve_neither_input_nor_timers(loop, forever):
    seen = set()

    def again():
        if seen == {"input", "timer"}:
            loop.stop()
        else:
            loop.call_soon(again)

    with socket_pair() as (left, right):
        loop.add_reader(left, seen.add, "input")
        loop.call_later(0.001, seen.add, "timer")
        right.send(b"x")
        loop.call_soon(again)
        forever()
        loop.remove_reader(left)
    assert seen == {"input", "timer"}


def test_ready_callbacks_by_the_thousand(loop, forever):
    ran = []

    def grow(depth):
        ran.append(depth)
        if depth:
            loop.call_soon(grow, depth - 1)
            loop.call_soon(grow, depth - 1)

    loop.call_soon(grow, 12)
    loop.call_later(0.001, lambda: loop.call_soon(stop_when_done))

    def stop_when_done():
        if len(ran) == 2**13 - 1:
            loop.stop()
        else:
            loop.call_soon(stop_when_done)

    forever()
    assert ran == sorted(ran, reverse=True)  # generation after generation
    assert len(ran) == 2**13 - 1


def test_cancelled_callback_does_not_run(loop, forever):
    ran = []
    handle = loop.call_soon(ran.append, "cancelled before the run")
    handle.cancel()
    later = None
    loop.call_soon(lambda: later.cancel())  # noqa: PLW0108  (there is no such handle yet)
    later = loop.call_soon(ran.append, "cancelled by the one before it")
    loop.call_soon(loop.stop)
    forever()
    assert ran == []
    assert handle.cancelled()
    assert later.cancelled()


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_handle_may_cancel_itself_while_it_runs(loop, forever, schedule):
    ran = []

    def cancel_self(argument):
        handle.cancel()
        ran.append(argument)
        loop.stop()

    delay = (0,) if schedule == "call_later" else ()
    handle = getattr(loop, schedule)(*delay, cancel_self, "an argument that must survive")
    forever()
    assert ran == ["an argument that must survive"]
    assert handle.cancelled()


def test_missing_or_wrong_callbacks(same_as_asyncio):
    def scenario(loop):
        outcomes = [outcome_of(method) for method in (loop.call_soon, loop.call_later, loop.call_at)]
        outcomes += [outcome_of(loop.call_later, 1), outcome_of(loop.call_at, 1)]
        outcomes += [outcome_of(loop.call_soon_threadsafe), outcome_of(loop.call_soon, print, end="")]
        return [outcome[:2] for outcome in outcomes]

    assert set(same_as_asyncio(scenario).returned) == {("raised", TypeError)}


def test_ways_to_pass_what_call_soon_takes(same_as_asyncio):
    """By position and by name, where the name may be another string than the source's, as it is in CPython's tasks."""

    def scenario(loop):
        ran = []
        given = context_with("given")
        other_name = "".join("context")
        ways = [
            lambda note: loop.call_soon(note, 1, 2),
            lambda note: loop.call_soon(note, 1, context=given),
            lambda note: loop.call_soon(note, 1, context=None),
            lambda note: loop.call_soon(note, **{other_name: given}),
            lambda note: loop.call_soon(note, **{other_name: given, "more": 1}),
            lambda note: loop.call_soon(note, 1, contex=given),
            lambda note: loop.call_soon(callback=note),
            lambda note: loop.call_soon(context=given, callback=note),
            lambda note: loop.call_soon(note, callback=note),
            lambda note: loop.call_soon(context=given),
            lambda note: type(loop).call_soon(loop, note, 3, context=given),
        ]
        outcomes = [
            outcome_of(way, lambda *args, number=number: ran.append((number, args, MARK.get())))[:2]
            for number, way in enumerate(ways)
        ]
        loop.call_soon(loop.stop)
        loop.run_forever()
        return ran, [outcome if outcome[0] == "raised" else outcome[0] for outcome in outcomes]

    ran, _ = same_as_asyncio(scenario).returned
    assert [number for number, *_ in ran] == [0, 1, 2, 3, 6, 7, 10]


def test_not_callable_is_reported_when_run(same_as_asyncio):
    def scenario(loop):
        loop.call_soon(None)
        loop.call_later(0, 42, "argument")
        loop.call_later(0.001, loop.stop)
        loop.run_forever()

    outcome = same_as_asyncio(scenario)
    assert [entry[0] for entry in outcome.logged] == ["ERROR", "ERROR"]


# -- context variables ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_at", "call_soon_threadsafe"])
def test_callback_runs_in_the_context_given_or_copied(loop, forever, schedule):
    ran = []
    method = getattr(loop, schedule)
    when = {"call_later": (0,), "call_at": (loop.time(),)}.get(schedule, ())

    def note_and_change():
        ran.append(MARK.get())
        MARK.set("changed inside")

    given = context_with("given")
    token = MARK.set("current")
    method(*when, note_and_change)  # copies the context as it is now
    MARK.reset(token)
    method(*when, note_and_change, context=given)
    method(*when, note_and_change, context=given)
    loop.call_later(0.001, loop.stop)
    forever()
    assert ran == ["current", "given", "changed inside"]
    assert MARK.get() == "unset"


def test_context_that_is_none_means_a_copy(loop, forever):
    ran = []
    loop.call_soon(lambda: (MARK.set("leaked?"), ran.append(True)), context=None)
    loop.call_soon(loop.stop)
    forever()
    assert ran == [True]
    assert MARK.get() == "unset"


def test_context_already_entered_is_reported(same_as_asyncio):
    def scenario(loop):
        context = contextvars.copy_context()

        def nested():
            loop.call_soon(print, context=context)
            loop.stop()
            loop.run_forever()

        context.run(nested)

    (entry,) = same_as_asyncio(scenario).logged
    assert entry[2][0] is RuntimeError


# -- timers --------------------------------------------------------------------------------------------------------


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    after = time.monotonic()
    assert before <= now <= after


def test_timers_run_by_deadline_whatever_the_order_of_calls(loop, forever):
    ran = []
    start = loop.time()
    deadlines = [5, 1, 9, 3, 7, 2, 8, 4, 6, 0]
    for deadline in deadlines:
        loop.call_at(start + deadline / 1000, ran.append, deadline)
    loop.call_at(start + 0.010, loop.stop)
    forever()
    assert ran == sorted(deadlines)


@pytest.mark.zloop_only
def test_equal_deadlines_run_in_insertion_order(loop, forever):
    ran = []
    when = loop.time()
    for number in range(1000):
        loop.call_at(when, ran.append, number)
    loop.call_at(when, loop.stop)
    forever()
    assert ran == list(range(1000))


def test_timers_never_fire_early(loop, forever):
    resolution = time.get_clock_info("monotonic").resolution
    early_by = []

    def check(when):
        early_by.append(when - loop.time())

    start = loop.time()
    for number in range(200):
        when = start + number * 0.000_137
        loop.call_at(when, check, when)
    loop.call_at(start + 200 * 0.000_137, loop.stop)
    forever()
    assert len(early_by) == 200
    assert max(early_by) <= resolution


def test_lonely_timer_is_waited_for_without_spinning(loop, forever):
    fired = []
    when = loop.time() + 0.2
    loop.call_at(when, lambda: (fired.append(loop.time()), loop.stop()))
    cpu_before = time.thread_time()
    forever()
    assert fired[0] >= when - time.get_clock_info("monotonic").resolution
    assert time.thread_time() - cpu_before < 0.1  # half of the wait: a spinning loop takes all of it


def test_timer_handle_tells_its_deadline(loop):
    assert loop.call_at(12, print).when() == 12
    before = loop.time()
    when = loop.call_later(10, print).when()
    assert before + 10 <= when <= loop.time() + 10


def test_cancelled_timers_do_not_run_wherever_they_stand(loop, forever):
    ran = []
    start = loop.time()
    handles = [loop.call_at(start + number / 100_000, ran.append, number) for number in range(300)]
    for number in (0, 1, 150, 299):  # the next one due, its neighbour, one in the middle, the last
        handles[number].cancel()
        handles[number].cancel()
    loop.call_at(start + 0.003, loop.stop)
    forever()
    assert ran == [number for number in range(300) if number not in (0, 1, 150, 299)]
    assert handles[0].cancelled()


def test_timer_cancelled_after_it_ran(loop, forever):
    ran = []
    handle = loop.call_later(0, ran.append, "ran")
    loop.call_later(0.001, loop.stop)
    forever()
    handle.cancel()
    assert ran == ["ran"]
    assert handle.cancelled()
    loop.call_later(0.001, loop.stop)
    forever()
    assert ran == ["ran"]


def test_due_timer_cancelled_by_the_timer_before_it(loop, forever):
    ran = []
    start = loop.time() - 1
    loop.call_at(start, lambda: (ran.append("first"), second.cancel()))
    second = loop.call_at(start + 0.5, ran.append, "second")
    loop.call_later(0.001, loop.stop)
    forever()
    assert ran == ["first"]


def test_many_cancelled_timers_leave_the_others_intact(loop, forever):
    ran = []
    start = loop.time()
    handles = [loop.call_at(start + (number % 97) / 10_000, ran.append, number) for number in range(5000)]
    survivors = {number for number in range(5000) if number % 50 == 7}
    for number, handle in enumerate(handles):
        if number not in survivors:
            handle.cancel()
    loop.call_at(start + 0.01, loop.stop)
    forever()
    assert set(ran) == survivors
    assert len(ran) == len(survivors)
    assert [number % 97 for number in ran] == sorted(number % 97 for number in ran)


def test_timers_scheduled_and_cancelled_by_timers(loop, forever):
    ran = []

    def tick(number):
        ran.append(number)
        decoy = loop.call_later(0, ran.append, "decoy")
        decoy.cancel()
        if number == 50:
            loop.stop()
        else:
            loop.call_later(0, tick, number + 1)

    loop.call_later(0, tick, 0)
    forever()
    assert ran == list(range(51))


def test_timer_scheduled_by_a_due_timer_waits_for_the_next_turn(loop, forever):
    ran = []
    past = loop.time() - 1
    loop.call_at(past, lambda: (ran.append("first"), loop.call_at(past, ran.append, "scheduled by first")))
    loop.stop()
    forever()
    assert ran == ["first"]
    loop.stop()
    forever()
    assert ran == ["first", "scheduled by first"]


def test_far_timer_hides_neither_input_nor_other_threads(loop, forever):
    with socket_pair() as (left, right), ThreadPoolExecutor(1) as thread:
        told = []
        timer = loop.call_later(3600, told.append, "timer")
        loop.add_reader(left, lambda: (told.append("input"), loop.remove_reader(left), loop.stop()))
        thread.submit(right.send, b"x")
        forever()
        thread.submit(loop.call_soon_threadsafe, lambda: (told.append("thread"), loop.stop()))
        forever()
        timer.cancel()
    assert told == ["input", "thread"]


@pytest.mark.parametrize(
    "delay",
    [0, -1, -1e300, float("-inf"), True, 1e-12, 1e300, float("inf"), 10**12, float("nan"), 2**63 / 1e9, 24 * 3600.5],
    ids=repr,
)
def test_odd_delays(same_as_asyncio, delay):
    """Which delays fire at once, and which not within a few milliseconds."""

    def scenario(loop):
        ran = []
        timer = loop.call_later(delay, ran.append, "odd")
        loop.call_later(0.005, loop.stop)
        loop.call_soon(ran.append, "ready")
        loop.run_forever()
        timer.cancel()
        return ran, timer.when() - loop.time() > 3600

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.parametrize("delay", ["1", None, 10**400, [], b"1"], ids=["str", "None", "huge", "list", "bytes"])
def test_delays_that_are_no_number(same_as_asyncio, delay):
    def scenario(loop):
        return outcome_of(loop.call_later, delay, print)[:2]

    assert same_as_asyncio(scenario).returned[0] == "raised"


def test_delays_of_none_say_so(same_as_asyncio):
    def scenario(loop):
        return outcome_of(loop.call_later, None, print), outcome_of(loop.call_at, None, print)

    assert {outcome[1] for outcome in same_as_asyncio(scenario).returned} == {TypeError}


# -- calls from other threads --------------------------------------------------------------------------------------


def test_threadsafe_calls_keep_their_place_among_the_others(loop, forever):
    ran = []
    for number in range(0, 100, 2):
        loop.call_soon(ran.append, number)
        loop.call_soon_threadsafe(ran.append, number + 1)
    loop.call_soon(loop.stop)
    forever()
    assert ran == list(range(100))


def test_threadsafe_calls_keep_their_place_inside_a_callback(loop, forever):
    ran = []

    def schedule():
        loop.call_soon_threadsafe(ran.append, 1)
        loop.call_soon(ran.append, 2)
        loop.call_soon_threadsafe(ran.append, 3)
        loop.call_soon(loop.stop)

    loop.call_soon(schedule)
    forever()
    assert ran == [1, 2, 3]


def test_every_threadsafe_call_of_many_threads_runs_in_its_threads_order(loop, forever):
    count, threads = 2000, 4
    ran = [[] for _ in range(threads)]

    def note(thread, number):
        ran[thread].append(number)
        if sum(map(len, ran)) == count * threads:
            loop.stop()

    def call(thread):
        for number in range(count):
            loop.call_soon_threadsafe(note, thread, number)

    with ThreadPoolExecutor(threads) as pool:
        for thread in range(threads):
            pool.submit(call, thread)
        forever()
    assert ran == [list(range(count))] * threads


def test_no_wake_up_is_lost(loop, forever):
    """A thread answers each callback with the next call, so the loop is idle, or nearly so, every time."""
    turn = threading.Semaphore(0)
    rounds = []

    def answer():
        for _ in range(500):
            turn.acquire()
            loop.call_soon_threadsafe(note)

    def note():
        rounds.append(True)
        if len(rounds) == 500:
            loop.stop()
        else:
            turn.release()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(answer)
        turn.release()
        forever()
    assert len(rounds) == 500


def test_call_made_while_the_loop_does_not_run_is_kept(loop, forever):
    ran = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(ran.append, "from a thread"))
    thread.start()
    thread.join()
    loop.call_soon(loop.stop)
    forever()
    assert ran == ["from a thread"]


def test_threadsafe_handle_can_be_cancelled(loop, forever):
    ran = []
    handle = loop.call_soon_threadsafe(ran.append, "cancelled")
    handle.cancel()
    loop.call_soon(loop.stop)
    forever()
    assert ran == []


def test_loop_runs_in_any_thread(loop):
    async def which():
        return threading.get_ident(), asyncio.get_running_loop()

    with ThreadPoolExecutor(1) as pool:
        ident, running = pool.submit(lambda: loop.run_until_complete(which())).result()
    assert ident != threading.get_ident()
    assert running is loop
