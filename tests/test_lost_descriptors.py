"""A descriptor's number is no identity: its file may be closed under whoever uses it, and another have the number."""

import asyncio
import contextlib
import errno
import os
import re
import socket
import subprocess
import sys

import pytest
from support import TIME_LIMIT, close_loop, several_turns, socket_pair, until


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


async def ask(address, question=b"ping"):
    """Connect, and take the echo; the descriptor that the connection had."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(question)
    assert await reader.readexactly(len(question)) == question
    number = writer.get_extra_info("socket").fileno()
    writer.close()
    await writer.wait_closed()
    return number


@pytest.mark.zloop_only  # asyncio's first connection that has the number fails
@pytest.mark.parametrize("direction", ["read", "write"])
def test_pipe_that_its_owner_closes_leaves_its_number_to_others(loop, run, direction):
    async def scenario():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        ends = os.pipe()
        mine, other = ends if direction == "read" else reversed(ends)
        with open(mine, "rb" if direction == "read" else "wb", buffering=0) as file:
            connect = loop.connect_read_pipe if direction == "read" else loop.connect_write_pipe
            transport, _ = await connect(asyncio.Protocol, file)
            await several_turns()
        numbers = [await ask(server.sockets[0].getsockname()) for _ in range(3)]
        assert mine in numbers
        if direction == "write":
            transport.write(b"x")  # no stranger's bytes
        transport.close()
        await several_turns()
        assert await ask(server.sockets[0].getsockname()) in numbers
        os.close(other)
        server.close()
        await server.wait_closed()

    run(scenario())


@pytest.mark.zloop_only  # asyncio's leftover transport takes the number's next reader away when it closes
def test_socket_that_is_closed_before_it_is_read_leaves_its_number_to_others(loop, run):
    class Closing(asyncio.Protocol):
        def connection_made(self, transport):
            os.close(transport.get_extra_info("socket").fileno())

    async def scenario():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        near, peer = socket.socketpair()
        near.setblocking(False)
        number = near.fileno()
        transport, _ = await loop.create_connection(Closing, sock=near)
        await until(lambda: contexts)
        numbers = [await ask(address) for _ in range(3)]
        assert number in numbers
        transport.abort()
        await several_turns()
        assert await ask(address) in numbers
        peer.close()
        server.close()
        await server.wait_closed()

    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    run(scenario())
    assert isinstance(contexts[0]["exception"], OSError)


def test_pipe_that_its_owner_closes_in_the_turn_that_tells_of_its_readers_end(loop, run):
    async def scenario():
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb", 0) as file:
            transport, _ = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
            transport.write(b"x" * 300_000)
            await several_turns()
            os.close(reading)
            await asyncio.sleep(0)
        await several_turns()
        return transport.is_closing(), transport.get_write_buffer_size()

    loop.set_exception_handler(lambda loop, context: None)  # asyncio's EBADF
    assert run(scenario()) == (True, 0)


@pytest.mark.zloop_only  # asyncio's add_reader() raises FileNotFoundError, once
def test_reader_of_a_number_whose_writer_was_another_files(loop, run):
    async def scenario():
        with socket_pair() as (gone, _peer), socket_pair() as (near, peer):
            number = gone.fileno()
            loop.add_writer(number, calls.append, "stale")
            os.dup2(near.fileno(), number)
            loop.add_reader(number, calls.append, "fresh")
            assert not loop.remove_writer(number)
            peer.send(b"x")
            await until(lambda: calls)
            loop.remove_reader(number)

    calls = []
    run(scenario())
    assert set(calls) == {"fresh"}


@pytest.mark.zloop_only  # asyncio has one table for a number's readers, whoever they are
def test_connection_whose_socket_was_closed_past_it_closes_nobody_elses(loop, run):
    async def scenario():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        _, writer = await asyncio.open_connection(*address)
        number = writer.get_extra_info("socket").fileno()
        with socket_pair() as (near, peer):
            os.dup2(near.fileno(), number)
            with socket.socket(fileno=number) as successor:
                successor.setblocking(False)
                receiving = asyncio.ensure_future(loop.sock_recv(successor, 10))
                await several_turns()
                writer.write(b"not for the stranger")
                writer.close()
                await several_turns()
                peer.send(b"mine")
                assert await receiving == b"mine"
                peer.setblocking(False)
                with pytest.raises(BlockingIOError):
                    peer.recv(100)
        server.close()

    run(scenario())


@pytest.mark.zloop_only  # asyncio closes the file
@pytest.mark.parametrize("kind", ["stream", "datagram", "server", "server of a closed loop"])
def test_number_that_a_regular_file_has_by_now_is_left_to_it(make_loop, tmp_path, kind):
    """Which no poller watches."""
    path = tmp_path / "file"
    path.write_bytes(b"contents")
    loop = make_loop()
    near, peer = socket.socketpair()

    async def begin():
        if kind == "stream":
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
            return transport, near.fileno()
        if kind == "datagram":
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
            return transport, transport.get_extra_info("socket").fileno()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        return server, server.sockets[0].fileno()

    async def end(thing):
        thing.close()
        await several_turns()

    with peer, near:
        thing, number = loop.run_until_complete(begin())
        with path.open("rb") as opened:
            os.dup2(opened.fileno(), number)
        if kind == "server of a closed loop":
            close_loop(loop)
        else:
            loop.run_until_complete(end(thing))
        del thing
    assert os.pread(number, 10, 0) == b"contents"
    os.close(number)


@pytest.mark.zloop_only  # asyncio's transport stays open, and closing it closes the file
def test_connection_that_never_read_leaves_its_number_to_a_regular_file(loop, run, tmp_path):
    class Paused(asyncio.Protocol):
        def __init__(self):
            self.lost = loop.create_future()

        def connection_made(self, transport):
            transport.pause_reading()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def scenario():
        near, far = socket.socketpair()
        number = near.fileno()
        with far, path.open("rb") as opened:
            transport, protocol = await loop.create_connection(Paused, sock=near)
            os.dup2(opened.fileno(), number)
            with pytest.raises(PermissionError) as caught:
                transport.resume_reading()
            assert await protocol.lost is caught.value
        return number

    path = tmp_path / "file"
    path.write_bytes(b"contents")
    number = run(scenario())
    assert os.pread(number, 10, 0) == b"contents"
    os.close(number)


@pytest.mark.zloop_only  # asyncio's transport stays open, and never receives anything
def test_transport_whose_reading_cannot_be_resumed_ends(loop, run):
    class Waiting(asyncio.Protocol):
        def __init__(self):
            self.lost = loop.create_future()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def scenario():
        near, far = socket.socketpair()
        with far:
            transport, protocol = await loop.create_connection(Waiting, sock=near)
            transport.pause_reading()
            far.send(b"x")
            await several_turns()  # the poller is told that nobody reads
            os.close(near.fileno())
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                transport.resume_reading()
            assert transport.is_closing()
            assert await protocol.lost is caught.value
            transport.resume_reading()

    run(scenario())


def test_child_is_waited_for_whatever_keeps_its_pidfd_from_being_watched(loop, run, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("File descriptor is in use by the event loop")

    async def scenario():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(3)")
        assert await process.wait() == 3
        with pytest.raises(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)

    if hasattr(loop, "_close_child_watches"):
        monkeypatch.setattr(type(loop), "_add_reader", refuse, raising=False)
    run(scenario())


@pytest.mark.zloop_only
def test_child_that_nobody_can_wait_for_is_killed_and_reaped(loop, run, monkeypatch):
    async def scenario():
        pids = []
        make = subprocess.Popen

        def note(*args, **kwargs):
            process = make(*args, **kwargs)
            pids.append(process.pid)
            return process

        monkeypatch.setattr(subprocess, "Popen", note)
        monkeypatch.setattr(type(loop), "_watch_child", lambda self, transport: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
        with pytest.raises(ChildProcessError):
            os.waitpid(pids[0], os.WNOHANG)

    run(scenario())


def answer(text):
    async def handler(reader, writer):
        writer.write(text)
        writer.close()

    return handler


async def answer_of(address):
    reader, writer = await asyncio.open_connection(*address)
    text = await reader.read()
    writer.close()
    await writer.wait_closed()
    return text


def close_quietly(server):
    try:
        server.close()
    except ValueError:
        pass  # asyncio's, of a socket that is closed already


@pytest.mark.parametrize("first_goes_first", [True, False])
def test_second_server_on_a_listening_socket_takes_it_over(loop, run, first_goes_first):
    async def scenario():
        listener = socket.create_server(("127.0.0.1", 0))
        address = listener.getsockname()
        first = await asyncio.start_server(answer(b"first"), sock=listener)
        assert await answer_of(address) == b"first"
        second = await asyncio.start_server(answer(b"second"), sock=listener)
        assert await answer_of(address) == b"second"
        for server in (first, second) if first_goes_first else (second, first):
            close_quietly(server)
        assert listener.fileno() == -1
        await several_turns()

    run(scenario())


@pytest.mark.zloop_only  # asyncio's second server has no way to fail there
def test_second_server_that_cannot_start_leaves_the_socket_to_the_first(loop, run, tmp_path, monkeypatch):
    async def scenario():
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = str(tmp_path / "socket")
        listener.bind(path)
        first = await asyncio.start_unix_server(answer(b"first"), sock=listener)
        monkeypatch.setattr(asyncio.Server, "_start_serving", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await asyncio.start_unix_server(answer(b"second"), sock=listener)
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b"first"
        writer.close()
        first.close()
        await several_turns()

    run(scenario())


@pytest.mark.zloop_only  # asyncio's close() of the first one ends the second
def test_server_whose_descriptor_was_taken_away_leaves_its_number_to_the_next(loop, run):
    async def scenario():
        first = await asyncio.start_server(answer(b"first"), "127.0.0.1", 0)
        listener = socket.create_server(("127.0.0.1", 0))
        number = first._sockets[0].detach()
        os.dup2(listener.fileno(), number)
        listener.close()
        with_number = socket.socket(fileno=number)
        second = await asyncio.start_server(answer(b"second"), sock=with_number)
        assert await answer_of(with_number.getsockname()) == b"second"
        close_quietly(first)
        assert await answer_of(with_number.getsockname()) == b"second"
        second.close()
        await several_turns()

    run(scenario())


AFTER_A_FORK = """
import os, sys
import zloop.core.loop  # and nothing else of it before the fork
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
import asyncio, zloop

def pollers():
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventpoll" in os.readlink(f"/proc/self/fd/{name}"):
                found.append(int(name))
        except OSError:
            pass
    return found

async def echo(reader, writer):
    writer.write(await reader.read(10))
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    for _ in range(30):
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await reader.read() == b"x"
        assert pollers() == made
        writer.close()
    server.close()

low = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
loop = zloop.new_event_loop()
made = pollers()
assert len(made) == 1, made
for number in low:
    os.close(number)  # a poller that was made anew would have one of these
loop.run_until_complete(main())
loop.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for epoll in /proc")
@pytest.mark.zloop_only
def test_modules_imported_before_and_after_a_fork_agree_about_it():
    done = subprocess.run(
        [sys.executable, "-P", "-c", AFTER_A_FORK], capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@contextlib.asynccontextmanager
async def number_taken(loop, number):
    """Another socket has that number, and receives its own bytes and no others."""
    with socket_pair() as (near, far):
        os.dup2(near.fileno(), number)
        with socket.socket(fileno=number) as successor:
            successor.setblocking(False)
            receiving = asyncio.ensure_future(loop.sock_recv(successor, 10))
            await several_turns()
            yield
            await several_turns()
            far.send(b"mine")
            assert await receiving == b"mine"
            with pytest.raises(BlockingIOError):
                far.recv(100)


@pytest.mark.zloop_only  # asyncio sends it to the stranger
def test_datagrams_for_an_endpoint_whose_number_another_socket_has_are_not_sent(loop, run):
    class Endpoint(asyncio.DatagramProtocol):
        def __init__(self):
            self.lost = loop.create_future()

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def scenario():
        transport, protocol = await loop.create_datagram_endpoint(Endpoint, ("127.0.0.1", 0))
        async with number_taken(loop, transport.get_extra_info("socket").fileno()):
            transport.sendto(b"not for the stranger", ("127.0.0.1", 9))
            assert transport.is_closing()
            assert (await protocol.lost).errno == errno.EBADF

    run(scenario())


@pytest.mark.zloop_only  # asyncio closes the stranger's
def test_accepted_connection_that_nobody_asked_for_its_socket_closes_no_strangers(loop, run):
    async def scenario():
        accepted = loop.create_future()

        class Accepted(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.set_result(transport)

        server = await loop.create_server(Accepted, "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            transport = await accepted
            number = int(re.search(r"fd=(\d+)", repr(transport))[1])
            async with number_taken(loop, number):
                transport.abort()
                await until(lambda: "closed" in repr(transport))
        server.close()
        await server.wait_closed()

    run(scenario())
