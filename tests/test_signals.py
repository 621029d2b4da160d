"""Signals: add_signal_handler and its remover, beside programs that use the signal module themselves."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import Script, outcome_of, run_script, socket_pair, wakeup_fd


def raise_later(loop, number, delay=0.005):
    """Have another thread send this process a signal, by then probably to an idle loop."""
    timer = threading.Timer(delay, os.kill, (os.getpid(), number))
    timer.start()
    return timer


@pytest.fixture
def signal_handler():
    """Set a handler with signal.signal(); what was there before comes back after the test."""
    before = {}

    def set_handler(number, handler):
        before.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)

    yield set_handler
    for number, handler in before.items():
        signal.signal(number, handler)


# -- add_signal_handler and remove_signal_handler ------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGCHLD])
def test_handler_runs_in_the_loop(loop, forever, number):
    ran = []

    def handle(*args):
        ran.append((args, threading.get_ident(), loop.is_running()))
        loop.stop()

    assert loop.add_signal_handler(number, handle, 1, "two") is None
    timer = raise_later(loop, number)
    forever()
    timer.join()
    assert ran == [((1, "two"), threading.get_ident(), True)]
    assert loop.remove_signal_handler(number) is True
    assert loop.remove_signal_handler(number) is False


@pytest.mark.parametrize("replaced", [False, True], ids=["the loop's", "replaced"])
def test_a_busy_loop_is_not_late(loop, forever, signal_handler, replaced):
    """A loop that always has something to run looks for signals all the same: asyncio's in the second turn."""
    turns = 0
    handled = []

    def step():
        nonlocal turns
        turns += 1
        if turns == 50:
            signal.raise_signal(signal.SIGUSR1)
        if not handled:
            loop.call_soon(step)

    loop.add_signal_handler(signal.SIGUSR1, lambda: (handled.append(turns), loop.stop()))
    if replaced:
        signal_handler(signal.SIGUSR1, lambda *args: None)
    loop.call_soon(step)
    forever()
    assert 50 < handled[0] <= (50 + 20 if replaced else 52)


def test_handler_takes_its_turn(loop, forever):
    """A signal does not interrupt a callback: its handler is called by the loop after it."""
    ran = []

    def callback():
        signal.raise_signal(signal.SIGUSR1)
        ran.append("callback ends")

    loop.add_signal_handler(signal.SIGUSR1, lambda: (ran.append("handler"), loop.stop()))
    loop.call_soon(callback)
    forever()
    assert ran == ["callback ends", "handler"]


def test_signal_that_came_before_the_loop_ran_is_not_lost(loop, forever):
    told = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (told.append("signal"), loop.stop()))
    signal.raise_signal(signal.SIGUSR1)
    assert told == []
    forever()
    assert told == ["signal"]


def test_each_signal_has_its_handler(loop, forever):
    ran = set()

    def note(name):
        ran.add(name)
        if ran == {"one", "two"}:
            loop.stop()

    loop.add_signal_handler(signal.SIGUSR1, note, "one")
    loop.add_signal_handler(signal.SIGUSR2, note, "two")
    loop.call_soon(signal.raise_signal, signal.SIGUSR2)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    forever()
    assert ran == {"one", "two"}


def test_same_signal_again_and_again(loop, forever):
    ran = []

    def handle():
        ran.append(True)
        if len(ran) == 100:
            loop.stop()
        else:
            signal.raise_signal(signal.SIGUSR1)

    loop.add_signal_handler(signal.SIGUSR1, handle)
    signal.raise_signal(signal.SIGUSR1)
    forever()
    assert len(ran) == 100


def test_second_handler_replaces_the_first(loop, forever):
    ran = []
    loop.add_signal_handler(signal.SIGUSR1, ran.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, lambda: (ran.append("second"), loop.stop()))
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    forever()
    assert ran == ["second"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


def test_handler_removed_by_itself(loop, forever):
    ran = []
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: (ran.append(loop.remove_signal_handler(signal.SIGUSR1)), loop.stop())
    )
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    forever()
    assert ran == [True]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_failing_handler_is_reported(loop, forever, unhandled):
    def fail():
        loop.stop()
        raise LookupError("in the handler")

    loop.add_signal_handler(signal.SIGUSR1, fail)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    forever()
    assert isinstance(unhandled[0]["exception"], LookupError)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_removing_brings_the_default_back(loop, number):
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    loop.add_signal_handler(number, print)
    assert signal.getsignal(number) not in (default, print)
    loop.remove_signal_handler(number)
    assert signal.getsignal(number) is default


def test_closing_the_loop_removes_its_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert wakeup_fd() == -1


async def coroutine_function():
    pass


BAD_ARGUMENTS = {
    "SIGKILL": (signal.SIGKILL, print),
    "SIGSTOP": (signal.SIGSTOP, print),
    "zero": (0, print),
    "negative": (-1, print),
    "too big": (100_000, print),
    "text": ("SIGUSR1", print),
    "float": (10.0, print),
    "coroutine function": (signal.SIGUSR1, coroutine_function),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_signals_that_cannot_be_handled(same_as_asyncio, case):
    def scenario(loop):
        return [outcome_of(loop.add_signal_handler, *BAD_ARGUMENTS[case]), wakeup_fd()]

    outcome, wakeup = same_as_asyncio(scenario).returned
    assert outcome[0] == "raised"
    assert wakeup == -1


@pytest.mark.parametrize("case", [case for case in BAD_ARGUMENTS if case != "coroutine function"])
def test_handlers_that_cannot_be_there(same_as_asyncio, case):
    def scenario(loop):
        return outcome_of(loop.remove_signal_handler, BAD_ARGUMENTS[case][0])

    returned = same_as_asyncio(scenario).returned
    assert returned[0] == "raised" or returned[1] is False


def test_forbidden_signal_does_not_disturb_the_others(loop, forever):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    with pytest.raises(RuntimeError, match="sig 9 cannot be caught"):
        loop.add_signal_handler(signal.SIGKILL, print)
    loop.call_soon(signal.raise_signal, signal.SIGUSR1)
    forever()


def test_only_the_main_thread_handles_signals(same_as_asyncio):
    def scenario(loop):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(outcome_of, loop.add_signal_handler, signal.SIGUSR1, print).result()

    assert same_as_asyncio(scenario).returned[1] is RuntimeError


# -- the signal module beside it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("with_handlers", [False, True], ids=["alone", "with add_signal_handler"])
def test_handlers_of_the_signal_module_run_while_the_loop_is_idle(loop, forever, signal_handler, with_handlers):
    if with_handlers:
        loop.add_signal_handler(signal.SIGUSR1, print)
    ran = []
    signal_handler(signal.SIGUSR2, lambda *args: (ran.append(args[0]), loop.call_soon_threadsafe(loop.stop)))
    timer = raise_later(loop, signal.SIGUSR2)
    forever()
    timer.join()
    assert ran == [signal.SIGUSR2]


def test_exception_of_a_signal_handler_ends_the_wait(loop_kind):
    source = """
import signal

class Interruption(Exception):
    pass

def interrupt(*args):
    raise Interruption

signal.signal(signal.SIGUSR2, interrupt)
loop = new_event_loop()
loop.call_soon(lambda: print("running", flush=True))
try:
    loop.run_forever()
except Interruption:
    print("interrupted", loop.is_running())
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
"""
    with Script(loop_kind, source) as script:
        assert script.line() == "running"
        script.wait_until_asleep()
        script.send_signal(signal.SIGUSR2)
        assert script.finish() == ["interrupted False"]


def test_alarm_breaks_a_wait(loop_kind):
    source = """
import signal

class Alarm(Exception):
    pass

def ring(*args):
    raise Alarm

loop = new_event_loop()
for with_handler in (False, True):
    if with_handler:
        loop.add_signal_handler(signal.SIGUSR1, print)
    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        loop.run_forever()
    except Alarm:
        print("alarm")
loop.close()
"""
    assert run_script(loop_kind, source) == ["alarm", "alarm"]


@pytest.mark.parametrize("calls", [1, 2], ids=["before the first wait", "before a later one"])
def test_signal_in_the_last_callback_before_a_wait(loop, forever, signal_handler, calls):
    """No Python code runs between the two, if the callback is a function in C; the loop does not sleep over it."""
    signal_handler(signal.SIGUSR2, lambda *args: loop.call_soon(loop.stop))
    for number in range(calls):
        loop.call_later(0.005 * number, os.kill, os.getpid(), signal.SIGUSR2 if number == calls - 1 else 0)
    began = loop.time()
    forever()
    assert loop.time() - began < 2


def test_signal_without_a_handler_does_not_end_a_wait(loop, forever, signal_handler):
    """Interrupted system calls are taken up again: no callback runs early, nothing is raised."""
    signal_handler(signal.SIGUSR2, lambda *_args: None)
    fired = []
    when = loop.time() + 0.03
    loop.call_at(when, lambda: (fired.append(loop.time()), loop.stop()))
    timers = [raise_later(loop, signal.SIGUSR2, delay) for delay in (0.005, 0.010, 0.015)]
    forever()
    for timer in timers:
        timer.join()
    assert fired[0] >= when - 1e-6


def test_default_action_of_sigterm_still_kills(loop_kind):
    source = """
loop = new_event_loop()
loop.call_soon(lambda: print("running", flush=True))
loop.run_forever()
"""
    with Script(loop_kind, source) as script:
        assert script.line() == "running"
        script.wait_until_asleep()
        script.send_signal(signal.SIGTERM)
        script.finish(status=-signal.SIGTERM)


def test_sigint_handler_replaces_the_interrupt(loop_kind):
    source = """
import signal
loop = new_event_loop()
loop.add_signal_handler(signal.SIGINT, lambda: (print("handled"), loop.stop()))
loop.call_soon(lambda: print("running", flush=True))
loop.run_forever()
loop.remove_signal_handler(signal.SIGINT)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted again")
loop.close()
"""
    with Script(loop_kind, source) as script:
        assert script.line() == "running"
        script.wait_until_asleep()
        script.send_signal(signal.SIGINT)
        assert script.finish() == ["handled", "interrupted again"]


# -- storms --------------------------------------------------------------------------------------------------------


@pytest.mark.zloop_only  # asyncio's complains of each that does not fit
def test_storm_of_signals(loop, forever):
    """More of them in one callback than the pipe holds that they come by: no complaint, and the loop goes on."""
    count = 70_000  # a pipe holds 65,536 bytes
    handled, seen = [], []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: seen.append(number))
    try:
        loop.add_signal_handler(signal.SIGUSR1, handled.append, True)

        def raise_many():
            for _ in range(count):
                signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)
            loop.call_later(0.01, stop_when_quiet, -1)

        def stop_when_quiet(last):
            if len(handled) == last:
                loop.stop()
            else:
                loop.call_later(0.01, stop_when_quiet, len(handled))

        loop.call_soon(raise_many)
        forever()
        assert 0 < len(handled) <= count
        assert seen == [signal.SIGUSR2]
        handled.clear()
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.call_later(0.01, loop.stop)
        forever()
        assert handled == [True]
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
        signal.signal(signal.SIGUSR2, before)


def test_storm_of_ending_children(loop, run):
    """Hundreds at a time, the loop's and others, while the program has a handler for SIGCHLD: each is told once."""
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda number, _frame: seen.append(number))

    async def end_of_one():
        process = await asyncio.create_subprocess_exec("true")
        return await process.wait()

    async def scenario():
        others = [subprocess.Popen("true") for _ in range(50)]
        codes = await asyncio.gather(*[end_of_one() for _ in range(200)])
        assert set(codes) == {0}
        assert {other.wait() for other in others} == {0}

    try:
        run(scenario())
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert set(seen) == {signal.SIGCHLD}


# -- the wake-up descriptor ----------------------------------------------------------------------------------------


def test_loop_without_handlers_leaves_the_wake_up_descriptor_alone(loop, run):
    with socket_pair() as (left, _right):
        before = signal.set_wakeup_fd(left.fileno())
        try:
            loop.call_soon(loop.stop)
            loop.run_forever()
            assert wakeup_fd() == left.fileno()
            loop.close()
            assert wakeup_fd() == left.fileno()
        finally:
            signal.set_wakeup_fd(before)


def test_run_that_never_waits_leaves_the_wake_up_descriptor_alone(loop):
    with socket_pair() as (left, _right):
        before = signal.set_wakeup_fd(left.fileno())
        seen = []
        try:
            loop.call_soon(lambda: (seen.append(wakeup_fd()), loop.stop()))
            loop.run_forever()
            assert seen == [left.fileno()]
        finally:
            signal.set_wakeup_fd(before)


@pytest.mark.zloop_only  # asyncio resets it
@pytest.mark.parametrize("how", ["remove", "close", "forbidden"])
def test_wake_up_descriptor_of_the_program_comes_back(loop, how):
    with socket_pair() as (left, _right):
        before = signal.set_wakeup_fd(left.fileno())
        try:
            if how == "forbidden":
                with pytest.raises(RuntimeError):
                    loop.add_signal_handler(signal.SIGKILL, print)
            else:
                loop.add_signal_handler(signal.SIGUSR1, print)
                assert wakeup_fd() not in (-1, left.fileno())
                loop.remove_signal_handler(signal.SIGUSR1)
            if how == "close":
                loop.add_signal_handler(signal.SIGUSR1, print)
                loop.close()
            assert wakeup_fd() == left.fileno()
        finally:
            signal.set_wakeup_fd(before)


@pytest.mark.zloop_only  # asyncio's second loop goes deaf
def test_closing_one_loop_leaves_the_handlers_of_another(make_loop):
    first, second = make_loop(), make_loop()
    ran = []
    first.add_signal_handler(signal.SIGUSR1, print)
    second.add_signal_handler(signal.SIGUSR2, lambda: (ran.append(True), second.stop()))
    first.close()
    timer = raise_later(second, signal.SIGUSR2)
    second.call_later(5, second.stop)
    second.run_forever()
    timer.join()
    assert ran == [True]


@pytest.mark.zloop_only  # asyncio's first loop goes deaf
def test_handlers_of_a_loop_that_runs_again_after_another(make_loop):
    """Busy from its first turn on, it hears of its signals all the same."""
    first, second = make_loop(), make_loop()
    ran = []
    first.add_signal_handler(signal.SIGUSR1, lambda: (ran.append(True), first.stop()))
    second.call_later(0.001, second.stop)
    second.add_signal_handler(signal.SIGUSR2, print)
    second.run_forever()

    def step(turns_left):
        if turns_left:
            first.call_soon(step, turns_left - 1)
        else:
            first.stop()

    first.call_soon(signal.raise_signal, signal.SIGUSR1)
    first.call_soon(step, 1000)
    first.run_forever()
    assert ran == [True]


def test_loops_one_after_the_other_handle_signals(make_loop):
    ran = []
    for number in (1, 2):
        loop = make_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda number=number, loop=loop: (ran.append(number), loop.stop()))
        loop.call_soon(signal.raise_signal, signal.SIGUSR1)
        loop.run_forever()
        loop.close()
    assert ran == [1, 2]


# -- fork ----------------------------------------------------------------------------------------------------------


@pytest.mark.zloop_only  # asyncio's child takes descriptors out of the parent's poll set
@pytest.mark.parametrize("action", ["loop.remove_reader(left)", "loop.close()"])
def test_what_a_forked_child_does_to_the_loop_does_not_touch_the_parents(loop_kind, action):
    source = f"""
import os, socket, threading
loop = new_event_loop()
left, right = socket.socketpair()
loop.add_reader(left, loop.stop)
pid = os.fork()
if pid == 0:
    {action}
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
watchdog = loop.call_later(5, lambda: (print("lost"), loop.stop()))
right.send(b"x")
loop.run_forever()
loop.remove_reader(left)
thread = threading.Timer(0.01, loop.call_soon_threadsafe, [loop.stop])
thread.start()
loop.run_forever()
thread.join()
loop.close()
left.close()
right.close()
print("done")
"""
    assert run_script(loop_kind, source) == ["done"]


def test_child_that_exits_at_once_does_not_disturb(loop, forever):
    left, right = socket.socketpair()
    with left, right:
        loop.add_reader(left, loop.stop)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        right.send(b"x")
        forever()
        loop.remove_reader(left)


@pytest.mark.zloop_only
def test_signal_among_many_callbacks_of_threads_is_not_lost(loop, forever):
    """They wake the loop up in a way of their own: asyncio's is full by then, and the interpreter drops the signal."""
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)

    def occupy():
        for _ in range(2000):
            loop.call_soon_threadsafe(int)
        os.kill(os.getpid(), signal.SIGUSR1)

    loop.call_soon(occupy)
    forever()
    assert loop.remove_signal_handler(signal.SIGUSR1)


@pytest.mark.zloop_only  # asyncio gives up the wake-up descriptor, or tries to, in another order
def test_handler_that_another_thread_cannot_remove_keeps_the_wakeup_descriptor_until_the_main_one_runs(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    with ThreadPoolExecutor(1) as executor:
        outcome = executor.submit(outcome_of, loop.remove_signal_handler, signal.SIGUSR1).result()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert outcome[:2] == ("raised", ValueError)
    assert wakeup_fd() != -1
    loop.run_until_complete(asyncio.sleep(0))
    assert wakeup_fd() == -1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM])
@pytest.mark.zloop_only  # asyncio forgets the handler that was there
def test_handler_that_cannot_be_replaced_stays(loop, monkeypatch, number):
    def refuse(*_args):
        raise OSError(number, "refused")

    seen = []
    loop.add_signal_handler(signal.SIGUSR1, lambda: (seen.append("first"), loop.stop()))
    with monkeypatch.context() as patch:
        patch.setattr(signal, "siginterrupt", refuse)
        with pytest.raises(RuntimeError if number == errno.EINVAL else PermissionError):
            loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")
    signal.raise_signal(signal.SIGUSR1)
    loop.run_forever()
    assert seen == ["first"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM])
@pytest.mark.zloop_only  # asyncio leaves its wake-up descriptor to the interpreter, and closes it
def test_handler_that_cannot_be_taken_back(loop, monkeypatch, number):
    def refuse(*_args):
        raise OSError(number, "refused")

    loop.add_signal_handler(signal.SIGUSR1, print)
    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", refuse)
        with pytest.raises(RuntimeError if number == errno.EINVAL else PermissionError):
            loop.remove_signal_handler(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert wakeup_fd() == -1
    assert not loop.remove_signal_handler(signal.SIGUSR1)


def test_loop_that_is_closed_while_the_interpreter_ends(loop, monkeypatch):
    loop.add_signal_handler(signal.SIGUSR1, print)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "is_finalizing", lambda: True)
        with pytest.warns(ResourceWarning, match="skipping signal handlers removal"):
            loop.close()
    assert loop.is_closed()
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)


@pytest.mark.zloop_only
def test_loop_in_a_thread_that_only_the_threading_module_takes_for_the_main_one(loop, monkeypatch):
    """As where another thread than the main one was the first to import it."""
    monkeypatch.setattr(threading, "main_thread", threading.current_thread)
    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(loop.run_until_complete, asyncio.sleep(0.001, "slept")).result() == "slept"
    assert wakeup_fd() == -1
