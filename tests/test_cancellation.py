"""Cancelling an operation after every number of turns that it takes: nothing stays behind, wherever it had got.

Each operation is started anew, given one turn more than the last time, and cancelled, until it is through. After every
attempt the descriptors and the tasks are what they were; the leak guard looks after the rest. Stock asyncio does not
promise as much.
"""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import threading

import pytest
import trustme
from support import (
    LOCALHOST,
    TIME_LIMIT,
    Recorder,
    drain,
    fill,
    listening_socket,
    pattern,
    process_state,
    receive_exactly,
    several_turns,
    socket_pair,
    tcp_pair,
    until,
)

pytestmark = pytest.mark.zloop_only

HOST = "tls.example"
BIG = 4 << 20
"""More bytes than the buffers of a connection hold."""


class Workbench:
    """What an operation needs, and what it has made: all is given back by close()."""

    def __init__(self, loop, tmp_path, contexts):
        self.loop = loop
        self.tmp_path = tmp_path
        self.server_context, self.client_context = contexts
        self._stack = contextlib.ExitStack()
        self._helpers = []

    def enter(self, manager):
        return self._stack.enter_context(manager)

    def meanwhile(self, coro):
        """Run a coroutine beside the operation."""
        self._helpers.append(self.loop.create_task(coro))

    async def close(self):
        for helper in self._helpers:
            helper.cancel()
        await asyncio.gather(*self._helpers, return_exceptions=True)
        self._stack.close()
        await several_turns()


async def dismiss(result):
    """Give back what an operation that was not cancelled in time has made."""
    made = result[0] if isinstance(result, tuple) else result
    if isinstance(made, asyncio.SubprocessTransport):
        await until(lambda: made.get_returncode() is not None)
    if isinstance(made, asyncio.BaseTransport):
        protocol = made.get_protocol()
        made.abort() if hasattr(made, "abort") else made.close()
        if isinstance(protocol, Recorder):
            await protocol.until_called("connection_lost")
    elif isinstance(made, asyncio.Server):
        made.close()
        await made.wait_closed()
    elif isinstance(made, socket.socket):
        made.close()


# -- the operations ------------------------------------------------------------------------------------------------

OPERATIONS = {}


def operation(function):
    """Register a function that starts an operation on a Workbench: it returns the coroutine to be cancelled."""
    OPERATIONS[function.__name__] = function
    return function


@operation
def create_connection(bench):
    address = bench.enter(listening_socket()).getsockname()
    return bench.loop.create_connection(Recorder, *address)


@operation
def create_connection_that_is_refused_first(bench):
    """The port's first address is nobody's."""
    _host, port = bench.enter(listening_socket()).getsockname()
    bench.enter(
        replaced_resolver(lambda *_args: [stream_info("127.0.0.9", port), stream_info(LOCALHOST, port)]),
    )
    return bench.loop.create_connection(Recorder, "two.addresses", port)


@operation
def create_connection_by_happy_eyeballs(bench):
    _host, port = bench.enter(listening_socket()).getsockname()
    bench.enter(
        replaced_resolver(lambda *_args: [stream_info("127.0.0.9", port), stream_info(LOCALHOST, port)]),
    )
    return bench.loop.create_connection(Recorder, "two.addresses", port, happy_eyeballs_delay=0.001)


@operation
def create_connection_over_a_socket(bench):
    left, _right = bench.enter(socket_pair())
    return bench.loop.create_connection(Recorder, sock=left)


@operation
def create_connection_from_a_local_address(bench):
    address = bench.enter(listening_socket()).getsockname()
    return bench.loop.create_connection(Recorder, *address, local_addr=(LOCALHOST, 0))


@operation
def create_connection_with_tls(bench):
    left, right = bench.enter(tcp_pair())
    bench.meanwhile(accept_tls(bench, right))
    return bench.loop.create_connection(Recorder, sock=left, ssl=bench.client_context, server_hostname=HOST)


@operation
def connect_accepted_socket(bench):
    left, _right = bench.enter(tcp_pair())
    return bench.loop.connect_accepted_socket(Recorder, left)


@operation
async def start_tls(bench):
    left, right = bench.enter(tcp_pair())
    bench.meanwhile(accept_tls(bench, right))
    transport, protocol = await bench.loop.connect_accepted_socket(Recorder, left)
    try:
        await bench.loop.start_tls(transport, protocol, bench.client_context, server_hostname=HOST)
    finally:
        transport.abort()


@operation
def create_unix_connection(bench):
    listener = bench.enter(socket.socket(socket.AF_UNIX))
    listener.bind("")  # the kernel finds a name
    listener.listen()
    return bench.loop.create_unix_connection(Recorder, listener.getsockname())


@operation
def create_server(bench):
    return bench.loop.create_server(Recorder, LOCALHOST, 0)


@operation
def create_server_by_name(bench):
    bench.enter(replaced_resolver(lambda *_args: [stream_info(LOCALHOST, 0), stream_info("127.0.0.9", 0)]))
    return bench.loop.create_server(Recorder, "two.addresses", 0)


@operation
def create_unix_server(bench):
    return bench.loop.create_unix_server(Recorder, bench.tmp_path / "server")


@operation
def create_datagram_endpoint(bench):
    return bench.loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, (LOCALHOST, 0), bench.enter(listening_socket()).getsockname()
    )


@operation
def connect_read_pipe(bench):
    reader, _writer = bench.enter(pipe_ends())
    return bench.loop.connect_read_pipe(Recorder, reader)


@operation
def connect_write_pipe(bench):
    _reader, writer = bench.enter(pipe_ends())
    return bench.loop.connect_write_pipe(Recorder, writer)


@operation
def subprocess_exec(bench):
    return bench.loop.subprocess_exec(asyncio.SubprocessProtocol, "true")


@operation
async def subprocess_communicate(bench):
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert await process.communicate(b"data") == (b"data", None)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@operation
def sock_recv(bench):
    left, right = bench.enter(socket_pair())
    bench.meanwhile(after_turns(3, lambda: right.send(b"data")))
    return bench.loop.sock_recv(left, 4)


@operation
def sock_recv_into(bench):
    left, right = bench.enter(socket_pair())
    bench.meanwhile(after_turns(3, lambda: right.send(b"data")))
    return bench.loop.sock_recv_into(left, bytearray(4))


@operation
def sock_recvfrom(bench):
    left, right = bench.enter(socket_pair(socket.SOCK_DGRAM))
    bench.meanwhile(after_turns(3, lambda: right.send(b"data")))
    return bench.loop.sock_recvfrom(left, 4)


@operation
def sock_recvfrom_into(bench):
    left, right = bench.enter(socket_pair(socket.SOCK_DGRAM))
    bench.meanwhile(after_turns(3, lambda: right.send(b"data")))
    return bench.loop.sock_recvfrom_into(left, bytearray(4))


@operation
def sock_sendall(bench):
    left, right = bench.enter(socket_pair())
    bench.meanwhile(receive_exactly(bench.loop, right, BIG))
    return bench.loop.sock_sendall(left, bytes(BIG))


@operation
def sock_sendto(bench):
    sender, receiver = bench.enter(socket_pair(socket.SOCK_DGRAM))
    receiver.bind("")  # the kernel finds a name
    fill(sender)
    bench.meanwhile(after_turns(3, lambda: drain(receiver)))
    return bench.loop.sock_sendto(sender, b"data", receiver.getsockname())


@operation
async def sock_connect(bench):
    sock = bench.enter(socket.socket())
    sock.setblocking(False)
    await bench.loop.sock_connect(sock, bench.enter(listening_socket()).getsockname())


@operation
def sock_accept(bench):
    listener = bench.enter(listening_socket())
    client = bench.enter(socket.socket())
    bench.meanwhile(after_turns(3, lambda: client.connect(listener.getsockname())))
    return bench.loop.sock_accept(listener)


@operation
def sock_sendfile(bench):
    left, right = bench.enter(socket_pair())
    bench.meanwhile(receive_exactly(bench.loop, right, BIG))
    return bench.loop.sock_sendfile(left, big_file(bench), fallback=False)


@operation
async def sendfile(bench):
    left, right = bench.enter(socket_pair())
    bench.meanwhile(receive_exactly(bench.loop, right, BIG))
    transport, _protocol = await bench.loop.connect_accepted_socket(Recorder, left)
    try:
        assert await bench.loop.sendfile(transport, big_file(bench)) == BIG
    finally:
        transport.abort()


@operation
async def wait_closed(bench):
    server = await bench.loop.create_server(Recorder, LOCALHOST, 0)
    try:
        async with server:
            await server.start_serving()
    finally:
        await server.wait_closed()


@operation
async def open_streams(bench):
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), LOCALHOST, 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            assert await reader.read() == b""
        finally:
            writer.close()
            await writer.wait_closed()
    finally:
        server.close()


# -- what the operations share -------------------------------------------------------------------------------------


def stream_info(host, port):
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)


@contextlib.contextmanager
def pipe_ends():
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        yield reader, writer


@contextlib.contextmanager
def replaced_resolver(resolve):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield


def big_file(bench):
    path = bench.tmp_path / "file"
    path.write_bytes(pattern(BIG))
    return bench.enter(path.open("rb"))


async def after_turns(count, action):
    await several_turns(count)
    action()


async def accept_tls(bench, sock):
    """The server's side of a handshake, until it is cancelled."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        transport, protocol = await bench.loop.connect_accepted_socket(Recorder, sock, ssl=bench.server_context)
        try:
            await protocol.until_called("connection_lost")
        finally:
            transport.abort()


@pytest.fixture(scope="module")
def contexts():
    """A server's context, and a client's that trusts its certificate, which is HOST's."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def cancel_after(turns, coro):
    """Cancel a coroutine after that many turns. True if it was through before."""
    task = asyncio.get_running_loop().create_task(coro)
    await several_turns(turns)
    task.cancel()
    try:
        result = await task
    except asyncio.CancelledError:
        return False
    await dismiss(result)
    return True


def descriptors_and_tasks():
    return process_state()["descriptors"], asyncio.all_tasks()


@pytest.mark.parametrize("name", OPERATIONS)
def test_cancelled_at_every_turn(loop, run, tmp_path, contexts, name):
    async def scenario():
        await loop.run_in_executor(None, lambda: None)  # from here on there is its thread
        loop.add_signal_handler(signal.SIGUSR1, print)  # and the pipe that signals come by, which stays
        loop.remove_signal_handler(signal.SIGUSR1)
        turns = 0
        done = False
        while not done:
            before = descriptors_and_tasks()
            bench = Workbench(loop, tmp_path, contexts)
            done = await cancel_after(turns, OPERATIONS[name](bench))
            await bench.close()
            await until(lambda: descriptors_and_tasks() == before)
            turns += 1
        return turns

    assert run(scenario()) > 1


@pytest.mark.zloop_only  # asyncio loses the socket
@pytest.mark.parametrize("cancelled", [True, False])
def test_race_in_which_two_have_connected(loop, run, monkeypatch, cancelled):
    """What no caller gets is closed: both connections if the race is cancelled just then, else the later one."""

    async def race(attempts, _delay, *, loop):
        connected = [await attempt() for attempt in attempts]
        if cancelled:
            raise asyncio.CancelledError
        return connected[0], 0, []

    monkeypatch.setattr(asyncio.staggered, "staggered_race", race)

    async def scenario():
        with listening_socket() as listener:
            infos = [stream_info(*listener.getsockname())] * 2
            with replaced_resolver(lambda *_args: infos):
                connecting = loop.create_connection(Recorder, "two.addresses", 1, happy_eyeballs_delay=0.001)
                if cancelled:
                    with pytest.raises(asyncio.CancelledError):
                        await connecting
                else:
                    transport, _protocol = await connecting
            listener.setblocking(False)
            peers = [(await loop.sock_accept(listener))[0] for _ in range(2)]
            assert await loop.sock_recv(peers[1], 1) == b""
            if not cancelled:
                transport.close()
            assert await loop.sock_recv(peers[0], 1) == b""
            for peer in peers:
                peer.close()
            await several_turns()

    run(scenario())


@pytest.mark.parametrize("method", ["getaddrinfo", "getnameinfo"])
def test_cancelled_name_lookup_lets_its_thread_finish(loop, run, monkeypatch, method):
    asked, answer = threading.Event(), threading.Event()

    def look_up(*_args):
        asked.set()
        answer.wait(TIME_LIMIT)
        return []

    monkeypatch.setattr(socket, method, look_up)

    async def scenario():
        arguments = ("name", 80) if method == "getaddrinfo" else ((LOCALHOST, 80),)
        task = loop.create_task(getattr(loop, method)(*arguments))
        await until(asked.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer.set()
        await loop.shutdown_default_executor()

    run(scenario())


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("serving", [True, False], ids=["serving", "not yet serving"])
def test_cancelled_serve_forever_closes_the_server(loop, run, turns, serving):
    async def scenario():
        server = await loop.create_server(Recorder, LOCALHOST, 0, start_serving=serving)
        listener = server.sockets[0]
        task = loop.create_task(server.serve_forever())
        await several_turns(turns)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if turns == 0:  # it had not begun
            server.close()
        assert not server.is_serving()
        assert listener._sock.fileno() == -1
        await server.wait_closed()

    run(scenario())


def test_cancelled_while_its_descriptor_is_closed(loop, run):
    """The number of a socket that its owner closed meanwhile may be another's."""

    async def scenario():
        with socket_pair() as (left, right), socket_pair() as (stranger, strangers_peer):
            task = loop.create_task(loop.sock_recv(left, 4))
            await several_turns()
            right.send(b"data")
            number = left.fileno()
            left.close()
            os.dup2(stranger.fileno(), number)
            with socket.socket(fileno=number) as successor:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                successor.setblocking(False)
                receiving = loop.create_task(loop.sock_recv(successor, 8))
                await several_turns()
                strangers_peer.send(b"stranger")
                assert await receiving == b"stranger"

    run(scenario())
