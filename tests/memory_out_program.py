"""Sweeps of memory that is out: whatever loops and transports do, with each allocation failing in turn.

    memory_out_program.py ALLOCATOR SCENARIOS [TLS...]

Prints what is wrong, each time that it is. ALLOCATOR is "python", for what the interpreter allocates, or the file of
failing_new.cpp's library, which is preloaded, for what the engine does. SCENARIOS are joined by commas. TLS are the
files of a server's certificate and key, for those that need them.

There are no tasks while memory is out, and nothing of CPython's that does not outlive it: 3.13.0's dict.setdefault()
uses a key that it has freed. Coroutines are driven by hand.
"""

import asyncio
import contextlib
import contextvars
import functools
import gc
import importlib
import os
import resource
import socket
import ssl
import sys
import warnings
import weakref

from memory_out_tools import (
    LOCALHOST,
    SCENARIOS,
    Protocol,
    Turns,
    allocator,
    is_of_memory,
    loop_that_goes_on,
    memory_out,
    pair_of_transports,
    runs_until,
    scenario,
    sweep,
    sweep_quietly,
    transport_and_peer,
)

zloop = importlib.import_module("zloop") if __name__ == "__main__" else None  # the names alone are to be had without

# ---- the sweeps


@scenario
def loop_that_is_made():
    def attempt(n, width):
        with memory_out(n, width):
            loop = zloop.new_event_loop()
        assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
        loop.close()

    sweep(attempt)


@scenario
def callbacks_that_are_scheduled():
    def attempt(n, width):
        loop = zloop.new_event_loop()
        ran, accepted = [], [0]
        ran.extend(range(64))
        ran.clear()

        def callback():
            ran.append(None)

        try:
            with memory_out(n, width):
                for _ in range(4):
                    loop.call_soon(callback)
                    accepted[0] += 1
                    loop.call_later(0, callback)
                    accepted[0] += 1
                    loop.call_soon_threadsafe(callback)
                    accepted[0] += 1
        finally:
            loop.run_until_complete(asyncio.sleep(0.001))
            if len(ran) != accepted[0]:
                print(len(ran), "of", accepted[0], "ran, at", n, width)
            loop.close()

    sweep(attempt)


@scenario
def callbacks_that_are_run():
    """Each once: those whose turn fails keep it."""
    contexts = []

    def attempt(n, width):
        ran = bytearray(6)

        def callback(i):
            ran[i] += 1

        with loop_that_goes_on(n, width) as loop:
            for i in range(3):
                loop.call_soon(callback, i)
                loop.call_later(0, callback, 3 + i)
            contexts.extend([contextvars.Context() for _ in range(300)])  # CPython has no free ones left
            turns = Turns(loop, n, width)
            turns.run(3)
            if not runs_until(loop, lambda: sum(ran) >= 6):
                print("not run, at", n, width)
            if ran != bytes([1] * 6):
                print("run", list(ran), "times, at", n, width)
        return not turns.failed and not loop.troubles

    sweep_quietly(attempt, 50)


def kept_in(made):
    """A new protocol, which is among those that were made."""
    made.append(Protocol())
    return made[-1]


def end_server(loop, server):
    server.close()
    loop.run_until_complete(server.wait_closed())


@scenario
def connections_that_are_accepted():
    """Each is told of and read from, or closed; the server accepts the next."""

    def attempt(n, width):
        made = []
        with loop_that_goes_on(n, width) as loop:
            server = loop.run_until_complete(loop.create_server(lambda: kept_in(made), LOCALHOST, 0))
            address = server.sockets[0].getsockname()
            clients = [socket.create_connection(address) for _ in range(2)]
            turns = Turns(loop, n, width)
            turns.run(4)
            for client in clients:
                with contextlib.suppress(OSError):
                    client.send(b"ping")
            if not runs_until(loop, lambda: all(p.received or p.lost or not p.made for p in made)):
                print("not read from, at", n, width)
            whole = sum(bool(p.made) for p in made) == 2
            count = len(made)
            clients.append(socket.create_connection(address))
            if not runs_until(loop, lambda: len(made) > count and made[-1].made):
                print("accepts no more, at", n, width)
            for client in clients:
                client.close()
            if not runs_until(loop, lambda: all(p.is_over() for p in made)):
                print("not lost, at", n, width)
            end_server(loop, server)
            made.clear()
        return not turns.failed and not loop.troubles and whole

    sweep_quietly(attempt, 60)


@scenario
def accepting_without_descriptors():
    """None is left, and no memory to try again later by: the connection is accepted when there is one."""

    def attempt(n, width):
        made = []
        with loop_that_goes_on(n, width) as loop:
            server = loop.run_until_complete(loop.create_server(lambda: kept_in(made), LOCALHOST, 0))
            client = socket.create_connection(server.sockets[0].getsockname())
            with no_descriptor_left():
                turns = Turns(loop, n, width)
                turns.run(3)
            if not runs_until(loop, lambda: made and made[-1].made):
                print("accepts no more, at", n, width)
            client.close()
            if not runs_until(loop, lambda: all(p.is_over() for p in made)):
                print("not lost, at", n, width)
            end_server(loop, server)
            made.clear()
        return not turns.failed

    asyncio.constants.ACCEPT_RETRY_DELAY = 0
    allocator()  # loads a library
    sweep_quietly(attempt, 60)


@contextlib.contextmanager
def no_descriptor_left():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@scenario
def what_a_loop_tells():
    """Of its callbacks, its transports and a server's clients."""

    def attempt(n, width):
        loop = zloop.new_event_loop()
        ends = Protocol(), Protocol()
        server = loop.run_until_complete(loop.create_server(Protocol, LOCALHOST, 0))
        transports = pair_of_transports(loop, ends)
        handles = [loop.call_later(1000, print) for _ in range(20)] + [loop.call_soon(id, None) for _ in range(20)]
        clients = getattr(server, "_clients", None)
        if clients is not None:
            for transport in transports:
                clients.add(transport)
        told = [functools.partial(getattr, loop, "_ready"), functools.partial(getattr, loop, "_scheduled"), loop._state]
        if clients is not None:
            told.append(clients.copy)
        failed = True
        with contextlib.suppress(MemoryError), memory_out(n, width):
            for tell in told:
                tell()
            failed = False
        if len(loop._scheduled) != 20 or len(loop._ready) < 20:
            print("others than there were, at", n, width)
        for transport in transports:
            if clients is not None:
                clients.discard(transport)
            transport.abort()
        if not runs_until(loop, lambda: all(end.is_over() for end in ends)):
            print("not lost, at", n, width)
        for handle in handles:
            handle.cancel()
        end_server(loop, server)
        loop.close()
        return not failed

    sweep_quietly(attempt, 100)


@scenario
def loop_that_is_closed():
    """With callbacks of other threads, which it has not come to: they are released, now or with the loop."""

    class Argument:
        pass

    def attempt(n, width):
        loop = zloop.new_event_loop()
        arguments = [Argument() for _ in range(100)]
        released = [weakref.ref(argument) for argument in arguments]
        while arguments:
            loop.call_soon_threadsafe(id, arguments.pop())
        closed = bytearray(1)
        with contextlib.suppress(MemoryError), memory_out(n, width):
            loop._close()
            closed[0] = 1
        if not closed[0]:
            print("not closed, at", n, width)
        del loop
        gc.collect()
        if any(reference() is not None for reference in released):
            print("not released, at", n, width)
        return True

    sweep_quietly(attempt, 20)


class Driven:
    """A coroutine without a task. `outcome` is what it has returned or raised, in a list, once it has."""

    def __init__(self, loop, coro):
        self.loop = loop
        self.future = self.outcome = None
        self.kept = [None]
        self.coro = self.keep(coro)

    # Its result is here even when there is no memory for the StopIteration that tells of its end.
    async def keep(self, coro):
        kept = self.kept
        kept[0] = await coro
        self.outcome = kept

    def step(self):
        """Go on, if it is not done and does not wait."""
        if self.outcome is not None or (self.future is not None and not self.future.done()):
            return
        if self.future is not None:
            self.future._asyncio_future_blocking = False
        try:
            self.future = self.coro.send(None)
        except BaseException as exc:
            if self.outcome is None:
                self.kept[0] = exc
                self.outcome = self.kept

    def finish(self):
        self.loop._run_forever_setup()
        self.loop.stop()
        for _ in range(100):
            self.step()
            if self.outcome is not None:
                break
            self.loop._run_once()
        self.loop._run_forever_cleanup()
        return self.outcome


def connect_by_hand(n, width, options_of):
    """create_connection() to a server that is not the loop's."""
    with loop_that_goes_on(n, width) as loop, socket.create_server((LOCALHOST, 0)) as listener:
        protocol = Protocol()
        driven = Driven(loop, loop.create_connection(lambda: protocol, **options_of(listener)))
        turns = Turns(loop, n, width)
        turns.run(0, *[driven.step, loop._run_once] * 5)
        outcome = driven.finish()
        if outcome is None:
            print("does not connect, at", n, width)
        elif is_of_memory(outcome[0]):
            turns.failed = True
            outcome[0].__traceback__ = None  # where memory is out altogether, all MemoryErrors are this one
        elif isinstance(outcome[0], BaseException):
            print(repr(outcome[0]), "at", n, width)
        else:
            transport, found = outcome[0]
            if found is not protocol or not protocol.made or transport.is_closing():
                print("not made, at", n, width)
            transport.close()
            if not transport.is_closing():
                print("not closing, at", n, width)
            del transport
        del driven, outcome
        if not runs_until(loop, protocol.is_over):
            print("not lost, at", n, width)
    return not turns.failed and not loop.troubles


@scenario
def connections_that_are_made():
    """The coroutine raises MemoryError and leaves nothing, or the connection is there."""

    def to_host(listener):
        return {"host": LOCALHOST, "port": listener.getsockname()[1]}

    def with_sock(listener):
        sock = socket.create_connection(listener.getsockname())
        return {"sock": sock}

    for options_of in (to_host, with_sock):
        sweep_quietly(lambda n, width, options_of=options_of: connect_by_hand(n, width, options_of), 200)


@scenario
def bytes_that_are_written():
    """What was accepted arrives, in order, or the connection ends with an exception; what was refused does not."""

    def attempt(n, width):
        with loop_that_goes_on(n, width) as loop:
            pair = left, right = socket.socketpair()
            for sock in pair:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                sock.setblocking(False)
            transport, protocol = loop.run_until_complete(loop.create_connection(Protocol, sock=left))
            chunks = [bytes([i]) * 3000 for i in range(8)]
            items = [
                *(chunks[0], bytearray(chunks[1]), memoryview(chunks[2]), chunks[3]),
                memoryview(bytearray(chunks[4])),
            ]
            lists = [[chunks[5], memoryview(chunks[6])], [chunks[7], chunks[7]]]
            calls = [(transport.write, item) for item in items] + [(transport.writelines, item) for item in lists]
            accepted = bytearray(len(calls))
            numbers = tuple(range(len(calls)))
            counts = [sys.getrefcount(chunk) for chunk in chunks]

            def write():
                for i in numbers:
                    method, item = calls[i]
                    try:
                        method(item)
                        accepted[i] = 1
                    except MemoryError:
                        accepted[i] = 2

            turns = Turns(loop, n, width)
            turns.run(3, write)
            received = bytearray()

            def all_sent():
                with contextlib.suppress(BlockingIOError):
                    while data := right.recv(65536):
                        received.extend(data)
                return protocol.lost or transport.get_write_buffer_size() == 0

            if not runs_until(loop, all_sent):
                print("not sent, at", n, width)
            transport.close()
            if not runs_until(loop, protocol.is_over):
                print("not closed, at", n, width)
            all_sent()
            written = [bytes(item) for item in items] + [b"".join(item) for item in lists]
            expected = b"".join(written[i] for i in numbers if accepted[i] == 1)
            # writelines() may have got as far as its first item.
            begun = b"".join(
                chunks[5] if i == 5 and accepted[i] == 2 else written[i] for i in numbers if accepted[i] == 1 or i == 5
            )
            if protocol.exception is None and received not in (expected, begun):
                print("something else was received, at", n, width)
            right.close()
            del written
        if any(sys.getrefcount(chunk) < count for chunk, count in zip(chunks, counts, strict=True)):
            print("references were given up twice, at", n, width)
        return not turns.failed and 2 not in accepted and not loop.troubles

    sweep_quietly(attempt, 60)


@scenario
def bytes_that_are_received():
    """All of them, or the connection ends with an exception."""
    data = bytes(range(256)) * 40

    def attempt(n, width, kind, size):
        with loop_that_goes_on(n, width) as loop:
            ends = Protocol(), kind()
            left, right = pair_of_transports(loop, ends)
            left.write(data[:size])
            turns = Turns(loop, n, width)
            turns.run(4)
            left.close()
            if not runs_until(loop, lambda: all(end.is_over() for end in ends)):
                print("not lost, at", n, width, kind)
            if ends[1].exception is None and ends[1].received != data[:size]:
                print("bytes are missing, at", n, width, kind)
            if not right.is_closing():
                print("not closing, at", n, width, kind)
        return not turns.failed and not loop.troubles

    class Buffered(asyncio.BufferedProtocol, Protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.buffer = bytearray(4000)

        def get_buffer(self, _sizehint):
            return self.buffer

        def buffer_updated(self, count):
            self.received += self.buffer[:count]

    for kind, size in ((Protocol, 100), (Protocol, len(data)), (Buffered, len(data))):
        sweep_quietly(lambda n, width, kind=kind, size=size: attempt(n, width, kind, size), 60)


def run_once(turns, end):
    """In the first of the turns, where it is not to fail; or afterwards, if memory was out before it could begin."""
    called = bytearray(1)

    def call():
        called[0] = 1
        end()
        called[0] = 2

    turns.run(4, call)
    if called[0] == 0:
        end()
    elif called[0] == 1:
        print("closing failed, at", *turns.window)


def pipe_ends():
    ends = os.pipe()
    return os.fdopen(ends[0], "rb", 0), os.fdopen(ends[1], "wb", 0)


@scenario
def transports_that_are_closed():
    """By their own program, and by the other end. What close() was called of is closing, and ends."""

    def attempt(n, width, method, queued):
        with loop_that_goes_on(n, width) as loop:
            ends = Protocol(), Protocol()
            transports = pair_of_transports(loop, ends)
            if queued:
                transports[1].pause_reading()
                transports[0].write(bytes(100_000))
            turns = Turns(loop, n, width)
            run_once(turns, getattr(transports[0], method))
            if not transports[0].is_closing():
                print("not closing, at", n, width)
            transports[1].resume_reading()
            if not runs_until(loop, lambda: all(end.is_over() for end in ends)):
                print("not lost, at", n, width, method, [end.lost for end in ends])
            if queued and method == "close" and ends[1].exception is None and len(ends[1].received) != 100_000:
                print("bytes are missing, at", n, width)
        return not turns.failed and not loop.troubles

    for method in ("close", "abort"):
        for queued in (False, True):
            sweep_quietly(lambda n, width, m=method, q=queued: attempt(n, width, m, q), 60)


@scenario
def other_transports_that_are_closed():
    """Of datagrams and of pipes: by their own program, and by the other end."""

    class Endpoint(Protocol, asyncio.DatagramProtocol):
        pass

    async def datagram(loop, protocol):
        protocol.other_end = socket.socket()
        await loop.create_datagram_endpoint(lambda: protocol, (LOCALHOST, 0))

    async def reader(loop, protocol):
        end, protocol.other_end = pipe_ends()
        await loop.connect_read_pipe(lambda: protocol, end)

    async def writer(loop, protocol):
        protocol.other_end, end = pipe_ends()
        await loop.connect_write_pipe(lambda: protocol, end)

    def attempt(n, width, make, method):
        with loop_that_goes_on(n, width) as loop:
            protocol = Endpoint()
            loop.run_until_complete(make(loop, protocol))
            transport = protocol.transport
            turns = Turns(loop, n, width)
            run_once(turns, transport.close if method == "close" else protocol.other_end.close)
            if not runs_until(loop, protocol.is_over):
                print("not lost, at", n, width, make.__name__, method)
            if not transport.is_closing():
                print("not closing, at", n, width, make.__name__, method)
            protocol.other_end.close()
        return not turns.failed and not loop.troubles

    for make, method in ((datagram, "close"), (reader, "close"), (writer, "close"), (reader, "lost"), (writer, "lost")):
        sweep_quietly(lambda n, width, make=make, method=method: attempt(n, width, make, method), 60)


def end_without_memory(loop, end, n, width):
    """Call a transport's method that ends it, outside of a turn; whether there was memory to schedule the rest."""
    ready = len(loop._ready)
    with memory_out(n, width):
        end()
    return len(loop._ready) > ready


@scenario
def loop_that_is_closed_before_its_connections_end():
    """They were aborted. What the loop has of them is released."""

    def attempt(n, width):
        loop = zloop.new_event_loop()
        ends = Protocol(), Protocol()
        transports = pair_of_transports(loop, ends)
        is_scheduled = end_without_memory(loop, transports[0].abort, n, width)
        loop.close()
        references = [weakref.ref(transport) for transport in transports]
        del transports
        for end in ends:
            end.transport = None
        gc.collect()
        if any(reference() is not None for reference in references):
            print("not released, at", n, width)
        return is_scheduled

    sweep_quietly(attempt, 60)


@scenario
def connection_lost_that_leaves_the_loop():
    class Leaving(Protocol):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise KeyboardInterrupt

    def attempt(n, width):
        with loop_that_goes_on(n, width) as loop:
            ends = Leaving(), Protocol()
            transports = pair_of_transports(loop, ends)
            is_scheduled = end_without_memory(loop, transports[0].abort, n, width)
            interruptions = 0
            for _ in range(2):
                try:
                    runs_until(loop, lambda: all(end.is_over() for end in ends))
                except KeyboardInterrupt:
                    interruptions += 1
            if interruptions != 1 or not all(end.is_over() for end in ends):
                print("interrupted", interruptions, "times, at", n, width)
        return is_scheduled

    sweep_quietly(attempt, 60)


@scenario
def connections_that_are_closed_while_a_file_is_sent():
    """The transport waits for room then, with nothing in its queue."""

    def attempt(n, width):
        with loop_that_goes_on(n, width) as loop:
            ends = Protocol(), Protocol()
            transport, other = pair_of_transports(loop, ends)
            other.pause_reading()
            with contextlib.suppress(BlockingIOError):
                while True:
                    transport._sock.send(bytes(10_000))
            transport._make_empty_waiter()
            waiter = transport._make_drain_waiter()
            is_scheduled = end_without_memory(loop, transport.close, n, width)
            if not runs_until(loop, lambda: ends[0].lost and waiter.done()):
                print("not lost, at", n, width)
            waiter.exception()  # it is known of
            other.abort()
            if not runs_until(loop, lambda: all(end.is_over() for end in ends)):
                print("not lost, at", n, width)
        return is_scheduled

    sweep_quietly(attempt, 60)


@scenario
def bytes_that_nobody_takes():
    """The connection ends: with the kernel's error, or as there was no memory to tell of it."""

    def attempt(n, width):
        with loop_that_goes_on(n, width) as loop:
            transport, protocol, right = transport_and_peer(loop)
            right.close()
            data = b"lost"
            turns = Turns(loop, n, width)
            turns.run(2, lambda: transport.write(data))
            if not runs_until(loop, protocol.is_over):
                print("not lost, at", n, width)
            if protocol.exception is not None and not isinstance(protocol.exception, (OSError, MemoryError)):
                print(repr(protocol.exception), "at", n, width)
        return not turns.failed and isinstance(protocol.exception, OSError)

    sweep_quietly(attempt, 60)


@scenario
def memory_of_which_the_kernel_takes_a_part():
    """There is none to keep the rest in: the connection ends, and what has come is the beginning."""
    content = bytes(range(256)) * 4000

    def attempt(n, width):
        with loop_that_goes_on(n, width) as loop:
            transport, protocol, right = transport_and_peer(loop)
            data = bytearray(content)
            turns = Turns(loop, n, width)
            received, accepted = bytearray(), bytearray(1)

            def write():
                transport.write(data)
                accepted[0] = 1

            turns.run(2, write)

            def is_over():
                with contextlib.suppress(BlockingIOError):
                    while chunk := right.recv(65536):
                        received.extend(chunk)
                return protocol.lost or len(received) == len(content) or not (accepted[0] or received)

            if not runs_until(loop, is_over):
                print("neither received nor lost, at", n, width)
            if not content.startswith(received) or (received != content and accepted[0] and not protocol.exception):
                print("other bytes, at", n, width)
            transport.abort()
            if not runs_until(loop, protocol.is_over):
                print("not lost, at", n, width)
            right.close()
        return not turns.failed and not loop.troubles and received == content

    sweep_quietly(attempt, 60)


@scenario
def terminals_that_are_read_and_written_through_one_descriptor():
    """The second transport has a duplicate, for whose number the engine's table has no room yet."""

    def attempt(n, width):
        with loop_that_goes_on(n, width) as loop, contextlib.ExitStack() as stack:
            left, right = socket.socketpair()
            ends = Protocol(), Protocol()
            pipes = importlib.import_module("zloop.transports.pipe")
            reading = pipes.make_read_pipe_transport(loop, left, ends[0], None)
            runs_until(loop, lambda: ends[0].made)
            for _ in range(150):  # CPython itself loses larger numbers when memory is out
                stack.callback(os.close, os.dup(right.fileno()))
            failed = True
            with contextlib.suppress(MemoryError, OSError), memory_out(n, width):
                pipes.make_write_pipe_transport(loop, left, ends[1], None)
                failed = False
            stack.close()
            if failed:
                reading.close()  # the socket is closed with the other, if that was made
            else:
                runs_until(loop, lambda: ends[1].made)
            right.close()
            if not runs_until(loop, lambda: ends[0].lost and all(end.is_over() for end in ends)):
                print("not lost, at", n, width)
        return not failed and not loop.troubles

    sweep_quietly(attempt, 60)


# ---- TLS


def tls_contexts():
    chain, key = sys.argv[3:]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key)
    client = ssl.create_default_context(cafile=chain)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return client, server


def tls_pair(loop, contexts, ends, narrow=False):
    """The two transports of a TLS connection; its handshake begins in the next turn."""
    transports = []
    for sock, protocol, context, is_server in zip(socket.socketpair(), ends, contexts, (False, True), strict=True):
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.setblocking(False)
        transports.append(
            loop._make_ssl_transport(
                sock, protocol, context, server_side=is_server, server_hostname=None if is_server else ""
            )
        )
    return transports


@scenario
def tls_handshakes():
    """Both ends know of the connection and can use it, or it ends."""
    contexts = tls_contexts()

    def attempt(n, width):
        with loop_that_goes_on(n, width) as loop:
            ends = Protocol(), Protocol()
            transports = tls_pair(loop, contexts, ends)
            turns = Turns(loop, n, width)
            turns.run(10)
            if not runs_until(
                loop, lambda: all(end.made for end in ends) or all(transport.is_closing() for transport in transports)
            ):
                print("neither made nor closed, at", n, width)
            for transport in transports:
                transport.write(b"ping")
            if not runs_until(
                loop, lambda: all(end.received for end in ends) or any(end.lost or not end.made for end in ends)
            ):
                print("nothing received, at", n, width)
            for transport in transports:
                transport.close()
                if not transport.is_closing():
                    print("not closing, at", n, width)
            if not runs_until(loop, lambda: all(end.is_over() for end in ends)):
                print("not lost, at", n, width)
        return not turns.failed and not loop.troubles

    sweep_quietly(attempt, 400)


@scenario
def tls_connections_that_are_used():
    """Bytes come whole or the connection ends; closing ends it, at both ends."""
    contexts = tls_contexts()
    data = bytes(range(256)) * 400

    def attempt(n, width, method, lines, narrow):
        with loop_that_goes_on(n, width) as loop:
            ends = Protocol(), Protocol()
            transports = tls_pair(loop, contexts, ends, narrow)
            runs_until(loop, lambda: all(end.made for end in ends))
            write, end = transports[0].writelines if lines else transports[0].write, getattr(transports[0], method)
            written = [data] if lines else data
            done = bytearray(1)

            def use():
                done[0] = 1
                write(written)
                done[0] = 2
                end()
                done[0] = 3

            turns = Turns(loop, n, width)
            turns.run(20 if narrow else 8, use)
            if done[0] < 2:
                end()
            elif done[0] < 3:
                print(method, "failed, at", n, width)
            if not transports[0].is_closing():
                print("not closing, at", n, width)
            if not runs_until(loop, lambda: all(end.is_over() for end in ends)):
                print("not lost, at", n, width)
            received = ends[1].received
            if not data.startswith(received):
                print("other bytes, at", n, width)
            if method == "close" and done[0] == 3 and received != data and not any(end.exception for end in ends):
                print("bytes are missing, at", n, width)
        return not turns.failed and not loop.troubles

    for case in (("close", False, False), ("abort", False, False), ("close", True, False), ("close", True, True)):
        sweep_quietly(lambda n, width, case=case: attempt(n, width, *case), 200)


def main():
    sys.unraisablehook = lambda _unraisable: None
    warnings.simplefilter("ignore", ResourceWarning)
    first = zloop.new_event_loop()
    first.run_until_complete(asyncio.sleep(0.001))
    first.close()
    for name in sys.argv[2].split(","):
        SCENARIOS[name]()


if __name__ == "__main__":
    main()
