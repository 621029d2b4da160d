"""Starting, stopping and closing a loop: exceptions that leave it, and Ctrl-C."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import Script, close_loop, fill, info_of, new_loop, outcome_of, run_script, socket_pair

# -- exceptions that leave the loop --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["ready", "due"])
def test_due_timers_keep_their_place_when_an_exception_ends_the_turn(same_as_asyncio, place):
    """Behind what was ready before this turn, and before what has been scheduled in it."""

    def scenario(loop):
        ran = []

        def leave():
            loop.call_soon(ran.append, "scheduled in the turn")
            raise SystemExit

        if place == "ready":
            loop.call_soon(loop.call_soon, ran.append, "scheduled in the turn before")
            loop.call_soon(leave)
            loop.call_soon(ran.append, "ready")
        else:
            loop.call_at(0, leave)
        loop.call_at(1, ran.append, "due")
        for _ in range(2):
            try:
                loop.call_soon(loop.stop)
                loop.run_forever()
            except SystemExit:
                ran.append("left")
        return ran

    ran = same_as_asyncio(scenario).returned
    assert ran.index("left") < ran.index("due") < ran.index("scheduled in the turn")


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "add_reader"])
def test_leaving_exception_keeps_the_rest_of_the_batch(loop, forever, exception, schedule):
    ran = []

    def leave():
        loop.remove_reader(left)
        raise exception("leaving")

    with socket_pair() as (left, right):
        right.send(b"x")
        if schedule == "add_reader":
            loop.add_reader(left, leave)
        else:
            getattr(loop, schedule)(*([0] if schedule == "call_later" else []), leave)
        loop.call_at(loop.time() + 0.001, ran.append, "rest")
        with pytest.raises(exception, match="leaving"):
            loop.run_forever()
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None
    loop.call_later(0.002, loop.stop)
    forever()
    assert ran == ["rest"]


def test_leaving_exception_keeps_what_was_ready_behind_it(loop, forever):
    ran = []

    def leave():
        raise SystemExit(3)

    loop.call_soon(ran.append, 1)
    loop.call_soon(leave)
    loop.call_soon(ran.append, 2)
    loop.call_soon(ran.append, 3)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert ran == [1]
    loop.call_soon(loop.stop)
    forever()
    assert ran == [1, 2, 3]


def test_stop_does_not_outlive_a_leaving_exception(loop, forever):
    ran = []

    def stop_and_leave():
        loop.stop()
        raise KeyboardInterrupt

    loop.call_soon(stop_and_leave)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.call_soon(lambda: loop.call_soon(lambda: (ran.append(True), loop.stop())))
    forever()
    assert ran == [True]


def test_other_exceptions_are_reported_and_the_loop_goes_on(loop, forever, unhandled):
    error = ValueError("broken")
    ran = []

    def fail():
        raise error

    handle = loop.call_soon(fail)
    loop.call_soon(ran.append, "next")
    loop.call_soon(loop.stop)
    forever()
    assert ran == ["next"]
    (context,) = unhandled
    assert context["exception"] is error
    assert context["handle"] is handle
    assert context["message"].startswith("Exception in callback ")


def test_exception_report_is_asyncios(same_as_asyncio):
    def fail(*args):
        raise ZeroDivisionError("broken")

    def scenario(loop):
        loop.call_soon(fail, 1, "two")
        loop.call_later(0, fail)
        loop.call_soon_threadsafe(fail, None)
        loop.call_later(0.002, loop.stop)
        loop.run_forever()

    assert len(same_as_asyncio(scenario).logged) == 3


def test_asyncio_cancelled_error_in_a_callback_is_reported(loop, forever, unhandled):
    def fail():
        raise asyncio.CancelledError

    loop.call_soon(fail)
    loop.call_soon(loop.stop)
    forever()
    assert isinstance(unhandled[0]["exception"], asyncio.CancelledError)


# -- running, stopping, closing ------------------------------------------------------------------------------------


def test_run_until_complete_returns_and_raises(loop):
    async def succeed():
        await asyncio.sleep(0)
        return "value"

    async def fail():
        await asyncio.sleep(0)
        raise LookupError("broken")

    assert loop.run_until_complete(succeed()) == "value"
    with pytest.raises(LookupError, match="broken"):
        loop.run_until_complete(fail())
    future = loop.create_future()
    loop.call_soon(future.set_result, "later")
    assert loop.run_until_complete(future) == "later"
    assert loop.run_until_complete(future) == "later"


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_run_until_complete_lets_exit_through(loop, exception):
    async def leave():
        raise exception("leaving")

    with pytest.raises(exception, match="leaving"):
        loop.run_until_complete(leave())
    assert loop.run_until_complete(asyncio.sleep(0, "usable")) == "usable"


def test_run_until_complete_of_what_cannot_be_run(same_as_asyncio):
    def scenario(loop):
        other = asyncio.SelectorEventLoop()
        try:
            return [outcome_of(loop.run_until_complete, thing) for thing in (None, 42, print, other.create_future())]
        finally:
            other.close()

    outcomes = same_as_asyncio(scenario).returned
    assert {outcome[0] for outcome in outcomes} == {"raised"}


def test_run_until_complete_stopped_too_soon(same_as_asyncio):
    def scenario(loop):
        loop.call_soon(loop.stop)
        loop.run_until_complete(loop.create_future())

    assert same_as_asyncio(scenario).raised is RuntimeError


def test_future_stopped_too_soon_can_be_awaited_again(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError):
        loop.run_until_complete(future)
    loop.call_soon(future.set_result, 1)
    loop.call_soon(lambda: None)
    assert loop.run_until_complete(future) == 1


def test_states_while_running_and_after(loop, forever):
    states = []

    def note():
        states.append((loop.is_running(), loop.is_closed(), asyncio.get_running_loop() is loop))

    assert not loop.is_running()
    loop.call_soon(note)
    loop.call_soon(loop.stop)
    forever()
    assert states == [(True, False, True)]
    assert not loop.is_running()
    loop.close()
    assert loop.is_closed()
    assert not loop.is_running()
    loop.close()
    assert loop.is_closed()


@pytest.mark.zloop_only  # asyncio takes from an empty queue: IndexError
@pytest.mark.parametrize("schedule", ["call_soon", "call_later"])
def test_turn_inside_a_callback_runs_what_is_left_of_the_batch(loop, schedule):
    ran = []

    def nest():
        ran.append("begin")
        loop._run_once()
        ran.append("end")

    delay = [0] if schedule == "call_later" else []
    for callback, *arguments in ((nest,), (ran.append, 1), (ran.append, 2), (loop.stop,)):
        getattr(loop, schedule)(*delay, callback, *arguments)
    loop.run_forever()
    assert ran == ["begin", 1, 2, "end"]


@pytest.mark.parametrize("nested", ["run_forever", "run_until_complete", "close"])
def test_loop_inside_itself_is_refused(same_as_asyncio, nested):
    def scenario(loop):
        outcomes = []
        arguments = [loop.create_future()] if nested == "run_until_complete" else []
        loop.call_soon(lambda: outcomes.append(outcome_of(getattr(loop, nested), *arguments)))
        loop.call_soon(loop.stop)
        loop.run_forever()
        return outcomes

    assert same_as_asyncio(scenario).returned[0][1] is RuntimeError


def test_loop_inside_another_kind_is_refused(loop):
    other = asyncio.SelectorEventLoop()
    try:
        other.call_soon(other.stop)
        outcomes = []
        other.call_soon(lambda: outcomes.append(outcome_of(loop.run_forever)))
        other.run_forever()
    finally:
        other.close()
    assert outcomes == [("raised", RuntimeError, "Cannot run the event loop while another loop is running")]


@pytest.mark.zloop_only  # refused by asyncio as well, but 3.13.0 takes the refusal for the end of the loop
def test_running_loop_cannot_be_run_by_another_thread(loop, forever):
    outcomes = []
    with ThreadPoolExecutor(1) as pool:
        loop.call_soon(lambda: outcomes.append(pool.submit(outcome_of, loop.run_forever).result()))
        loop.call_soon(lambda: outcomes.append(loop.is_running()))
        loop.call_soon(loop.stop)
        forever()
    assert outcomes == [("raised", RuntimeError, "This event loop is already running"), True]


CLOSED_LOOP_CALLS = {
    "call_soon": lambda loop, future, fd: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop, future, fd: loop.call_soon_threadsafe(print),
    "call_later": lambda loop, future, fd: loop.call_later(1, print),
    "call_at": lambda loop, future, fd: loop.call_at(1, print),
    "run_forever": lambda loop, future, fd: loop.run_forever(),
    "run_until_complete": lambda loop, future, fd: loop.run_until_complete(future),
    "create_task": lambda loop, future, fd: loop.create_task(None),
    "run_in_executor": lambda loop, future, fd: loop.run_in_executor(None, print),
    "add_reader": lambda loop, future, fd: loop.add_reader(fd, print),
    "add_writer": lambda loop, future, fd: loop.add_writer(fd, print),
    "remove_reader": lambda loop, future, fd: loop.remove_reader(fd),
    "remove_writer": lambda loop, future, fd: loop.remove_writer(fd),
    "add_signal_handler": lambda loop, future, fd: loop.add_signal_handler(signal.SIGUSR1, print),
    "remove_signal_handler": lambda loop, future, fd: loop.remove_signal_handler(signal.SIGUSR1),
    "stop": lambda loop, future, fd: loop.stop(),
    "close": lambda loop, future, fd: loop.close(),
    "is_running": lambda loop, future, fd: loop.is_running(),
    "create_future": lambda loop, future, fd: loop.create_future().done(),
    "set_debug": lambda loop, future, fd: loop.set_debug(True),
    "get_exception_handler": lambda loop, future, fd: loop.get_exception_handler(),
}


@pytest.mark.parametrize("name", CLOSED_LOOP_CALLS)
def test_calls_on_a_closed_loop(same_as_asyncio, name):
    def scenario(loop):
        future = loop.create_future()
        loop.close()
        with socket_pair() as (left, _right):
            return outcome_of(CLOSED_LOOP_CALLS[name], loop, future, left.fileno())

    returned = same_as_asyncio(scenario).returned
    if name in ("call_soon", "call_soon_threadsafe", "call_later", "run_forever"):
        assert returned == ("raised", RuntimeError, "Event loop is closed")


@pytest.mark.parametrize("name", ["sock_recv", "sock_accept", "sock_connect", "create_connection"])
def test_coroutines_on_a_closed_loop(same_as_asyncio, name):
    def scenario(loop):
        loop.close()
        with socket_pair() as (left, _right):
            arguments = {
                "sock_recv": (left, 10),
                "sock_accept": (left,),
                "sock_connect": (left, ("127.0.0.1", 1)),
                "create_connection": (asyncio.Protocol, "localhost", 1),
            }[name]
            coroutine = getattr(loop, name)(*arguments)
            return outcome_of(coroutine.send, None)

    assert same_as_asyncio(scenario).returned[0] == "raised"


def test_closing_drops_what_was_scheduled(loop):
    ran = []
    loop.call_soon(ran.append, 1)
    loop.call_later(0, ran.append, 2)
    loop.call_soon_threadsafe(ran.append, 3)
    loop.close()
    assert ran == []


def test_handle_can_be_cancelled_after_the_loop_was_closed(loop):
    handles = [loop.call_soon(print), loop.call_later(1, print), loop.call_soon_threadsafe(print)]
    loop.close()
    for handle in handles:
        handle.cancel()
        assert handle.cancelled()


@pytest.mark.parametrize("state", ["fresh", "debug", "closed", "running"])
def test_repr_tells_the_state(same_as_asyncio, state):
    def scenario(loop):
        if state == "debug":
            loop.set_debug(True)
        if state == "closed":
            loop.close()
        if state == "running":
            told = []
            loop.call_soon(lambda: (told.append(info_of(loop)), loop.stop()))
            loop.run_forever()
            return told[0]
        return info_of(loop)

    assert "closed=" in same_as_asyncio(scenario).returned


def test_loops_one_after_the_other_and_side_by_side(make_loop):
    async def hello(name):
        await asyncio.sleep(0.001)
        return name, asyncio.get_running_loop()

    first, second = make_loop(), make_loop()
    assert first.run_until_complete(hello(1)) == (1, first)
    assert second.run_until_complete(hello(2)) == (2, second)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(loop.run_until_complete, hello(loop)) for loop in (first, second)]
        assert [future.result() for future in futures] == [(first, first), (second, second)]


def test_subclass_may_override_what_it_likes(loop_kind):
    base = type(new := new_loop(loop_kind))
    close_loop(new)

    class CountingLoop(base):
        calls = 0

        def call_soon(self, *args, **kwargs):
            self.calls += 1
            return super().call_soon(*args, **kwargs)

    loop = CountingLoop()
    try:
        assert loop.run_until_complete(asyncio.sleep(0, "value")) == "value"
        assert loop.calls > 0
        loop.attribute = "anything"
    finally:
        close_loop(loop)


# -- Ctrl-C --------------------------------------------------------------------------------------------------------


def test_ctrl_c_interrupts_an_idle_loop(loop_kind):
    source = """
loop = new_event_loop()
loop.call_soon(print, "running")
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted", loop.is_running())
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
"""
    with Script(loop_kind, f"import functools; print = functools.partial(print, flush=True)\n{source}") as script:
        assert script.line() == "running"
        script.wait_until_asleep()
        script.send_signal(signal.SIGINT)
        assert script.finish() == ["interrupted False"]


def test_ctrl_c_cancels_the_main_task_of_a_runner(loop_kind):
    source = """
import asyncio

async def main():
    print("running", flush=True)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled")
        raise

try:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""
    with Script(loop_kind, source) as script:
        assert script.line() == "running"
        script.wait_until_asleep()
        script.send_signal(signal.SIGINT)
        assert script.finish() == ["cancelled", "interrupted"]


def test_ctrl_c_interrupts_a_busy_loop(loop_kind):
    source = """
import signal
loop = new_event_loop()
turns = 0

def again():
    global turns
    turns += 1
    if turns == 100:
        signal.raise_signal(signal.SIGINT)
    loop.call_soon(again)

loop.call_soon(again)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.close()
"""
    assert run_script(loop_kind, source) == ["interrupted"]


def test_interpreter_may_exit_with_an_open_loop(loop_kind):
    """Whoever forgets to close the loop gets a warning and not a crash."""
    source = """
import warnings
warnings.simplefilter("ignore")
loop = new_event_loop()
loop.call_soon(print)
loop.call_later(1, print)
loop.call_soon_threadsafe(print)
print("done")
"""
    assert run_script(loop_kind, source) == ["done"]


def test_filling_the_wake_up_channel_blocks_nobody(loop, forever):
    """Far more thread-safe calls than a pipe has room for wake-ups, all made while the loop does not run."""
    with socket_pair() as (left, _right):
        room = fill(left)
    ran = []
    for number in range(room // 100):
        loop.call_soon_threadsafe(ran.append, number)
    loop.call_soon(loop.stop)
    forever()
    assert ran == list(range(room // 100))
