"""Each public operation, again and again: neither memory, descriptors, threads nor objects of the engine become more.

ZLOOP_LEAK_ROUNDS says how often each is done, 10,000 times for all that is said here; a small share in the suite, and a
smaller one on asyncio, which shows that the operations are what they seem.
"""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import gc
import inspect
import io
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter

import pytest
from support import (
    FREE_THREADED,
    LOCALHOST,
    BufferedRecorder,
    Recorder,
    descriptor_closed,
    engine_objects,
    port_of,
    process_state,
    run_bounded,
    socket_pair,
    until,
)
from tls_support import HOST, contexts_for

ROUNDS = int(os.environ.get("ZLOOP_LEAK_ROUNDS", "200"))
WARMING_UP = 30
ASYNCIO_SHARE = 0.2
SPANS = 8
"""So often the rounds are measured: what leaks makes each span's end more than its beginning, a cache only a few."""
BYTES_A_ROUND = 16
"""Less than the smallest block of malloc(): what leaves one behind with each round has leaked."""
MOST_BYTES = 8192
MOST_BLOCKS = 60
"""What may come and go with many rounds, blocks of Python's allocator, and bytes of malloc()."""
CACHELESS = "tcache_count=0" in os.environ.get("GLIBC_TUNABLES", "")
ROUND_OF = {}
"""The operations' functions, by name."""


class Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


LIBC = ctypes.CDLL(None)
LIBC.malloc.argtypes, LIBC.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
LIBC.free.argtypes = [ctypes.c_void_p]


def malloc_in_use():
    """Bytes that malloc() has given out, or 0 where the C library does not tell."""
    try:
        mallinfo2 = LIBC.mallinfo2
    except AttributeError:
        return 0
    mallinfo2.restype = Mallinfo2
    told = mallinfo2()
    return told.uordblks + told.hblkhd


def measure():
    """What there is now, without what zloop remembers of addresses: each port is another one."""
    if dns := sys.modules.get("zloop.net.dns"):
        dns.numeric_info.cache_clear()
        dns.remembered_literal_info.cache_clear()
    for _ in range(3):
        gc.collect()
    state = process_state()
    return {
        "blocks": sys.getallocatedblocks(),
        "bytes": malloc_in_use(),
        "engine objects": sum(engine_objects().values()),
        "descriptors": len(state["descriptors"]),
        "threads": threading.active_count(),
    }


def again_and_again(*, share=1.0, bytes_a_round=BYTES_A_ROUND):
    """One operation, or several that belong together; a slow one is done for a share of the rounds.

    One whose blocks are of ever other sizes, or given out in several threads, needs more bytes: the C library counts
    what it caches as given out, unless it caches none.
    """

    def register(function):
        function.share = share
        function.bytes_a_round = BYTES_A_ROUND if CACHELESS else bytes_a_round
        ROUND_OF[function.__name__] = function
        return function

    return register


async def ended(*transports):
    await until(lambda: all(map(descriptor_closed, transports)))


# -- the loop itself -----------------------------------------------------------------------------------------------


@again_and_again()
async def callbacks(loop):
    done = loop.create_future()
    loop.call_soon(str)
    loop.call_soon(str).cancel()
    loop.call_later(0, str)
    loop.call_later(1000, str).cancel()
    loop.call_at(loop.time() + 1000, str).cancel()
    loop.call_soon_threadsafe(done.set_result, None)
    await done


@again_and_again()
async def tasks(loop):
    factory = loop.get_task_factory()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    await loop.create_task(asyncio.sleep(0))
    loop.set_task_factory(factory)
    cancelled = loop.create_task(asyncio.sleep(1000))
    await asyncio.sleep(0)
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled


@again_and_again()
async def exceptions(loop):
    handler, seen = loop.get_exception_handler(), []
    loop.set_exception_handler(lambda loop, context: seen.append(context))
    loop.call_exception_handler({"message": "text"})
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    assert len(seen) == 2
    loop.set_exception_handler(handler)
    logging.getLogger("asyncio").disabled = True
    loop.default_exception_handler({"message": "text"})
    logging.getLogger("asyncio").disabled = False


@again_and_again(share=0.2)
async def debugging(loop):
    loop.set_debug(not loop.get_debug())
    loop.call_soon(str)
    await asyncio.sleep(0)
    loop.set_debug(not loop.get_debug())
    assert loop.is_running()
    if not isinstance(loop, asyncio.SelectorEventLoop):  # zloop's alone
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            loop.print_debug_info()


@again_and_again(share=0.5, bytes_a_round=256)
async def executors(loop):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert await loop.run_in_executor(executor, int, "7") == 7
    assert await loop.run_in_executor(None, int, "7") == 7


@again_and_again(share=0.3, bytes_a_round=256)
async def names(loop):
    await loop.getaddrinfo(LOCALHOST, 80, type=socket.SOCK_STREAM)
    await loop.getnameinfo((LOCALHOST, 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)


@again_and_again()
async def signals(loop):
    arrived = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, arrived.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await arrived.wait()
    assert loop.remove_signal_handler(signal.SIGUSR1)


@again_and_again(share=0.3)
def lives_of_loops(other):
    loop = type(other)()
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        loop.set_default_executor(executor)

        async def generate():
            yield await loop.run_in_executor(None, int, "7")

        async def begin():
            return await anext(generate())

        assert loop.run_until_complete(begin()) == 7
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert loop.is_closed()


# -- descriptors and sockets ---------------------------------------------------------------------------------------


@again_and_again()
async def readers_and_writers(loop):
    with socket_pair() as (left, right):
        readable, writable = loop.create_future(), loop.create_future()
        loop.add_reader(left, lambda: readable.done() or readable.set_result(None))
        loop.add_writer(left, lambda: writable.done() or writable.set_result(None))
        right.send(b"x")
        await asyncio.gather(readable, writable)
        assert loop.remove_reader(left)
        assert loop.remove_writer(left)


@again_and_again()
async def socket_calls(loop):
    with socket.create_server((LOCALHOST, 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        accepting = loop.create_task(loop.sock_accept(listener))
        await loop.sock_connect(client, listener.getsockname())
        accepted, _address = await accepting
        with accepted, tempfile.TemporaryFile() as file:
            receiving = loop.create_task(loop.sock_recv(accepted, 100))
            await asyncio.sleep(0)
            await loop.sock_sendall(client, b"data")
            assert await receiving == b"data"
            file.write(b"file")
            file.seek(0)
            assert await loop.sock_sendfile(client, file) == 4
            assert await loop.sock_recv_into(accepted, bytearray(100)) == 4
            waiting = loop.create_task(loop.sock_recv(accepted, 100))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])


@again_and_again()
async def datagram_calls(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((LOCALHOST, 0))
        sock.setblocking(False)
        await loop.sock_sendto(sock, b"one", sock.getsockname())
        assert (await loop.sock_recvfrom(sock, 100))[0] == b"one"
        await loop.sock_sendto(sock, b"two", sock.getsockname())
        assert (await loop.sock_recvfrom_into(sock, bytearray(100)))[0] == 3


# -- transports ----------------------------------------------------------------------------------------------------


@again_and_again()
async def connections(loop):
    made = []
    server = await loop.create_server(lambda: made.append(BufferedRecorder()) or made[-1], LOCALHOST, 0)
    transport, protocol = await loop.create_connection(Recorder, LOCALHOST, port_of(server))
    await use_transport(transport, protocol, made)
    server.close()
    await server.wait_closed()


@again_and_again(share=0.5)
async def unix_connections(loop):
    made = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        server = await loop.create_unix_server(lambda: made.append(Recorder()) or made[-1], path)
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        await use_transport(transport, protocol, made)
        server.close()
        await server.wait_closed()


async def use_transport(transport, protocol, made):
    """Everything that a connection's transport can do."""
    await until(lambda: made and made[0].transport)
    accepted = made[0]
    transport.set_write_buffer_limits(high=transport.get_write_buffer_limits()[1])
    transport.write(b"one")
    transport.writelines([b"two", b"three"])
    await accepted.until(lambda: accepted.received == b"onetwothree")
    protocol.transport.pause_reading()
    assert not transport.is_reading()
    accepted.transport.write(bytes(300_000))
    protocol.transport.resume_reading()
    await protocol.until(lambda: len(protocol.received) == 300_000)
    assert transport.get_write_buffer_size() == 0
    transport.set_protocol(transport.get_protocol())
    assert transport.get_extra_info("peername") is not None
    assert transport.can_write_eof()
    transport.write_eof()
    await accepted.until_called("eof_received")
    accepted.transport.abort()
    transport.close()
    assert transport.is_closing()
    await ended(transport, accepted.transport)


@again_and_again()
async def accepted_sockets(loop):
    with socket_pair() as (left, right):
        transport, protocol = await loop.connect_accepted_socket(Recorder, left)
        right.send(b"data")
        await protocol.until_called("data_received")
        transport.close()
        await protocol.until_called("connection_lost")


@again_and_again()
async def refused_connections(loop):
    with socket.socket() as unused:
        unused.bind((LOCALHOST, 0))
        with contextlib.suppress(ConnectionRefusedError):
            await loop.create_connection(Recorder, *unused.getsockname())


@again_and_again(share=0.5)
async def servers(loop):
    server = await loop.create_server(Recorder, LOCALHOST, 0, start_serving=False)
    await server.start_serving()
    serving = loop.create_task(server.serve_forever())
    await asyncio.sleep(0)
    assert server.is_serving()
    assert server.get_loop() is loop
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    if sys.version_info >= (3, 13):
        server.close_clients()
        server.abort_clients()
    server.close()
    await server.wait_closed()


@again_and_again(share=0.2, bytes_a_round=256)
async def tls_connections(loop):
    made, contexts = [], contexts_for("direct")
    server = await loop.create_server(lambda: made.append(Recorder()) or made[-1], LOCALHOST, 0, ssl=contexts.server)
    transport, protocol = await loop.create_connection(
        Recorder, LOCALHOST, port_of(server), ssl=contexts.client, server_hostname=HOST
    )
    await until(lambda: made and made[0].transport)
    transport.write(bytes(100_000))
    await made[0].until(lambda: len(made[0].received) == 100_000)
    transport.close()
    await protocol.until_called("connection_lost")
    await made[0].until_called("connection_lost")
    server.close()
    await server.wait_closed()


@again_and_again(share=0.2, bytes_a_round=256)
async def upgraded_connections(loop):
    contexts = contexts_for("direct")
    with socket_pair() as (left, right):
        plain, _protocol = await loop.create_connection(Recorder, sock=left)
        other, _protocol = await loop.create_connection(Recorder, sock=right)
        client, server = await asyncio.gather(
            loop.start_tls(plain, Recorder(), contexts.client, server_hostname=HOST),
            loop.start_tls(other, Recorder(), contexts.server, server_side=True),
        )
        client.write(b"data")
        await server.get_protocol().until_called("data_received")
        client.abort()
        server.abort()
        await ended(plain, other)


@again_and_again()
async def files_sent(loop):
    with socket_pair() as (left, right), tempfile.TemporaryFile() as file:
        file.write(b"file")
        file.seek(0)
        transport, _protocol = await loop.create_connection(Recorder, sock=left)
        assert await loop.sendfile(transport, file) == 4
        assert right.recv(100) == b"file"
        transport.abort()
        await ended(transport)


@again_and_again()
async def datagram_endpoints(loop):
    class Echo(asyncio.DatagramProtocol):
        def __init__(self):
            self.received, self.lost = loop.create_future(), loop.create_future()

        def datagram_received(self, data, addr):
            self.received.set_result(data)

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    transport, protocol = await loop.create_datagram_endpoint(Echo, (LOCALHOST, 0))
    transport.sendto(b"data", transport.get_extra_info("sockname"))
    assert await protocol.received == b"data"
    transport.abort()
    await protocol.lost


@again_and_again()
async def pipes(loop):
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
        transport, protocol = await loop.connect_read_pipe(Recorder, reader)
        other, _protocol = await loop.connect_write_pipe(Recorder, writer)
        other.write(b"data")
        await protocol.until_called("data_received")
        other.close()
        await protocol.until_called("connection_lost")
        assert transport.is_closing()


@again_and_again(share=0.05)
async def children(loop):
    class Child(asyncio.SubprocessProtocol):
        def __init__(self):
            self.over = loop.create_future()

        def connection_lost(self, exc):
            self.over.set_result(exc)

    transport, protocol = await loop.subprocess_exec(Child, "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    transport.get_pipe_transport(0).write(b"data")
    assert transport.get_pid() > 0
    transport.send_signal(signal.SIGCONT)
    transport.get_pipe_transport(0).close()
    await protocol.over
    assert transport.get_returncode() == 0
    transport.close()
    for end in ("terminate", "kill"):
        transport, protocol = await loop.subprocess_shell(Child, "exec cat", stdin=subprocess.PIPE)
        transport.terminate() if end == "terminate" else transport.kill()
        await protocol.over
        transport.close()


# -- the tests -----------------------------------------------------------------------------------------------------


def bounds(rounds, bytes_a_round):
    """What may have become more after so many rounds."""
    return Counter({"blocks": min(rounds // 2, MOST_BLOCKS), "bytes": min(bytes_a_round * rounds, MOST_BYTES)})


def excess(loop, operation, rounds):
    """What has become more in each of SPANS spans of so many rounds, as the last one shows it, or nothing."""

    async def do(times):
        for _ in range(times):
            await operation(loop)

    def repeat(times):
        if not inspect.iscoroutinefunction(operation):
            for _ in range(times):
                operation(loop)
            return
        for start in range(0, times, 100):
            run_bounded(loop, do(min(100, times - start)))

    repeat(min(WARMING_UP, rounds))
    before = measure()
    for _ in range(SPANS):
        repeat(rounds)
        after = measure()
        grown = {what: count - before[what] for what, count in after.items()}
        if not Counter(grown) - bounds(rounds, operation.bytes_a_round):
            return {}
        before = after
    return grown


MORE_WITHOUT_A_GIL = {"datagram_endpoints", "children"}


@pytest.mark.parametrize("name", ROUND_OF)
@pytest.mark.timeout(60 + ROUNDS)
def test_nothing_becomes_more(loop_kind, loop, name):
    if FREE_THREADED and name in MORE_WITHOUT_A_GIL:
        pytest.skip("3.13t keeps 16 blocks a round, with asyncio, too")
    operation = ROUND_OF[name]
    share = operation.share * (ASYNCIO_SHARE if loop_kind == "asyncio" else 1)
    rounds = max(20, int(ROUNDS * share))  # in fewer, what else the process does looks like one in each
    assert not (grown := excess(loop, operation, rounds)), f"in {rounds} rounds: {grown}"


def is_counted(what):
    """Whether one more of it shows: memory is not, where a sanitizer or a setting has put another allocator in."""
    before, kept = measure(), [object() for _ in range(1000)]
    block = LIBC.malloc(1 << 20)
    after = measure()
    LIBC.free(block)
    del kept
    return what not in ("blocks", "bytes") or after[what] - before[what] > 500


@pytest.mark.parametrize("what", ["blocks", "bytes", "descriptors", "threads"])
def test_leak_of_one_in_each_round_is_seen(loop, what):
    if not is_counted(what):
        pytest.skip("another allocator counts for itself")
    kept, end = [], threading.Event()

    async def leaks(_loop):
        if what == "blocks":
            kept.append(object())
        elif what == "bytes":
            kept.append(LIBC.malloc(1))
        elif what == "descriptors":
            kept.append(os.dup(0))
        else:
            kept.append(threading.Thread(target=end.wait))
            kept[-1].start()

    leaks.bytes_a_round = BYTES_A_ROUND
    grown = excess(loop, leaks, 10)
    end.set()
    for one in kept:
        if what == "bytes":
            LIBC.free(one)
        elif what == "descriptors":
            os.close(one)
        elif what == "threads":
            one.join()
    assert grown[what] >= 8  # of ten: what else is freed meanwhile may hide one or two


# -- which operations there are ------------------------------------------------------------------------------------


def without_rounds(*types):
    """The public methods of the types that no operation calls."""
    source = "".join(map(inspect.getsource, (*ROUND_OF.values(), use_transport)))
    called = set(re.findall(r"\.(\w+)[()]", source))
    public = {name for one in types for name in dir(one) if callable(getattr(one, name)) and not name.startswith("_")}
    return sorted(public - called)


def test_every_public_method_has_its_rounds(loop):
    kinds = (asyncio.Transport, asyncio.DatagramTransport, asyncio.SubprocessTransport, asyncio.AbstractServer)
    assert without_rounds(asyncio.AbstractEventLoop, type(loop), *kinds) == []


def test_method_without_rounds_is_seen():
    class Loop(asyncio.AbstractEventLoop):
        def turn_somersaults(self):
            pass

    assert without_rounds(Loop) == ["turn_somersaults"]
