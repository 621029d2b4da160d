"""What is written leaves in the call: whoever looks, by whatever way, finds it on its way.

The peer is always in the test's own hands: a plain socket or pipe, which is read while the loop is kept from doing
anything. Programs that end behind a write run in a process of their own.
"""

import asyncio
import contextlib
import functools
import os
import selectors
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import (
    FREE_THREADED,
    LOCALHOST,
    NEW_EVENT_LOOP,
    TIME_LIMIT,
    Recorder,
    receive_exactly,
    several_turns,
    tcp_pair,
    until,
)
from tls_support import HOST, RawTls, contexts_for

STREAMS = ("tcp", "unix", "pipe")
KINDS = (*STREAMS, "tls", "datagram", "datagram to an address")


def received_by(read, count):
    """What read(count) gives, until that many bytes have come; the loop has no part in it."""
    taken = b""
    while len(taken) < count:
        taken += read(count - len(taken))
    return taken


class Channel:
    """A transport, and its peer, which is read without the loop."""

    def __init__(self, transport, send, read, fileno=None):
        self.transport = transport
        self.send = send
        self.read = read  # read(count): at least one byte, TIME_LIMIT seconds at most
        self.fileno = fileno

    def receive(self, count):
        return received_by(self.read, count)


def blocking(sock):
    sock.settimeout(TIME_LIMIT)
    return sock


@contextlib.contextmanager
def pair(kind):
    """Two connected non-blocking sockets, closed in the end."""
    if kind != "unix":
        with tcp_pair() as ends:
            yield ends
        return
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


async def handshaken(loop, left, right):
    tls = contexts_for("direct")
    peer = RawTls(loop, right, tls.server, server_side=True)
    shaking = loop.create_task(peer.do(peer.object.do_handshake))
    transport, _protocol = await loop.create_connection(Recorder, sock=left, ssl=tls.client, server_hostname=HOST)
    await shaking
    blocking(right)

    def read(count):
        while True:
            try:
                return peer.object.read(count)
            except ssl.SSLWantReadError:
                peer.incoming.write(right.recv(65536))

    return transport, read


@contextlib.asynccontextmanager
async def channel(loop, kind):
    """A Channel of that kind."""
    async with contextlib.AsyncExitStack() as stack:
        if kind == "pipe":
            read_end, write_end = os.pipe()
            stack.callback(os.close, read_end)
            pipe = os.fdopen(write_end, "wb", 0)
            transport, protocol = await loop.connect_write_pipe(Recorder, pipe)
            made = Channel(transport, transport.write, lambda count: os.read(read_end, count), pipe.fileno())
        elif kind.startswith("datagram"):
            peer = stack.enter_context(blocking(socket.socket(type=socket.SOCK_DGRAM)))
            peer.bind((LOCALHOST, 0))
            to_address = kind != "datagram"
            whole = {"local_addr": (LOCALHOST, 0)} if to_address else {"remote_addr": peer.getsockname()}
            transport, protocol = await loop.create_datagram_endpoint(Recorder, **whole)
            addressed = (peer.getsockname(),) if to_address else ()
            made = Channel(transport, lambda data: transport.sendto(data, *addressed), peer.recv)
        else:
            left, right = stack.enter_context(pair(kind))
            if kind == "tls":
                transport, read = await handshaken(loop, left, right)
                protocol = None
            else:
                transport, protocol = await loop.create_connection(Recorder, sock=left)
                read = blocking(right).recv
            made = Channel(transport, transport.write, read, left.fileno())
        try:
            yield made
        finally:
            transport.abort()
            if protocol is not None:
                await protocol.until_called("connection_lost")
            else:
                await until(lambda: left.fileno() == -1)


# -- in the call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_arrives_while_the_program_computes_on(loop, run, kind):
    async def scenario():
        async with channel(loop, kind) as made:
            for number in range(3):
                made.send(b"progress %d" % number)
                assert made.receive(10) == b"progress %d" % number

    run(scenario())


@pytest.mark.parametrize("kind", [*STREAMS, "tls"])
def test_what_writelines_sends_arrives_while_the_program_computes_on(loop, run, kind):
    async def scenario():
        async with channel(loop, kind) as made:
            for lines in ([b"head ", bytearray(b"body "), memoryview(b"tail")], [b"h" * 20_000, b"t" * 20_000]):
                whole = b"".join(lines)
                made.transport.writelines(lines)
                assert made.receive(len(whole)) == whole

    run(scenario())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_outside_of_the_loop_arrives(loop, run, kind):
    async def scenario():
        return await stack.enter_async_context(channel(loop, kind))

    stack = contextlib.AsyncExitStack()
    made = run(scenario())
    made.send(b"once")
    assert made.receive(4) == b"once"
    run(stack.aclose())


@pytest.mark.skipif(FREE_THREADED, reason="without a GIL it is refused")
@pytest.mark.parametrize("kind", KINDS)
def test_what_another_thread_writes_while_the_loop_is_idle_arrives(loop, run, kind):
    async def scenario():
        async with channel(loop, kind) as made:
            await several_turns(50)  # what came with the handshake is dealt with

            def write_and_read():
                made.send(b"from a thread")
                return made.receive(13)

            assert await loop.run_in_executor(None, write_and_read) == b"from a thread"

    run(scenario())


def test_what_is_written_inside_of_a_callback_about_data_arrives(loop, run):
    class Answering(Recorder):
        def data_received(self, data):
            self.transport.write(b"answer")
            self.answered = blocking(right).recv(6)
            super().data_received(data)

    left, right = socket.socketpair()
    left.setblocking(False)

    async def scenario():
        transport, protocol = await loop.create_connection(Answering, sock=left)
        right.send(b"question")
        await protocol.until_called("data_received")
        transport.abort()
        await protocol.until_called("connection_lost")
        return protocol.answered

    with right:
        assert run(scenario()) == b"answer"


# -- one order on the wire -----------------------------------------------------------------------------------------


def by_duplicate(fd, data):
    duplicate = os.dup(fd)
    os.write(duplicate, data)
    os.close(duplicate)


def by_child(fd, data):
    subprocess.run([sys.executable, "-c", f"import os; os.write(1, {data!r})"], stdout=fd, check=True)


def by_thread(fd, data):
    thread = threading.Thread(target=os.write, args=(fd, data))
    thread.start()
    thread.join()


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("way", [by_duplicate, by_child, by_thread])
def test_what_goes_by_another_way_keeps_its_place(loop, run, kind, way):
    async def scenario():
        async with channel(loop, kind) as made:
            made.send(b"head ")
            way(made.fileno, b"body ")
            made.transport.writelines([b"more ", b"head "])
            way(made.fileno, b"more body ")
            made.send(b"tail")
            return made.receive(34)

    assert run(scenario()) == b"head body more head more body tail"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", ["pipe", "datagram", "event"])
def test_who_is_told_by_another_channel_finds_it_there(loop, run, kind, other):
    async def scenario():
        async with channel(loop, kind) as made, contextlib.AsyncExitStack() as stack:
            if other == "event":
                event = threading.Event()
                tell, wait = event.set, lambda: event.wait(TIME_LIMIT)
            else:
                second = await stack.enter_async_context(channel(loop, other))
                tell, wait = (lambda: second.send(b"!")), (lambda: second.receive(1))

            def peer():
                wait()
                return made.receive(6)

            with ThreadPoolExecutor(1) as executor:
                received = executor.submit(peer)
                made.send(b"before")
                tell()
                assert received.result(TIME_LIMIT) == b"before"

    run(scenario())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("how", ["write", "write and drain", "writelines"])
def test_half_closing_by_the_socket_comes_behind_what_is_written(loop, run, kind, how):
    async def scenario():
        with pair(kind) as (left, right):
            _reader, writer = await asyncio.open_connection(sock=left)
            if how == "writelines":
                writer.writelines([b"re", b"quest"])
            else:
                writer.write(b"request")
            if how == "write and drain":
                await writer.drain()
            writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
            received = await receive_exactly(loop, right, 7)
            at_end = await loop.sock_recv(right, 1) == b""
            writer.transport.abort()
            await until(lambda: left.fileno() == -1)
            return received, at_end

    assert run(scenario()) == (b"request", True)


# -- a program that ends, or forks, behind a write -----------------------------------------------------------------

CONNECT = {
    "tcp": "transport, _ = await loop.create_connection(asyncio.Protocol, *address)\nsend = transport.write",
    "unix": "transport, _ = await loop.create_unix_connection(asyncio.Protocol, address)\nsend = transport.write",
    "tls": """
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
transport, _ = await loop.create_connection(asyncio.Protocol, *address, ssl=context)
send = transport.write""",
    "pipe": """
transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(os.open(address, os.O_WRONLY), "wb", 0))
send = transport.write""",
    "datagram": """
transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=address)
send = transport.sendto""",
    "datagram to an address": """
transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
send = lambda data: transport.sendto(data, address)""",
}
"""What makes `transport` and `send` from an address, by kind."""

ENDINGS = {
    "sys.exit": "sys.exit()",
    "os._exit": "os._exit(0)",
    "execv": "os.execv(sys.executable, [sys.executable, '-c', 'pass'])",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "a child that ends": "os.fork() or os._exit(0)\nos.wait()",
    "a child that goes on": "if os.fork():\n    os.wait()",
    "a child that closes": "if os.fork():\n    os.wait()\nelse:\n    transport.close()",
}

PROGRAM = """
import asyncio, os, signal, ssl, sys, warnings
{factory}
warnings.simplefilter("ignore")
address = {address!r}

async def main():
    loop = asyncio.get_running_loop()
{connect}
    send(b"once ")
{ending}

loop = new_event_loop()
loop.run_until_complete(main())
os._exit(0)
"""


def indented(source):
    return "\n".join(f"    {line}" for line in source.strip().splitlines())


def everything(read):
    """What read() gives until the end, or until the connection is reset by a process that has ended."""
    taken = b""
    with contextlib.suppress(ConnectionResetError):
        while data := read():
            taken += data
    return taken


@functools.cache
def quiet_context():
    """A server's that sends nothing behind the handshake: a client that has ended would answer a ticket by a reset."""
    context = contexts_for("direct").new_server()
    context.num_tickets = 0
    return context


@contextlib.contextmanager
def destination(kind):
    """(address, receive): receive(process) waits for the end of a program and gives what it has sent there."""
    with contextlib.ExitStack() as stack:
        if kind.startswith("datagram"):
            sock = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            sock.bind((LOCALHOST, 0))
            sock.setblocking(False)

            def receive(process):
                process.wait(TIME_LIMIT)
                with contextlib.suppress(BlockingIOError):
                    taken = b""
                    while data := sock.recv(100):
                        taken += data
                return taken

            yield sock.getsockname(), receive
            return
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        path = f"{directory}/peer"
        if kind == "pipe":
            os.mkfifo(path)
            keeper = os.open(path, os.O_RDWR)
            fd = os.open(path, os.O_RDONLY)
            stack.callback(os.close, fd)

            def receive(process):
                process.wait(TIME_LIMIT)
                os.close(keeper)
                return everything(lambda: os.read(fd, 100))

            yield path, receive
            return
        listener = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        stack.enter_context(blocking(listener))
        listener.bind(path if kind == "unix" else (LOCALHOST, 0))
        listener.listen()

        def receive(process):
            sock, _address = listener.accept()
            blocking(sock)
            if kind == "tls":
                sock = quiet_context().wrap_socket(sock, server_side=True)
            with sock:
                taken = everything(lambda: sock.recv(100))
            process.wait(TIME_LIMIT)
            return taken

        yield listener.getsockname(), receive


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_before_the_end_is_sent_once(loop_kind, kind, ending):
    with destination(kind) as (address, receive):
        source = PROGRAM.format(
            factory=NEW_EVENT_LOOP[loop_kind],
            address=address,
            connect=indented(CONNECT[kind]),
            ending=indented(ENDINGS[ending]),
        )
        with subprocess.Popen([sys.executable, "-P", "-c", source]) as process:
            try:
                assert receive(process) == b"once "
            finally:
                process.kill()


# -- the first of many answers -------------------------------------------------------------------------------------

REQUESTS = 24
WORK = 0.01  # seconds


class Served:
    """Does the work of a request, and keeps when it was done."""

    def __init__(self):
        self.done = []

    def work(self):
        time.sleep(WORK)  # which stands for computing, but lets the clients' thread see what arrives
        self.done.append(time.monotonic())


@contextlib.asynccontextmanager
async def protocol_server(loop, served, listener):
    class Answering(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            served.work()
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with await loop.create_server(Answering, sock=listener):
        yield


@contextlib.asynccontextmanager
async def stream_server(_loop, served, listener):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        served.work()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, sock=listener):
        yield


@contextlib.asynccontextmanager
async def aiohttp_server(_loop, served, listener):
    web = pytest.importorskip("aiohttp.web")

    async def answer(_request):
        served.work()
        return web.Response(text="answer")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    yield
    await runner.cleanup()


@contextlib.asynccontextmanager
async def uvicorn_server(loop, served, listener):
    uvicorn = pytest.importorskip("uvicorn")

    async def app(scope, receive, send):
        served.work()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None, access_log=False))
    serving = loop.create_task(server.serve([listener]))
    await until(lambda: server.started)
    yield
    server.should_exit = True
    await serving


def arrivals(socks):
    """When the first bytes came on each socket, in order."""
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_READ)
        times = []
        while len(times) < len(socks):
            ready = selector.select(TIME_LIMIT)
            assert ready, "no answer came"
            for key, _events in ready:
                times.append(time.monotonic())
                selector.unregister(key.fileobj)
    return times


@pytest.mark.parametrize("server", [protocol_server, stream_server, aiohttp_server, uvicorn_server])
def test_first_of_many_answers_does_not_wait_for_the_last(loop, run, server):
    served = Served()

    async def requests_to(listener):
        address = listener.getsockname()
        async with server(loop, served, listener):
            socks = [socket.create_connection(address) for _ in range(REQUESTS)]
            await several_turns(50)
            for sock in socks:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            times = await loop.run_in_executor(None, arrivals, socks)
            for sock in socks:
                sock.recv(1 << 16)
                sock.close()
            await several_turns(50)
        return times

    async def scenario():
        with socket.create_server((LOCALHOST, 0)) as listener:
            return await requests_to(listener)

    times = run(scenario())
    assert times[0] < served.done[3]
    assert times[REQUESTS // 2] < served.done[REQUESTS // 2 + 6]
