"""Debug mode: slow callbacks, calls from the wrong thread, coroutines where callbacks belong, origins of things."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import (
    FREE_THREADED,
    LOCALHOST,
    TIME_LIMIT,
    assert_silent,
    enable_debug,
    engine_objects,
    outcome_of,
    run_script,
)
from tls_support import stop


async def coroutine_function():
    pass


def callback(*args):
    pass


def test_debug_mode_is_asked_and_set(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(enabled=False)
    assert loop.get_debug() is False


def test_slow_callback_duration_is_a_plain_attribute(loop):
    assert loop.slow_callback_duration == 0.1
    loop.slow_callback_duration = 2
    assert loop.slow_callback_duration == 2


@pytest.mark.parametrize("flag", ["-X dev", "PYTHONASYNCIODEBUG"])
def test_interpreter_wide_debug_mode(loop_kind, flag):
    """A new loop asks what asyncio asks: development mode or the environment."""
    command = "import subprocess, sys, os"
    arguments = "['-X', 'dev'], {}" if flag == "-X dev" else "[], {'PYTHONASYNCIODEBUG': '1'}"
    child = "loop = new_event_loop(); print(loop.get_debug()); loop.close()"
    source = f"""
{command}
options, environment = {arguments}
code = {f"from {loop_kind} import new_event_loop; {child}"!r}
print(subprocess.check_output([sys.executable, "-P", *options, "-c", code], env=os.environ | environment, text=True))
"""
    assert run_script(loop_kind, source)[0] == "True"


# -- slow callbacks ------------------------------------------------------------------------------------------------


def slow_reports(loop, log):
    """Run what is scheduled, with everything counting as slow; return the reports, without those of the loop's own."""
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    loop.call_later(0.001, loop.stop)
    loop.run_forever()
    loop.slow_callback_duration = float("inf")
    own = "BaseEventLoop.stop", "Loop.stop", "_read_from_self"
    return sorted(message for message in log.take_messages() if not any(name in message for name in own))


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "call_soon_threadsafe"])
def test_slow_callbacks_are_reported(same_as_asyncio, loop_log, schedule):
    def scenario(loop):
        enable_debug(loop)
        delay = [0] if schedule == "call_later" else []
        getattr(loop, schedule)(*delay, callback, "argument")
        return slow_reports(loop, loop_log)

    (report,) = same_as_asyncio(scenario).returned
    assert report.startswith("Executing <")
    assert "callback('argument')" in report
    assert "took" in report


def test_slow_tasks_are_reported_as_tasks(same_as_asyncio, loop_log):
    def scenario(loop):
        enable_debug(loop)
        task = loop.create_task(coroutine_function(), name="slow one")
        reports = slow_reports(loop, loop_log)
        loop.run_until_complete(task)
        return reports

    (report,) = same_as_asyncio(scenario).returned
    assert report.startswith("Executing <Task finished name='slow one'")


def test_slow_callback_that_cancels_itself_is_still_told(same_as_asyncio, loop_log):
    def scenario(loop):
        enable_debug(loop)
        handle = loop.call_soon(lambda argument: handle.cancel(), "argument")
        return slow_reports(loop, loop_log)

    (report,) = same_as_asyncio(scenario).returned
    assert "'argument'" in report


def test_failing_slow_callback(same_as_asyncio, loop_log):
    def scenario(loop):
        enable_debug(loop)
        loop.set_exception_handler(lambda loop, context: None)
        loop.call_soon(int, "no number")
        return slow_reports(loop, loop_log)

    assert len(same_as_asyncio(scenario).returned) == 1


def test_quick_callbacks_are_not_reported(loop, forever):
    loop.set_debug(True)
    loop.slow_callback_duration = TIME_LIMIT
    with assert_silent(loop):
        loop.call_soon(callback)
        loop.call_later(0.001, loop.stop)
        forever()


def test_nothing_is_reported_outside_debug_mode(loop, forever):
    loop.slow_callback_duration = 0
    with assert_silent(loop):
        loop.call_soon(callback)
        loop.call_later(0.001, loop.stop)
        forever()


# -- the wrong thread ----------------------------------------------------------------------------------------------

FROM_A_THREAD = {
    "call_soon": lambda loop: loop.call_soon(callback),
    "call_later": lambda loop: loop.call_later(1, callback),
    "call_at": lambda loop: loop.call_at(1, callback),
    "create_future": lambda loop: loop.create_future().done(),
}


@pytest.mark.parametrize(
    "debug",
    [
        True,
        # Without a GIL, zloop always refuses them: test_threads.py.
        pytest.param(False, marks=pytest.mark.skipif(FREE_THREADED, reason="asyncio lets such calls race")),
    ],
    ids=["debug", "no debug"],
)
@pytest.mark.parametrize("method", FROM_A_THREAD)
def test_calls_from_the_wrong_thread(same_as_asyncio, method, debug):
    def scenario(loop):
        if debug:
            enable_debug(loop)
        outcomes = []
        with ThreadPoolExecutor(1) as pool:
            loop.call_soon(lambda: outcomes.append(pool.submit(outcome_of, FROM_A_THREAD[method], loop).result()))
            loop.call_soon(loop.stop)
            loop.run_forever()
        if outcomes[0][0] == "raised":
            return outcomes[0]
        return outcomes[0][0]

    returned = same_as_asyncio(scenario).returned
    assert (returned[0] == "raised") == (debug and method != "create_future")


def test_threadsafe_call_from_another_thread_is_right(loop, forever):
    enable_debug(loop)
    ran = []
    with ThreadPoolExecutor(1) as pool:
        loop.call_soon(pool.submit, loop.call_soon_threadsafe, lambda: (ran.append(True), loop.stop()))
        forever()
    assert ran == [True]


def test_loop_that_does_not_run_belongs_to_no_thread(loop, forever):
    enable_debug(loop)
    ran = []
    with ThreadPoolExecutor(1) as pool:
        pool.submit(loop.call_soon, lambda: (ran.append(True), loop.stop())).result()
    forever()
    assert ran == [True]


# -- coroutines as callbacks ---------------------------------------------------------------------------------------

REGISTRATIONS = {
    "call_soon": lambda loop, thing: loop.call_soon(thing),
    "call_soon_threadsafe": lambda loop, thing: loop.call_soon_threadsafe(thing),
    "call_later": lambda loop, thing: loop.call_later(1, thing),
    "call_at": lambda loop, thing: loop.call_at(1, thing),
    "run_in_executor": lambda loop, thing: loop.run_in_executor(None, thing),
}


@pytest.mark.parametrize("method", REGISTRATIONS)
def test_coroutines_are_no_callbacks(same_as_asyncio, method):
    def scenario(loop):
        enable_debug(loop)
        coroutine = coroutine_function()
        things = [coroutine, coroutine_function, None, "text"]
        outcomes = [outcome_of(REGISTRATIONS[method], loop, thing) for thing in things]
        coroutine.close()
        return outcomes

    assert {outcome[1] for outcome in same_as_asyncio(scenario).returned} == {TypeError}


# -- where things come from ----------------------------------------------------------------------------------------


def test_reports_tell_where_the_handle_was_made(loop, forever, unhandled):
    enable_debug(loop)
    loop.call_soon(int, "no number")
    loop.call_later(0, int, "no number")
    loop.call_soon_threadsafe(int, "no number")
    loop.call_later(0.001, loop.stop)
    forever()
    origins = [context["source_traceback"][-1] for context in unhandled]
    assert {origin.filename for origin in origins} == {__file__}
    assert [origin.name for origin in origins] == ["test_reports_tell_where_the_handle_was_made"] * 3


def test_default_report_tells_where_the_handle_was_made(loop, forever, loop_log):
    enable_debug(loop)
    loop.call_soon(int, "no number")
    loop.call_soon(loop.call_exception_handler, {"message": "told"})
    loop.call_soon(loop.stop)
    forever()
    first, second = loop_log.take_messages()
    assert "Object created at (most recent call last):" in first
    assert "Handle created at (most recent call last):" in second
    assert __file__ in first
    assert __file__ in second


def test_tasks_tell_where_they_were_made(loop, run):
    async def scenario():
        return repr(loop.create_task(asyncio.sleep(0)))

    enable_debug(loop)
    assert f"created at {__file__}:" in run(scenario())


def test_origins_of_coroutines_are_tracked_while_a_debug_loop_runs(loop, forever):
    depths = []
    before = sys.get_coroutine_origin_tracking_depth()
    enable_debug(loop)
    loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    loop.call_soon(loop.stop)
    forever()
    assert depths[0] > before
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_debug_mode_can_be_switched_while_the_loop_runs(loop, run):
    async def scenario():
        depths = []
        for enabled in (True, False):
            loop.set_debug(enabled)
            loop.slow_callback_duration = float("inf")
            for _ in range(2):
                await asyncio.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth())
        return depths

    tracked, untracked = run(scenario())
    assert tracked > untracked == sys.get_coroutine_origin_tracking_depth()


# -- what there is ---------------------------------------------------------------------------------------------------


@pytest.mark.zloop_only
def test_debug_info_says_what_the_loop_has_to_do(loop, run, capsys):
    async def scenario():
        server = await loop.create_server(asyncio.Protocol, LOCALHOST, 0)
        loop.call_soon(callback)
        timer = loop.call_later(TIME_LIMIT, callback)
        loop.print_debug_info()
        timer.cancel()
        await stop(server)

    run(scenario())
    printed = capsys.readouterr().err
    lines = {line.split(maxsplit=1)[1]: line.split()[0] for line in printed.splitlines()[1:]}
    assert printed.startswith("Loop at 0x")
    assert printed.splitlines()[0].endswith(", running")
    assert int(lines["callbacks that are ready"]) >= 1
    assert int(lines["timers"]) >= 1
    assert lines["descriptors that are watched"] == "1"


@pytest.mark.zloop_only
def test_engine_objects_are_counted_for_the_process(loop):
    """Each extension module has an engine of its own, and they all count together."""
    before = engine_objects()
    if not before:
        pytest.skip("this zloop was not built to count the engine's objects")
    server = loop.run_until_complete(loop.create_server(asyncio.Protocol, LOCALHOST, 0))
    assert engine_objects() - before == {"Listener": 1}
    loop.run_until_complete(stop(server))
    assert before["Reactor"] >= 1
