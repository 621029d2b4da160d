"""python -m zloop --check: what its self-test says where something is wrong."""

import asyncio
import contextlib
import importlib
import ssl

import pytest
from support import close_loop

pytestmark = pytest.mark.zloop_only


@pytest.fixture
def check():
    """The module."""
    return importlib.import_module("zloop.check")


def tell(message):
    async def test():
        asyncio.get_running_loop().call_exception_handler({"message": message})
        return "done"

    return test


def end_with(exception):
    async def test():
        raise exception

    return test


async def go_on_for_ever():
    await asyncio.get_running_loop().create_future()


async def succeed():
    return "done"


def test_each_way_to_fail_is_told_and_counted(check, monkeypatch, capsys):
    tests = {
        "Reported": tell("from a callback"),
        "Refused": end_with(check.NotTested("not here")),
        "Raised": end_with(ValueError("odd")),
        "Done": succeed,
        "Stuck": go_on_for_ever,
    }
    monkeypatch.setattr(check, "TESTS", tests)
    monkeypatch.setattr(check, "LONGEST", 0.1)
    loop = check.zloop.new_event_loop()
    assert loop.run_until_complete(check.try_all()) == 3
    close_loop(loop)
    assert capsys.readouterr().out.splitlines() == [
        "Reported    FAILED: RuntimeError: from a callback",
        "Refused     not tested: not here",
        "Raised      FAILED: ValueError: odd",
        "Done        ok: done",
        "Stuck       FAILED: it did not end in time",
    ]


@pytest.fixture
def failure(check):
    """Run a test of the self-test that has to fail, on a loop of zloop's; the exception."""

    def run(test, change=lambda loop: None):
        loop = check.zloop.new_event_loop()
        try:
            change(loop)
            with pytest.raises((RuntimeError, check.NotTested)) as caught:
                loop.run_until_complete(test())
            loop.run_until_complete(asyncio.sleep(0.01))  # the server's ends
            return caught.value
        finally:
            close_loop(loop)

    return run


def test_other_bytes_come_back(check, failure, monkeypatch):
    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data.swapcase())
                await writer.drain()
        writer.close()

    monkeypatch.setattr(check, "echo", answer)
    assert str(failure(check.try_tcp)) == "other bytes came back than were sent"


def test_other_datagrams_come_back(check, failure, monkeypatch):
    received = check.Datagrams.datagram_received
    monkeypatch.setattr(
        check.Datagrams, "datagram_received", lambda self, data, addr: received(self, data.replace(b"\0", b"\1"), addr)
    )
    assert str(failure(check.try_udp)) == "other datagrams came back than were sent"


def test_no_tls(check, failure, monkeypatch):
    def refuse(_side):
        raise ssl.SSLError("no cipher match")

    monkeypatch.setattr(check, "anonymous_context", refuse)
    told = failure(check.try_tls)
    assert isinstance(told, check.NotTested)
    assert "no cipher match" in str(told)
    monkeypatch.setattr(check, "ssl", None)
    assert str(failure(check.try_tls)) == "this Python has no ssl module"


def program(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return str(path)


def test_child_that_answers_something_else(check, failure, monkeypatch, tmp_path):
    monkeypatch.setattr(check.sys, "executable", program(tmp_path / "python", "cat; exit 3"))
    assert str(failure(check.try_child)) == "it answered b'through two pipes' and ended with 3"


def test_child_that_does_not_end_is_killed(check, failure, monkeypatch, tmp_path):
    made = []
    make = asyncio.create_subprocess_exec

    async def note(*args, **options):
        made.append(await make(*args, **options))
        return made[-1]

    async def for_a_while():
        try:
            async with asyncio.timeout(0.1):
                await check.try_child()
        except TimeoutError:
            raise RuntimeError("killed") from None

    monkeypatch.setattr(asyncio, "create_subprocess_exec", note)
    monkeypatch.setattr(check.sys, "executable", program(tmp_path / "python", "exec sleep 60"))
    assert str(failure(for_a_while)) == "killed"
    assert made[0].returncode == -9


def test_timers_out_of_order(check, failure):
    def change(loop):
        plain = loop.call_at
        loop.call_at = lambda _when, callback, *args: plain(0, callback, *args)

    assert str(failure(check.try_timers, change)) == "they were not called in order"


def test_timers_that_are_early(check, failure, monkeypatch):
    monkeypatch.setattr(check.time, "monotonic", lambda: 0.0)
    assert str(failure(check.try_timers)) == "one was called before its time"
