"""Stream transports: writing, and flow control."""

import array
import asyncio
import contextlib
import functools
import itertools
import mmap
import os
import socket
import sys

import pytest
from support import (
    BIG,
    Recorder,
    connection,
    outcome_of,
    pattern,
    receive_all,
    receive_exactly,
    resource_warnings,
    run_script,
    several_turns,
    tcp_pair,
)

writelines_joins = sys.version_info < (3, 12)

# -- writing -------------------------------------------------------------------------------------------------------


def test_writes_arrive_in_order(loop, run):
    async def scenario():
        async with connection(loop) as (transport, _protocol, peer):
            for number in range(1000):
                transport.write(b"%d " % number)
            expected = b"".join(b"%d " % number for number in range(1000))
            assert await receive_exactly(loop, peer, len(expected)) == expected

    run(scenario())


def test_small_and_large_writes_mixed(loop, run):
    content = pattern(BIG)
    cuts = [0, 1, 1, 10, 100_000, 100_001, 500_000, BIG - 1, BIG]

    async def scenario():
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            for start, end in itertools.pairwise(cuts):
                transport.write(content[start:end])
            return await receive_exactly(loop, peer, BIG)

    assert run(scenario()) == content


def test_thousands_of_queued_writes(loop, run):
    """More pieces than one vectored send can take."""

    async def scenario():
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            transport.write(b"x" * BIG)
            for number in range(5000):
                transport.write(number.to_bytes(2, "big"))
            received = await receive_exactly(loop, peer, BIG + 10_000)
            return received[BIG:] == b"".join(number.to_bytes(2, "big") for number in range(5000))

    assert run(scenario()) is True


class BytesSubclass(bytes):
    pass


WRITABLE = {
    "bytes": b"data",
    "bytearray": bytearray(b"data"),
    "memoryview": memoryview(b"data"),
    "memoryview of a bytearray": memoryview(bytearray(b"data")),
    "slice": memoryview(b"..data..")[2:6],
    "bytes subclass": BytesSubclass(b"data"),
    "memoryview of an array": memoryview(array.array("B", b"data")),
}
EMPTY = {"bytes": b"", "bytearray": bytearray(), "memoryview": memoryview(b"")}
UNWRITABLE = {
    "text": "data",
    "empty text": "",
    "None": None,
    "number": 42,
    "list": [1, 2],
    "array": array.array("B", b"data"),
}


@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("case", WRITABLE)
def test_what_can_be_written(loop, run, method, case):
    async def scenario():
        async with connection(loop) as (transport, _protocol, peer):
            data = WRITABLE[case]
            transport.write(data) if method == "write" else transport.writelines([data, data])
            transport.close()
            return await receive_all(loop, peer)

    assert run(scenario()) == (b"data" if method == "write" else b"datadata")


@pytest.mark.parametrize("case", EMPTY)
def test_writing_nothing(loop, run, case):
    async def scenario():
        async with connection(loop) as (transport, _protocol, peer):
            transport.write(EMPTY[case])
            transport.writelines([])
            transport.write(b"x")
            transport.close()
            return await receive_all(loop, peer)

    assert run(scenario()) == b"x"


LINES = {
    "small": [b"line %d\n" % number for number in range(500)],
    "small, in a tuple": (b"one", b"", b"two"),
    "large among small": [b"head", bytes(BIG), b"tail"],
    "another type after many": [*[b"line"] * 100, bytearray(b"end")],
}


@pytest.mark.parametrize("case", LINES)
def test_writelines_sends_all_in_order(loop, run, case):
    async def scenario():
        async with connection(loop) as (transport, _protocol, peer):
            transport.write(b"first ")
            transport.writelines(LINES[case])
            transport.write(b" last")
            transport.close()
            return await receive_all(loop, peer)

    assert run(scenario()) == b"first " + b"".join(LINES[case]) + b" last"


@pytest.mark.zloop_only  # some versions of asyncio never get past an empty line
@pytest.mark.parametrize("case", EMPTY)
def test_empty_lines(loop, run, case):
    async def scenario():
        async with connection(loop) as (transport, _protocol, peer):
            transport.writelines([EMPTY[case], b"x", EMPTY[case]])
            transport.writelines([EMPTY[case]])
            transport.close()
            return await receive_all(loop, peer)

    assert run(scenario()) == b"x"


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_cannot_be_written(same_as_asyncio, case):
    async def scenario(loop):
        async with connection(loop) as (transport, protocol, peer):
            outcome = outcome_of(transport.write, UNWRITABLE[case])
            transport.write(b"the connection lives on")
            transport.close()
            return outcome, await receive_all(loop, peer), protocol.names()

    outcome, received, _names = same_as_asyncio(scenario).returned
    assert outcome[1] is TypeError
    assert received == b"the connection lives on"


@pytest.mark.parametrize("lines", ["text", [1, 2], 42, None], ids=repr)
def test_lines_that_cannot_be_written(same_as_asyncio, lines):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            return outcome_of(transport.writelines, lines)[:2]

    assert same_as_asyncio(scenario).raised is None


def test_non_contiguous_memory(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, protocol, _peer):
            contexts = []
            loop.set_exception_handler(lambda _loop, context: contexts.append(context))
            outcome = outcome_of(transport.write, memoryview(b"d.a.t.a.")[::2])
            await protocol.until_called("connection_lost")
            return outcome, [context["message"] for context in contexts], type(protocol.calls[-1][1])

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.parametrize("kind", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_lines_of_every_kind(same_as_asyncio, kind):
    async def scenario(loop):
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            transport.write(b"head ")
            transport.writelines(kind([b"one ", bytearray(b"two "), memoryview(b"three ")]))
            transport.write(b"x" * BIG)
            transport.writelines(kind([b" tail", b" end"]))
            transport.close()
            received = await receive_all(loop, peer)
            return received[:19], received[-9:], len(received)

    assert same_as_asyncio(scenario).returned[:2] == (b"head one two three ", b" tail end")


@pytest.mark.parametrize("action", ["write", "close", "abort", "write_eof"])
def test_lines_that_call_the_transport_back_while_they_are_iterated(loop, run, action):
    """What is then sent is nobody's promise; that nothing breaks is ours."""

    async def scenario():
        async with connection(loop) as (transport, protocol, peer):

            def lines():
                yield b"one"
                transport.write(b"inside") if action == "write" else getattr(transport, action)()
                yield b"two"

            with contextlib.suppress(Exception):
                transport.writelines(lines())
            await several_turns()
            transport.abort()
            await protocol.until_called("connection_lost")
            with contextlib.suppress(ConnectionResetError):
                await receive_all(loop, peer)
            return protocol.names().count("connection_lost")

    assert run(scenario()) == 1


def test_write_while_the_loop_does_not_run(loop, run):
    """It goes out at once, or at the latest when the loop runs again; programs do both."""

    async def connect():
        context = connection(loop)
        return context, await context.__aenter__()

    context, (transport, _protocol, peer) = run(connect())
    transport.write(b"while stopped")
    peer.settimeout(5)
    assert peer.recv(100) == b"while stopped"
    run(context.__aexit__(None, None, None))


# -- flow control --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"high": 100},
        {"low": 100},
        {"high": 100, "low": 10},
        {"high": 0},
        {"high": 0, "low": 0},
        {"high": 10, "low": 100},
        {"high": -1},
        {"high": 10, "low": -1},
        {"high": None, "low": None},
        {"high": 3},
    ],
    ids=repr,
)
def test_write_buffer_limits(same_as_asyncio, limits):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            before = transport.get_write_buffer_limits()
            outcome = outcome_of(transport.set_write_buffer_limits, **limits)
            return before, outcome, transport.get_write_buffer_limits(), transport.get_write_buffer_size()

    assert same_as_asyncio(scenario).returned[3] == 0


def test_protocol_is_paused_and_resumed(loop, run):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.write(b"x" * BIG)
            assert protocol.names() == ["connection_made", "pause_writing"]
            low, high = transport.get_write_buffer_limits()
            assert transport.get_write_buffer_size() > high
            transport.write(b"y")
            assert protocol.names().count("pause_writing") == 1
            sizes = []
            protocol.resume_writing = lambda: (
                sizes.append(transport.get_write_buffer_size()),
                protocol.note("resume_writing"),
            )
            await receive_exactly(loop, peer, BIG + 1)
            await protocol.until_called("resume_writing")
            assert sizes[0] <= low
            assert transport.get_write_buffer_size() == 0
            transport.write(b"z" * BIG)
            await receive_exactly(loop, peer, BIG)
            await protocol.until(lambda: protocol.names().count("resume_writing") == 2)
            return protocol.names()

    assert run(scenario()) == ["connection_made"] + ["pause_writing", "resume_writing"] * 2


@pytest.mark.zloop_only  # asyncio's did not before 3.12.2
def test_writelines_counts_for_flow_control(loop, run):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.writelines([b"x" * (BIG // 4)] * 4)
            await protocol.until_called("pause_writing")
            assert transport.get_write_buffer_size() > 0
            await receive_exactly(loop, peer, BIG)
            await protocol.until_called("resume_writing")

    run(scenario())


def test_high_water_mark_of_zero_and_small_writes(loop, run):
    """What the kernel takes at once never pauses anybody, even with no buffer allowed at all."""

    async def scenario():
        async with connection(loop) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            for number in range(100):
                transport.write(b"small")
                transport.writelines([b"sm", b"all"])
                if number % 10 == 0:
                    await several_turns(1)
            await receive_exactly(loop, peer, 1000)
            return protocol.names()

    assert run(scenario()) == ["connection_made"]


def test_high_water_mark_of_zero_and_a_large_write(loop, run):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            transport.write(b"x" * BIG)
            await protocol.until_called("pause_writing")
            sizes = []
            protocol.resume_writing = lambda: (
                sizes.append(transport.get_write_buffer_size()),
                protocol.note("resumed"),
            )
            await receive_exactly(loop, peer, BIG)
            await protocol.until_called("resumed")
            return sizes

    assert run(scenario()) == [0]


def test_write_inside_resume_writing(loop, run):
    class Refilling(Recorder):
        written = 0

        def resume_writing(self):
            super().resume_writing()
            if self.written < 3:
                self.written += 1
                self.transport.write(b"x" * BIG)

    async def scenario():
        async with connection(loop, Refilling, narrow=True) as (transport, protocol, peer):
            transport.write(b"x" * BIG)
            await receive_exactly(loop, peer, 4 * BIG)
            await protocol.until(lambda: protocol.names().count("resume_writing") == 4)
            return protocol.names()

    assert run(scenario()) == ["connection_made"] + ["pause_writing", "resume_writing"] * 4


def test_no_resume_after_the_protocol_gave_up(loop, run):
    async def scenario(ending):
        async with connection(loop, narrow=True) as (transport, protocol, _peer):
            transport.write(b"x" * BIG)
            await protocol.until_called("pause_writing")
            getattr(transport, ending)()
            transport.abort()
            await protocol.until_called("connection_lost")
            await several_turns()
            return protocol.names()

    expected = ["connection_made", "pause_writing", "connection_lost"]
    assert run(scenario("abort")) == expected
    assert run(scenario("close")) == expected


def test_limits_changed_while_paused(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.write(b"x" * BIG)
            transport.set_write_buffer_limits(high=10 * BIG)
            transport.write(b"x")
            names = protocol.names()
            await receive_exactly(loop, peer, BIG + 1)
            await protocol.until_called("resume_writing")
            return names, protocol.names()

    assert same_as_asyncio(scenario).returned[0] == ["connection_made", "pause_writing"]


class Truthy(bytearray):
    """Not empty, it says."""

    def __bool__(self):
        return True


def test_line_that_only_says_that_it_is_not_empty(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, peer):
            transport.writelines([b"a", Truthy(), bytearray(b"b")])
            return await receive_exactly(loop, peer, 2), transport.get_write_buffer_size()

    assert same_as_asyncio(scenario).returned == (b"ab", 0)


def test_non_contiguous_line_ends_the_connection(loop, run, unhandled):
    async def scenario():
        async with connection(loop) as (transport, protocol, _peer):
            transport.writelines([b"a", memoryview(b"0123456789")[::2]])
            assert transport.is_closing()
            await protocol.until_called("connection_lost")
            return type(protocol.calls[-1][1]), [context["message"] for context in unhandled]

    if writelines_joins:
        pytest.skip("lines are joined first")
    assert run(scenario()) == (BufferError, ["Fatal write error on socket transport"])


@pytest.mark.zloop_only  # asyncio's socket object looks at the memory later
@pytest.mark.parametrize("lines", [False, True])
def test_memory_that_ends_the_connection_is_not_sent(loop, run, exporter, lines):
    async def scenario():
        async with connection(loop) as (transport, protocol, peer):
            data = exporter(b"x" * 20_000, transport.abort)
            if lines:
                transport.writelines([b"first", data, b"last"])
            else:
                transport.write(data)
            await protocol.until_called("connection_lost")
            return await receive_all(loop, peer)

    assert run(scenario()) in (b"", b"first")


def test_write_after_the_loop_is_closed_that_the_kernel_does_not_take_whole(loop, run):
    async def scenario():
        near, far = socket.socketpair()
        transport, _protocol = await loop.create_connection(Recorder, sock=near)
        return transport, far

    transport, far = run(scenario())
    loop.close()
    with far:
        transport.write(b"whole")
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.write(bytes(10_000_000))
        assert far.recv(5) == b"whole"
    with resource_warnings() as texts:
        del transport
    assert any("unclosed transport" in text for text in texts)


@pytest.mark.zloop_only  # asyncio keeps no mapping
@pytest.mark.parametrize("kind", ["socket", "pipe"])
def test_mapped_memory_whose_release_ends_the_connection(loop, run, kind):
    class Ending(mmap.mmap):
        def __del__(self):
            transports[0].abort()

    async def scenario(sockets):
        if kind == "socket":
            near, far = sockets
            transport, protocol = await loop.create_connection(Recorder, sock=near)
            read = far.recv
        else:
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            transport, protocol = await loop.connect_write_pipe(Recorder, os.fdopen(writing, "wb", 0))
            read = functools.partial(os.read, reading)
        transports.append(transport)
        transport.write(memoryview(Ending(-1, 2_000_000)))
        assert transport.get_write_buffer_size() > 0
        received = 0
        while not transport.is_closing():
            with contextlib.suppress(BlockingIOError):
                received += len(read(100_000))
            await asyncio.sleep(0)
        await protocol.until_called("connection_lost")
        with contextlib.suppress(BlockingIOError):
            while data := read(100_000):
                received += len(data)
        if kind == "pipe":
            os.close(reading)
        return received, protocol.calls[-1][1]

    transports = []
    with tcp_pair() as sockets:
        assert run(scenario(sockets)) == (2_000_000, None)


@pytest.mark.zloop_only  # asyncio waits in another way
def test_room_for_a_file_is_not_waited_for_on_a_closed_connection(loop, run):
    async def scenario():
        async with connection(loop) as (transport, _protocol, _peer):
            transport.close()
            with pytest.raises(ConnectionError, match="Connection is closed by peer"):
                transport._make_drain_waiter()

    run(scenario())


RELEASING_SCRIPT = """
import asyncio, contextlib, gc, mmap, os, socket, sys, weakref

class Ending(mmap.mmap):
    def __del__(self):
        global released
        {end}()
        released = True

def abort():
    transport.abort()

def abort_and_forget():
    global transport
    seen = weakref.ref(transport)
    transport.abort()
    transport = None
    while seen() is not None and turns:
        turns.pop()
        loop._run_once()
        gc.collect()

async def main():
    global transport
    data = bytes(range(256)) * 2
    before = sys.getrefcount(data)
    if {kind!r} == "socket":
        near, far = socket.socketpair()
        far.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    else:
        out, into = os.pipe()
        os.set_blocking(out, False)
        transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(into, "wb", 0))
        far = socket.socket()
    del _
    seen = weakref.ref(transport)
    transport.write(memoryview(Ending(-1, 2_000_000)))
    transport.write(data)
    async with asyncio.timeout(10):
        while not released:
            with contextlib.suppress(BlockingIOError):
                far.recv(100_000) if {kind!r} == "socket" else os.read(out, 100_000)
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
    transport = None
    gc.collect()
    print(seen(), sys.getrefcount(data) - before)
    far.close()
    if {kind!r} == "pipe":
        os.close(out)

released = False
turns = list(range(10))
loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.zloop_only  # asyncio keeps no mapping
@pytest.mark.parametrize("kind", ["socket", "pipe"])
@pytest.mark.parametrize("end", ["abort", "abort_and_forget"])
def test_mapped_memory_whose_release_ends_the_connection_with_more_behind_it(monkeypatch, kind, end):
    """Its class calls back from inside the queue: what is queued there is released once, and the loop goes on."""
    monkeypatch.setenv("PYTHONMALLOC", "debug")  # memory that is given back is overwritten
    assert run_script("zloop", RELEASING_SCRIPT.format(kind=kind, end=end)) == ["None 0"]
