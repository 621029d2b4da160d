"""What several threads may do at a time: each runs a loop of its own, and reaches others' by what is made for that.

Without a GIL the rest is refused, and nothing breaks; with one, debug mode refuses it.
"""

import asyncio
import contextlib
import gc
import io
import os
import random
import socket
import threading
import warnings

import pytest
from support import (
    FREE_THREADED,
    LOCALHOST,
    TIME_LIMIT,
    Recorder,
    close_loop,
    new_loop,
    outcome_of,
    pattern,
    process_state,
    run_script,
    settled_leaks,
    tcp_pair,
    until,
)
from tls_support import Contexts, tls_connection

pytestmark = pytest.mark.zloop_only

WRONG_THREAD = "Non-thread-safe operation invoked on an event loop other than the current one"

needs_no_gil = pytest.mark.skipif(not FREE_THREADED, reason="with a GIL, only debug mode looks for it")


@contextlib.contextmanager
def threads(count, function, *arguments):
    """Threads that run a function during a `with` block. At its end they have ended, and raise what one has raised."""

    def run(index):
        try:
            function(index, *arguments)
        except BaseException as error:
            errors.append(error)

    errors = []
    made = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in made:
        thread.start()
    try:
        yield
    finally:
        for thread in made:
            thread.join(TIME_LIMIT)
            assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has a GIL")
def test_gil_stays_off_whatever_is_imported_and_used():
    assert run_script(
        "zloop",
        """
import asyncio, importlib, pkgutil, sys
import zloop
for module in pkgutil.walk_packages(zloop.__path__, "zloop."):
    if not module.name.startswith(("zloop.__", "zloop.gunicorn", "zloop.pytest")):
        importlib.import_module(module.name)

async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"line\\n")
    print(await reader.read())
    writer.close()
    server.close()

loop = new_event_loop()
loop.run_until_complete(main())
loop.close()
print(sys._is_gil_enabled())
""",
    ) == ["b'line\\n'", "False"]


# -- what is made for other threads --------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [True, False])
def test_calls_of_each_thread_keep_their_order(loop, run, debug):
    def call(index):
        for number in range(each):
            loop.call_soon_threadsafe(got.append, (index, number))

    async def scenario():
        while len(got) < count * each:
            await asyncio.sleep(0.001)

    loop.set_debug(debug)
    loop.slow_callback_duration = float("inf")
    got, count, each = [], 8, 500 if debug else 5000
    with threads(count, call):
        run(scenario())
    for index in range(count):
        assert [number for caller, number in got if caller == index] == list(range(each))


def test_loop_is_closed_while_others_call_it():
    """A descriptor that is closed has its number for the next file, to which nobody must write."""

    def call(_index, loop):
        with contextlib.suppress(RuntimeError):  # Event loop is closed
            while True:
                loop.call_soon_threadsafe(int)
                idle.wait(0.0001)

    idle = threading.Event()
    for _ in range(50):
        loop = new_loop("zloop")
        with threads(3, call, loop):
            loop.run_until_complete(asyncio.sleep(0.002))
            close_loop(loop)
            with tcp_pair() as sockets:
                for sock in sockets:
                    sock.setblocking(False)
                    with pytest.raises(BlockingIOError):
                        sock.recv(1)


def test_handles_are_cancelled_by_other_threads(loop, run):
    """Each runs once or not at all; nothing is left of what was cancelled."""

    def cancel(index):
        choice = random.Random(index)
        while not ended.is_set():
            handle = choice.choice(tuple(handles))
            handle.cancel()
            assert handle.cancelled()
            assert "cancelled" in repr(handle)

    async def scenario():
        for _ in range(100):
            for _ in range(20):
                handles.append(loop.call_soon(ran.append, None))
                handles.append(loop.call_later(0.001, ran.append, None))
                handles.append(loop.call_later(1000, ran.append, None))
            del handles[:-600]
            await asyncio.sleep(0)
        ended.set()
        for handle in handles:
            handle.cancel()
        for _ in range(3):
            await asyncio.sleep(0)

    ran, ended = [], threading.Event()
    handles = [loop.call_soon(int)]
    with threads(3, cancel):
        run(scenario())
    assert 0 < len(ran) <= 4000
    for handle in loop._scheduled:
        handle.cancel()
    assert all(handle.cancelled() for handle in loop._scheduled)


def test_timer_that_another_thread_cancels_leaves_the_loop(loop, run):
    async def scenario():
        timer = loop.call_later(1000, int)
        await asyncio.to_thread(timer.cancel)
        await asyncio.sleep(0)
        return timer in loop._scheduled, timer.cancelled()

    assert run(scenario()) == (False, True)


def test_loops_are_made_run_and_closed_at_the_same_time():
    def make(_index):
        for _ in range(100):
            loop = new_loop("zloop")
            try:
                loop.call_later(1000, int)
                assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
            finally:
                close_loop(loop)

    with threads(4, make):
        pass


def test_loop_runs_in_one_thread_at_a_time(loop):
    idle = threading.Event()

    def run(_index):
        outcomes.append(outcome_of(loop.run_forever))

    for _ in range(20):
        outcomes = []
        with threads(4, run):
            while len(outcomes) < 4:
                loop.call_soon_threadsafe(loop.stop)
                idle.wait(0.0001)
        refused = ("raised", RuntimeError, "This event loop is already running")
        assert set(outcomes) <= {("returned", None), refused}
        assert ("returned", None) in outcomes


def test_echo_on_several_loops():
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def ask(port, choice):
        reader, writer = await asyncio.open_connection(LOCALHOST, port)
        for _ in range(30):
            data = choice.randbytes(choice.choice([10, 1000, 100_000]))
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()

    async def serve(index):
        async with await asyncio.start_server(echo, LOCALHOST, 0) as server:
            port = server.sockets[0].getsockname()[1]
            await asyncio.gather(*[ask(port, random.Random((index, number).__repr__())) for number in range(5)])

    def run(index):
        loop = new_loop("zloop")
        try:
            loop.run_until_complete(serve(index))
        finally:
            close_loop(loop)

    with threads(4, run):
        pass


def test_child_of_a_fork_goes_on_while_others_were_calling():
    assert (
        run_script(
            "zloop",
            """
import asyncio, os, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads

def call():
    while not ended.is_set():
        loop.call_soon_threadsafe(int)
        ended.wait(0.00001)

ended = threading.Event()
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
callers = [threading.Thread(target=call) for _ in range(3)]
for caller in callers:
    caller.start()
for _ in range(50):
    child = os.fork()
    if child == 0:
        loop.call_soon_threadsafe(loop.stop)
        loop.run_forever()
        loop.close()
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
ended.set()
for caller in callers:
    caller.join()
loop.close()
""",
        )
        == []
    )


# -- what is not ---------------------------------------------------------------------------------------------------

CALLS = {
    "call_soon": lambda loop, _transport: loop.call_soon(int),
    "call_later": lambda loop, _transport: loop.call_later(1, int),
    "call_at": lambda loop, _transport: loop.call_at(1, int),
    "add_reader": lambda loop, _transport: loop.add_reader(0, int),
    "remove_writer": lambda loop, _transport: loop.remove_writer(0),
    "write": lambda _loop, transport: transport.write(b"data"),
    "writelines": lambda _loop, transport: transport.writelines([b"data"]),
    "write_eof": lambda _loop, transport: transport.write_eof(),
    "close": lambda _loop, transport: transport.close(),
    "abort": lambda _loop, transport: transport.abort(),
    "pause_reading": lambda _loop, transport: transport.pause_reading(),
    "resume_reading": lambda _loop, transport: transport.resume_reading(),
    "set_protocol": lambda _loop, transport: transport.set_protocol(None),
    "set_write_buffer_limits": lambda _loop, transport: transport.set_write_buffer_limits(1),
}


@needs_no_gil
@pytest.mark.parametrize("call", CALLS)
def test_another_thread_is_refused(loop, run, call):
    async def scenario():
        with tcp_pair() as (near, far):
            transport, protocol = await loop.create_connection(Recorder, sock=near)
            outcome = await asyncio.to_thread(outcome_of, CALLS[call], loop, transport)
            assert not transport.is_closing()
            transport.write(b"after")
            assert await loop.sock_recv(far, 100) == b"after"
            transport.close()
            await protocol.until_called("connection_lost")
            return outcome

    assert run(scenario()) == ("raised", RuntimeError, WRONG_THREAD)


def test_another_thread_may_ask(loop, run):
    def ask(transport):
        return (
            transport.get_extra_info("peername"),
            transport.get_extra_info("socket").fileno(),
            transport.get_protocol(),
            transport.is_closing(),
            transport.get_write_buffer_size(),
            "SocketTransport" in repr(transport),
        )

    async def scenario():
        with tcp_pair() as (near, far):
            number = near.fileno()
            transport, protocol = await loop.create_connection(Recorder, sock=near)
            assert await asyncio.to_thread(ask, transport) == (far.getsockname(), number, protocol, False, 0, True)
            transport.close()
            await protocol.until_called("connection_lost")

    run(scenario())


def test_another_thread_may_ask_about_tls_while_data_passes(loop, run):
    def ask(index):
        while not ended.is_set():
            sslobj = transport.get_extra_info("ssl_object")
            answers.add((sslobj.version(), sslobj.cipher(), sslobj.pending() >= 0, sslobj.server_hostname))
            transport.get_extra_info("peercert")

    async def scenario():
        nonlocal transport
        async with tls_connection(loop, Contexts()) as (transport, _protocol, accepted):
            data = pattern(200_000)
            with threads(3, ask):
                try:
                    for _ in range(20):
                        transport.write(data)
                        await asyncio.sleep(0.002)
                    await until(lambda: len(accepted.received) == 20 * len(data))
                finally:
                    ended.set()
            assert accepted.received == data * 20

    transport, answers, ended = None, set(), threading.Event()
    run(scenario())
    assert len(answers) == 1


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_transports_are_dropped_by_other_threads(loop, run, in_a_cycle):
    """Their loop gives them up; no descriptor is left, and none of its other users hurt."""

    def drop(_index):
        while not (ended.is_set() and not dropped):
            try:
                dropped.pop()
            except IndexError:
                ended.wait(0.0005)
            if in_a_cycle and random.random() < 0.02:
                gc.collect()

    async def scenario():
        for number in range(300):
            near, far = socket.socketpair()
            near.setblocking(False)
            transport, _protocol = await loop.create_connection(asyncio.Protocol, sock=near)
            transport.pause_reading()
            if in_a_cycle:
                transport.itself = transport
            dropped.append(transport)
            del transport, _protocol, near
            far.close()
            if number % 10 == 0:
                await asyncio.sleep(0.001)
        ended.set()
        while dropped:
            await asyncio.sleep(0.001)

    dropped, ended = [], threading.Event()
    run(asyncio.sleep(0.001))  # the loop's own descriptors are there
    before = process_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with threads(2, drop):
            run(scenario())
        gc.collect()
        run(asyncio.sleep(0))
    assert not settled_leaks(before)


class WatchedSocket(socket.socket):
    was_open = None

    def __del__(self):
        self.was_open.append(self.fileno() != -1)


class WatchedPipe(io.FileIO):
    was_open = None

    def __del__(self):
        self.was_open.append(not self.closed)


async def stream_of_own(loop):
    near, far = socket.socketpair()
    sock = WatchedSocket(fileno=near.detach())
    sock.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    return transport, sock, far


async def pipe_of_own(loop):
    reading, writing = os.pipe()
    pipe = WatchedPipe(reading)
    transport, _ = await loop.connect_read_pipe(asyncio.Protocol, pipe)
    return transport, pipe, open(writing, "wb", 0)


@needs_no_gil
@pytest.mark.parametrize("make", [stream_of_own, pipe_of_own])
def test_descriptor_is_not_closed_by_the_thread_that_finds_its_transport_in_a_cycle(loop, run, make):
    """The collector finalizes all that is in it: it would close what the loop closes, which has the transport back."""

    def collect(_index):
        while not was_open:
            gc.collect()
            idle.wait(0.001)

    async def scenario():
        transport, owner, peer = await make(loop)
        owner.was_open = was_open
        transport.pause_reading()
        transport.itself = transport
        del transport, owner
        with threads(1, collect):
            await until(lambda: was_open)
        peer.close()

    was_open, idle = [], threading.Event()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run(scenario())
    assert was_open == [False]
