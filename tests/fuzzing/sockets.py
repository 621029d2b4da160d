"""A state machine that drives the sock_* coroutines, readers and writers on sockets of the program's own.

Two of them on one socket displace one another, as on asyncio: the machine knows which one the loop serves. That one has
to come to its end, the displaced ones must not; and what the loop still watches shows when it is taken away.
"""

import asyncio
import contextlib
import os
import socket
import struct
import tempfile
import time
import types

from ends import Planned
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from loops import FAULT, KIND
from machines import OneLoop
from oracles import HOLDS, Datagrams, Direction

SIZES = st.sampled_from([0, 1, 2, 100, 5000, 70_000, 400_000])
READS = st.sampled_from([1, 2, 100, 5000, 70_000, 300_000])
DATAGRAMS = st.sampled_from([0, 1, 100, 1400, 9000, 60_000])
STREAMS = ["pair", "tcp", "unix"]
MESSAGES = ["datagram pair", "udp", "udp6"]
SOCKETS = 4
"""Pairs at the same time, at most."""


@types.coroutine
def noted(coroutine, note):
    """Run a coroutine, and note each of its waits when it begins."""
    steps = coroutine.__await__()
    step = steps.send, None
    while True:
        try:
            waiter = step[0](step[1])
        except StopIteration as end:
            return end.value
        note()
        try:
            step = steps.send, (yield waiter)
        except BaseException as error:
            step = steps.throw, error


class Operation:
    """A task that uses one direction of a socket."""

    def __init__(self, undone):
        self.task = None
        self.undone = undone
        """Called, once, if it is displaced, or its task cancelled; with whether the loop had finished for it."""
        self.is_undone = False
        self.waits = False

    def __repr__(self):
        return repr(self.task)

    def undo(self, had_result):
        if not self.is_undone:
            self.is_undone = True
            self.undone(had_result)

    def has_result(self):
        """Whether the loop is done, and only the task has not heard."""
        waiter = self.task._fut_waiter
        return waiter is None or waiter.done()


class Side:
    """What the loop does with a socket in one direction: serve one operation, or one callback, or nothing."""

    def __init__(self):
        self.operations = []
        self.served = None
        """The operation that waits, or the callback."""

    def __repr__(self):
        return f"{self.operations} of which {self.served!r} is served"

    def wait(self, operation):
        operation.waits = True
        if isinstance(self.served, Operation) and self.served is not operation and not self.served.has_result():
            self.served.undo(False)  # before anything that follows it can arrive
        self.served = operation

    def update(self):
        """Find out what has come to its end."""
        self.operations = [operation for operation in self.operations if not operation.task.done()]
        if isinstance(self.served, Operation) and (self.served.task.done() or self.served.has_result()):
            self.served = None

    def displaced(self):
        """Operations that wait for good."""
        return [each for each in self.operations if each.waits and each is not self.served and not each.has_result()]

    def active(self):
        """Operations that wait for the loop, or have not begun to."""
        displaced = self.displaced()
        return [operation for operation in self.operations if operation not in displaced]


class Endpoint:
    """A socket of the program's own."""

    def __init__(self, world, name, sock, sends, receives):
        sock.setblocking(False)
        self.world = world
        self.name = name
        self.socket = sock
        self.sends = sends
        self.receives = receives
        self.peer = None
        self.reading = Side()
        self.writing = Side()
        self.broken = False
        """Its peer, or itself, was closed otherwise than in an orderly way."""
        self.closed = False
        self.finished = False
        """It has shut its sending half down."""
        self.ended = False
        """It has received the end."""
        self.faulty = False
        """Its reader raises."""

    def __repr__(self):
        return self.name

    def report(self, problem):
        self.world.problems.append(f"{self.name}: {problem}")

    def take(self, data, most=None):
        if isinstance(self.receives, Direction):
            self.ended = self.ended or (not data and most != 0)
            problem = self.receives.accept(data)
        else:
            problem = self.receives.accept(data, most)
        if problem:
            self.report(problem)

    def unwatch(self):
        """Take the reader and the writer away; the loop has to have them if the machine thinks so."""
        loop = self.world.loop
        for side, remove in ((self.reading, loop.remove_reader), (self.writing, loop.remove_writer)):
            side.update()
            stale = self.socket.fileno() in self.world.stale
            if remove(self.socket) is not (side.served is not None) and not stale:
                self.report(f"{remove.__name__}() was wrong about {side.served!r}")
            side.served = None

    def close(self):
        """For good, and the peer is told by a reset if something was unread."""
        self.closed = self.broken = self.peer.broken = True
        self.socket.close()


class Sockets(OneLoop):
    """Pairs of sockets that one loop waits for."""

    def __init__(self):
        super().__init__()
        self.pairs = []
        self.old = []
        self.stale = set()
        """Numbers that were closed under the loop: what it has for one may be the former socket's, as on asyncio."""
        self.opened = 0

    # ---- making and ending

    room = precondition(lambda self: len(self.pairs) < SOCKETS)

    @room
    @rule(kind=st.sampled_from(STREAMS), small=st.booleans())
    def open_stream(self, kind, small):
        self.add(*self.run(self.connected(kind)), Direction, small)

    @room
    @rule(kind=st.sampled_from(MESSAGES))
    def open_messages(self, kind):
        if kind == "datagram pair":
            self.add(*socket.socketpair(type=socket.SOCK_DGRAM), Datagrams)
            return
        family, host = (socket.AF_INET, "127.0.0.1") if kind == "udp" else (socket.AF_INET6, "::1")
        pair = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for sock in pair:
            sock.bind((host, 0))
        self.add(*pair, lambda number: Datagrams(number, holds=HOLDS))

    def add(self, first, second, oracle, small=False):
        there, back = oracle(self.opened), oracle(self.opened + 1)
        if small:
            for sock in (first, second):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        name = f"pair {self.opened // 2}"
        self.opened += 2
        pair = (
            Endpoint(self, f"{name}, first", first, there, back),
            Endpoint(self, f"{name}, second", second, back, there),
        )
        pair[0].peer, pair[1].peer = pair[1], pair[0]
        self.pairs.append(pair)

    def listener(self, kind):
        listener = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        path = os.path.join(self.folder.name, f"socket {self.opened} {time.monotonic_ns()}")
        listener.bind(path if kind == "unix" else ("127.0.0.1", 0))
        listener.setblocking(False)
        listener.listen()
        return listener

    async def connected(self, kind):
        if kind == "pair":
            return socket.socketpair()
        with self.listener(kind) as listener:
            client = socket.socket(listener.family)
            client.setblocking(False)
            accepting = asyncio.ensure_future(self.loop.sock_accept(listener))
            await self.loop.sock_connect(client, listener.getsockname())
            server, _address = await accepting
            assert server.gettimeout() == 0
            return client, server

    @rule(kind=st.sampled_from(["tcp", "unix"]), turns=st.integers(0, 3), connects=st.booleans(), closes=st.booleans())
    def accept_and_give_up(self, kind, turns, connects, closes):
        """What is accepted for nobody is closed; what is not accepted yet, the next one gets."""

        async def accept():
            with self.listener(kind) as listener, socket.socket(listener.family) as client:
                client.setblocking(False)
                accepting = asyncio.ensure_future(self.loop.sock_accept(listener))
                if connects:
                    await self.loop.sock_connect(client, listener.getsockname())
                for _ in range(turns):
                    await asyncio.sleep(0)
                if closes and KIND == "zloop":  # asyncio's next socket with the number fails
                    listener.close()
                accepting.cancel()
                try:
                    sock, _address = await accepting
                except asyncio.CancelledError:
                    return
                with sock:
                    assert connects

        self.run(accept())

    @rule(turns=st.integers(0, 2), refused=st.booleans())
    def connect_and_give_up(self, turns, refused):
        async def connect():
            with self.listener("tcp") as listener, socket.socket() as client:
                client.setblocking(False)
                address = listener.getsockname()
                if refused:
                    listener.close()
                connecting = asyncio.ensure_future(self.loop.sock_connect(client, address))
                for _ in range(turns):
                    await asyncio.sleep(0)
                connecting.cancel()
                try:
                    await connecting
                except asyncio.CancelledError:
                    pass
                except ConnectionRefusedError:
                    assert refused
                assert self.loop.remove_writer(client) is False or client.fileno() in self.stale

        self.run(connect())

    has_stream = precondition(lambda self: self.ends(Direction))
    has_messages = precondition(lambda self: self.ends(Datagrams))
    has_socket = precondition(lambda self: self.pairs)

    def ends(self, oracle=None):
        ends = [end for pair in self.pairs for end in pair if not end.closed]
        return [end for end in ends if oracle is None or isinstance(end.sends, oracle)]

    def end_of(self, data, oracle=None):
        ends = self.ends(oracle)
        return ends[data.draw(st.integers(0, len(ends) - 1), "end")]

    # ---- operations

    def start(self, end, side, function, undone):
        """Run an operation, which reports what goes wrong."""
        operation = Operation(undone)

        async def operate():
            try:
                await noted(function(), lambda: side.wait(operation))
            except asyncio.CancelledError:
                raise
            except (OSError, asyncio.SendfileNotAvailableError) as error:
                if not end.broken:
                    end.report(f"unexpectedly, {error!r}")
            except Exception as error:
                end.report(f"unexpectedly, {error!r}")

        operation.task = self.loop.create_task(operate())
        side.operations.append(operation)

    def cancel(self, end, side, operation):
        """Cancel an operation, and wait for its end."""
        had_result = operation.waits and operation.has_result()
        operation.task.cancel()
        while not operation.task.done():
            self.turns(1)
        if operation.task.cancelled():
            operation.undo(had_result)
        side.update()

    @has_stream
    @rule(data=st.data(), size=READS, into=st.booleans())
    def receive(self, data, size, into):
        end = self.end_of(data, Direction)
        if not end.ended:
            self.start_receive(end, size, into)

    def start_receive(self, end, size, into):
        async def receive():
            if into:
                buffer = bytearray(size)
                received = await self.loop.sock_recv_into(end.socket, buffer)
                assert not any(buffer[received : received + 10])
                end.take(bytes(buffer[:received]))
            else:
                end.take(await self.loop.sock_recv(end.socket, size))

        def undone(had_result):
            if had_result:
                end.receives.may_lose(size)

        self.start(end, end.reading, receive, undone)

    @has_messages
    @rule(data=st.data(), size=st.sampled_from([1, 100, 70_000]), how=st.sampled_from(["bytes", "into", "address"]))
    def receive_message(self, data, size, how):
        self.start_receive_message(self.end_of(data, Datagrams), size, how)

    def start_receive_message(self, end, size, how="bytes"):
        async def receive():
            if how == "address":
                content, address = await self.loop.sock_recvfrom(end.socket, size)
                self.check_sender(end, address)
            elif how == "into":
                buffer = bytearray(size)
                count, address = await self.loop.sock_recvfrom_into(end.socket, buffer)
                self.check_sender(end, address)
                content = bytes(buffer[:count])
            else:
                content = await self.loop.sock_recv(end.socket, size)
            end.take(content, size)

        def undone(had_result):
            if had_result:
                end.receives.may_lose()

        self.start(end, end.reading, receive, undone)

    def check_sender(self, end, address):
        if not end.peer.closed and (address or "") != end.peer.socket.getsockname():
            end.report(f"was sent something by {address}")

    @has_stream
    @rule(data=st.data(), size=SIZES, kind=st.sampled_from(["bytes", "bytearray", "view"]))
    def send(self, data, size, kind):
        """Send the stream's next bytes, if nothing else does."""
        end = self.end_of(data, Direction)
        end.writing.update()
        # Of no bytes there is nothing that waits, and that would displace what does.
        if end.finished or (size == 0 and end.writing.active()) or not self.may_send(end):
            return
        begin, content = end.sends.begin(size)
        sent = content[:-1] if FAULT == "loses bytes" and size == 5000 else content
        made = {"bytes": bytes, "bytearray": bytearray, "view": lambda sent: memoryview(b"-" + sent)[1:]}[kind](sent)
        self.start(
            end,
            end.writing,
            lambda: self.loop.sock_sendall(end.socket, made),
            lambda _had_result: end.sends.cut(begin, size),
        )

    def may_send(self, end):
        """Whether the next operation's bytes will follow those of all before.

        They do if nothing sends, or if what sends is about to be displaced: if there is no room, and nobody makes any.
        """
        side = end.writing
        side.update()
        sending = side.active()
        if not sending:
            return side.served is None
        peer = end.peer.reading
        peer.update()
        if end.broken or end.socket.family != socket.AF_UNIX or peer.operations or peer.served:
            return False
        if sending != [side.served]:
            return False
        with contextlib.suppress(BlockingIOError):
            while True:  # poll() may find no room where a byte has some
                end.socket.send(end.sends.next(1))
                end.sends.written += 1
        return True

    @has_stream
    @rule(data=st.data(), size=SIZES, offset=st.sampled_from([0, 10]))
    def sendfile(self, data, size, offset):
        end = self.end_of(data, Direction)
        end.writing.update()
        if end.finished or size == 0 or end.writing.operations or end.writing.served:
            return
        begin, content = end.sends.begin(size)
        file = tempfile.TemporaryFile()  # noqa: SIM115  # send() closes it
        file.write(bytes(offset) + content + b"behind the end")
        file.flush()
        begun, where = [], []

        async def send():
            begun.append(True)
            with file:
                try:
                    sent = await self.loop.sock_sendfile(end.socket, file, offset, size, fallback=False)
                finally:
                    where.append(file.tell() - offset)
                if sent != size or where != [size]:
                    end.report(f"sendfile() has sent {sent} of {size}, and the file is at {where}")

        def undone(_had_result):
            if begun and not where:
                end.sends.cut(begin, size)  # it is displaced, and waits still
                return
            file.close()  # if send() has never begun
            # Nothing, if it has not come to moving the file's position, which is behind the bytes yet.
            sent = where[0] if where and 0 <= where[0] <= size else 0
            end.sends.cut(begin, size, sent, sent)

        self.start(end, end.writing, send, undone)

    @has_messages
    @rule(data=st.data(), size=DATAGRAMS, mutable=st.booleans())
    def send_message(self, data, size, mutable):
        end = self.end_of(data, Datagrams)
        end.writing.update()
        if end.writing.operations or end.writing.served:
            return
        number, content = end.sends.begin(size)
        if mutable:
            content = bytearray(content)
        address = end.peer.socket.getsockname() if not end.peer.closed else None

        async def send():
            if address:
                sent = await self.loop.sock_sendto(end.socket, content, address)
                if sent != size:
                    end.report(f"sendto() has sent {sent} of {size}")
            elif content:
                await self.loop.sock_sendall(end.socket, content)
            else:
                end.socket.send(content)  # sendall() of nothing may send nothing

        if address or content:
            self.start(end, end.writing, send, lambda _had_result: end.sends.may_be_lost(number))
        else:
            try:
                end.socket.send(b"")
            except OSError:
                end.sends.may_be_lost(number)

    @has_socket
    @rule(data=st.data(), sending=st.booleans(), which=st.integers(0, 3))
    def cancel_operation(self, data, sending, which):
        if not self.ends():
            return
        end = self.end_of(data)
        side = end.writing if sending else end.reading
        side.update()
        if side.operations:
            self.cancel(end, side, side.operations[which % len(side.operations)])

    # ---- callbacks

    @has_socket
    @rule(data=st.data(), size=READS, raises=st.booleans())
    def add_reader(self, data, size, raises):
        """A reader takes what is there; whatever else waits to read is displaced."""
        if not self.ends():
            return
        end = self.end_of(data)
        end.faulty = raises

        def read():
            if end.closed:
                return  # there is input for the next socket with the number
            try:
                received = end.socket.recv(size)
            except BlockingIOError:
                return
            except OSError:
                received = b""
                if not end.broken:
                    raise
            end.take(received, size)
            if end.ended or end.broken:
                self.loop.remove_reader(end.socket)
                end.reading.served = None
            if end.faulty:
                end.faulty = False
                raise Planned

        end.reading.update()
        self.loop.add_reader(end.socket, read)
        end.reading.served = read

    @has_stream
    @rule(data=st.data(), times=st.integers(1, 3))
    def add_writer(self, data, times):
        """A writer sends a little, a few times; a send that waits is displaced."""
        end = self.end_of(data, Direction)
        end.writing.update()
        if end.finished or end.writing.active() not in ([], [end.writing.served]):
            return
        left = [times]

        def write():
            left[0] -= 1
            begin, content = end.sends.begin(10)
            try:
                sent = end.socket.send(content)
            except OSError:
                sent = 0
                if not end.broken:
                    raise
            end.sends.cut(begin, 10, sent, sent)
            if not left[0] or end.broken:
                self.loop.remove_writer(end.socket)
                end.writing.served = None

        displaced = end.writing.served
        if isinstance(displaced, Operation):
            for operation in end.writing.displaced():
                self.cancel(end, end.writing, operation)
        self.loop.add_writer(end.socket, write)
        end.writing.served = write
        if isinstance(displaced, Operation):
            self.cancel(end, end.writing, displaced)  # what it has sent is in front of what the writer will

    @has_socket
    @rule(data=st.data())
    def remove(self, data):
        if not self.ends():
            return
        end = self.end_of(data)
        end.unwatch()
        if FAULT == "leaves readers":
            self.loop.add_reader(end.socket, int)

    # ---- ends

    @has_stream
    @rule(data=st.data())
    def half_close(self, data):
        end = self.end_of(data, Direction)
        end.writing.update()
        if end.finished or end.writing.operations or end.writing.served:
            return
        with contextlib.suppress(OSError):
            end.socket.shutdown(socket.SHUT_WR)
        end.finished = True

    @has_socket
    @rule(data=st.data(), how=st.sampled_from(["close", "reset", "under the loop"]), reopens=st.booleans())
    def close(self, data, how, reopens):
        """Close a socket, perhaps under what waits for it; its number goes to the next one that is opened."""
        if not self.ends():
            return
        end = self.end_of(data)
        if how != "under the loop" or KIND != "zloop":  # asyncio's next socket with the number fails
            self.abandon(end)
        for side in (end.reading, end.writing):
            side.update()
            side.served = None  # the loop may drop the callback, or keep it for good
        if how == "reset":
            end.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        number = end.socket.fileno()
        if how == "under the loop" and KIND == "zloop":
            self.stale.add(number)
        end.close()
        self.old.append(end)
        self.pairs = [pair for pair in self.pairs if not all(each.closed for each in pair)]
        if reopens:
            first, second = socket.socketpair()
            if number not in {first.fileno(), second.fileno()}:
                os.dup2(first.fileno(), number, inheritable=False)
                first.close()
                first = socket.socket(fileno=number)
            self.add(first, second, Direction)
            self.start_receive(self.pairs[-1][0], 1000, into=False)
            self.start_receive(self.pairs[-1][1], 1000, into=False)

    @rule()
    def pass_by(self):
        """A connection of the loop's own, which has a number that was some socket's before."""

        async def echo(reader, writer):
            writer.write(await reader.readexactly(4))
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def ask():
            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"ping")
                assert await reader.read() == b"ping"
                writer.close()
                await writer.wait_closed()

        self.run(ask())

    def turn(self):
        super().turn()
        for pair in self.pairs:
            for end in pair:
                end.reading.update()
                end.writing.update()

    def pass_time(self):
        self.turn()

    # ---- the end

    def abandon(self, end):
        """End all that uses a socket."""
        for side in (end.writing, end.reading):
            side.update()
            for operation in list(side.operations):
                self.cancel(end, side, operation)
        if not end.closed:
            end.unwatch()

    def let_go(self):
        ends = [*self.old, *(end for pair in self.pairs for end in pair)]
        self.pairs.clear()
        self.old.clear()
        for end in ends:
            end.socket.close()
        return [end.socket for end in ends]

    def finish(self):
        """Receive all that was sent, and end."""

        def progress():
            return [(end.receives.places, len(end.writing.operations)) for end in ends]

        for end in self.old:
            self.abandon(end)
        self.turns(1)  # all operations have begun
        ends = self.ends()
        for end in ends:
            for side, remove in ((end.reading, self.loop.remove_reader), (end.writing, self.loop.remove_writer)):
                side.update()
                if side.served is not None and not isinstance(side.served, Operation):
                    assert remove(end.socket) is True
                    side.served = None
                for operation in side.displaced():
                    self.cancel(end, side, operation)
        streams, messages = self.ends(Direction), self.ends(Datagrams)
        self.run_until(lambda: all(list(map(self.is_at_end, streams))), progress)
        self.run_until(lambda: all(list(map(self.has_all_messages, messages))), progress)
        for end in ends:
            self.abandon(end)
            assert not self.loop.remove_reader(end.socket)
            assert not self.loop.remove_writer(end.socket)
        for end in streams:
            if not end.broken and not end.receives.is_complete():
                end.report(f"the end has come at {sorted(end.receives.places)} of {end.receives.written}")

    def is_at_end(self, end):
        """Whether the end has come; else what is needed for it is done."""
        end.reading.update()
        end.writing.update()
        if not end.finished and not end.writing.operations:
            with contextlib.suppress(OSError):
                end.socket.shutdown(socket.SHUT_WR)
            end.finished = True
        if end.broken:
            return not end.writing.operations
        if not end.ended and not end.reading.operations:
            self.start_receive(end, 70_000, into=False)
        return end.ended and not end.reading.operations and not end.writing.operations

    def has_all_messages(self, end):
        end.reading.update()
        end.writing.update()
        if end.broken or (end.receives.is_complete() and not end.peer.writing.operations):
            return True
        if not end.reading.operations:
            self.start_receive_message(end, 70_000)
        return False

    def describe(self):
        return "; ".join(
            f"{end}: reading {end.reading}, writing {end.writing}, {end.receives}, broken={end.broken}"
            for end in self.ends()
        )
