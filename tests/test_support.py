"""What the tests lean on sees what it is to see: the comparison with asyncio, and the helper for tests of silence."""

import asyncio
import logging
import os
import shutil
import signal
import sys
import threading

import pytest
import support
from support import FIRST_PORT, LAST_PORT, Outcome, alike, assert_silent, new_loop, observe

# -- the comparison with asyncio -----------------------------------------------------------------------------------

EQUAL = {
    "ephemeral ports": (f"laddr=('127.0.0.1', {FIRST_PORT})", f"laddr=('127.0.0.1', {LAST_PORT})"),
    "ephemeral ports of IPv6": (f"laddr=('::1', {FIRST_PORT}, 0, 0)", f"laddr=('::1', {LAST_PORT}, 0, 0)"),
    "descriptors": ("<SocketTransport fd=7 read=idle>", "<SocketTransport fd=10 read=idle>"),
    "descriptors in messages": ("File descriptor 7 is used", "File descriptor 10 is used"),
    "addresses in memory": ("<function f at 0x7f01>", "<function f at 0x7f02>"),
    "addresses of tasks in call graphs": ("Task(name='a', id=0x7f01)", "Task(name='a', id=0x7f02)"),
    "names of tasks": ("<Task pending name='Task-1'>", "<Task pending name='Task-12'>"),
    "deadlines": ("<TimerHandle when=1.5 f()>", "<TimerHandle when=2.25 f()>"),
    "durations": ("took 0.100 seconds", "took 0.213 seconds"),
    "classes of loops": ("<_UnixSelectorEventLoop running=True>", "<Loop running=True>"),
    "classes of stream transports": ("<_SelectorSocketTransport closed>", "<SocketTransport closed>"),
    "classes of datagram transports": ("<_SelectorDatagramTransport closed>", "<DatagramTransport closed>"),
    "classes whose names are cut": ("f(<_SelectorSoc...e, bufsize=0>>)", "f(<SocketTransp...e, bufsize=0>>)"),
    "classes of pipes": ("<_UnixReadPipeTransport idle>", "<ReadPipeTransport idle>"),
    "classes in TypeErrors": ("BaseEventLoop.call_at() got", "SchedulingMixin.call_at() got"),
    "handles for threads": ("<_ThreadSafeHandle f()>", "<Handle f()>"),
}

DIFFERENT = {
    "sizes of buffers": ("write=<idle, bufsize=4096>", "write=<idle, bufsize=16384>"),
    "sizes of buffers like ephemeral ports": (f"bufsize={FIRST_PORT}", f"bufsize={LAST_PORT}"),
    "other ports": ("('127.0.0.1', 80)", "('127.0.0.1', 8080)"),
    "other ports of four digits": ("('127.0.0.1', 8080)", "('127.0.0.1', 8081)"),
    "hosts": (f"('127.0.0.1', {FIRST_PORT})", f"('127.0.0.2', {FIRST_PORT})"),
    "what follows a name that is cut": ("f(<_SelectorSoc...e, bufsize=0>>)", "f(<SocketTransp...e, bufsize=8>>)"),
    "kinds of pipes": ("<ReadPipeTransport idle>", "<WritePipeTransport idle>"),
    "kinds of transports": ("<_UnixReadPipeTransport closed>", "<_SelectorDatagramTransport closed>"),
    "pipes and sockets": ("<ReadPipeTransport closed>", "<DatagramTransport closed>"),
    "states": ("<SocketTransport fd=7 read=idle>", "<SocketTransport fd=7 read=polling>"),
    "numbers in hexadecimal": ("flags=0x10", "flags=0x20"),
    "methods in TypeErrors": ("BaseEventLoop.call_at() got", "BaseEventLoop.call_later() got"),
    "kinds of handles": ("<TimerHandle f()>", "<Handle f()>"),
    "classes that are not known": ("<_OtherTransport closed>", "<SocketTransport closed>"),
    "exceptions": (ValueError("x"), TypeError("x")),
    "text and bytes": ("x", b"x"),
    "lists and tuples": (["x"], ("x",)),
    "numbers": ([FIRST_PORT], [LAST_PORT]),
}


@pytest.mark.parametrize("case", EQUAL)
def test_what_may_differ_is_alike(case):
    one, other = EQUAL[case]
    assert one != other
    assert alike(one) == alike(other)
    assert alike({"nested": [(one,)]}) == alike({"nested": [(other,)]})


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_may_not_differ_is_not_alike(case):
    one, other = DIFFERENT[case]
    assert alike(one) != alike(other)
    assert alike({"nested": [(one,)]}) != alike({"nested": [(other,)]})


def test_outcome_has_what_was_returned_raised_and_logged(loop_log):
    async def scenario(loop):
        logging.getLogger("asyncio").warning("bufsize=%d", 4096)
        return f"bufsize={4096}"

    async def failing(loop):
        raise LookupError("bufsize=4096")

    assert observe(scenario, "asyncio", loop_log) == Outcome(
        "bufsize=4096", None, "", [("WARNING", "bufsize=4096", None)]
    )
    assert observe(failing, "asyncio", loop_log) == Outcome(None, LookupError, "bufsize=4096", [])


# -- silence -------------------------------------------------------------------------------------------------------


def log_something(loop):
    logging.getLogger("asyncio").warning("something")


def fail_in_a_callback(loop):
    loop.call_soon(lambda: 1 / 0)
    loop.run_until_complete(asyncio.sleep(0))


@pytest.fixture
def leaked(monkeypatch):
    """Things to undo after the test: functions without arguments."""
    monkeypatch.setattr(support, "SETTLING_TIME", 0.05)
    undo = []
    yield undo
    for function in undo:
        function()


def test_silence_is_left_alone(make_loop):
    loop = make_loop()
    with assert_silent(loop):
        assert loop.run_until_complete(loop.run_in_executor(None, int)) == 0
        reading, writing = os.pipe()
        os.close(reading)
        os.close(writing)
    assert loop.is_closed()
    with assert_silent():
        new_loop("asyncio").close()


@pytest.mark.parametrize("noise", [log_something, fail_in_a_callback])
def test_noise_is_not_silence(make_loop, loop_log, noise):
    loop = make_loop()
    with pytest.raises(AssertionError, match="was given"), assert_silent(loop):
        noise(loop)
    loop_log.take()


def test_descriptor_left_behind_is_not_silence(leaked):
    with pytest.raises(AssertionError, match=r"left behind: \{'descriptors'"), assert_silent():
        reading, writing = os.pipe()
        leaked += [lambda: os.close(reading), lambda: os.close(writing)]


def test_thread_left_behind_is_not_silence(leaked):
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    leaked += [ended.set, thread.join]
    with pytest.raises(AssertionError, match=r"left behind: \{'threads'"), assert_silent():
        thread.start()


def test_exception_of_the_block_comes_through(loop, loop_log):
    with pytest.raises(LookupError), assert_silent(loop):
        log_something(loop)
        raise LookupError
    assert loop_log.take_messages() == ["something"]


def test_logger_is_given_back_after_the_block(loop_log):
    with assert_silent():
        pass
    logging.getLogger("asyncio").warning("afterwards")
    assert loop_log.take_messages() == ["afterwards"]


# -- systems without /proc -----------------------------------------------------------------------------------------


def test_descriptor_left_behind_is_seen_without_proc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    before = support.process_state()
    ends = os.pipe()
    try:
        found = support.process_state()["descriptors"].keys() - before["descriptors"].keys()
    finally:
        for fd in ends:
            os.close(fd)
    assert found == set(ends)


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps")
def test_script_that_sleeps_is_seen_without_proc(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with support.Script("asyncio", "import signal\nprint('pausing', flush=True)\nsignal.pause()") as script:
        assert script.line() == "pausing"
        script.wait_until_asleep()
        script.send_signal(signal.SIGTERM)
        assert script.finish(status=-signal.SIGTERM) == []
