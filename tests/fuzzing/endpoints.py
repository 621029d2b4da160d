"""A state machine that drives transports of pipes, FIFOs and terminals, and datagram endpoints of every kind.

The bytes of a pipe arrive once and in order. A datagram arrives whole or, where its kind may lose it, not at all, at
the endpoint that it was sent to, and in order.
"""

import asyncio
import gc
import os
import socket
import tty

from connections import KINDS, SIZES
from ends import End, FlowControlled, PlainProtocol, Planned, Stream
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from loops import FAULT, KIND
from machines import OneLoop
from oracles import HOLDS, Datagrams

PIPE_KINDS = ["pipe", "fifo", "tty", "socket"]
ENDPOINT_KINDS = ["udp", "udp connected", "udp6", "udp6 connected", "unix", "unix connected"]
if KIND == "zloop":  # asyncio sends nothing to a peer without a name
    ENDPOINT_KINDS.append("pair")
DATAGRAM_SIZES = st.sampled_from([0, 1, 100, 1400, 9000, 60_000, 65_507])
READER_ACTIONS = ["close", "pause", "resume", "collect", "get_info"]
WRITER_ACTIONS = ["close", "abort", "write_eof", "limits", "collect", "get_info", "write"]
ENDPOINT_ACTIONS = ["close", "abort", "send", "limits", "collect", "get_info"]
PAIRS = 4
"""Of either sort at the same time, at most."""


class PipeEnd(End):
    """One side of a pipe."""

    def __init__(self, world, name, sends, receives, *, reads, loses):
        super().__init__(world, name, sends, receives)
        self.reads = reads
        self.loses = loses
        self.peer = None


class Endpoint(FlowControlled, asyncio.DatagramProtocol):
    """A datagram endpoint that checks its callbacks."""

    def __init__(self, world, name, sends, receives):
        self.world = world
        self.name = name
        self.sends = sends
        self.receives = receives
        self.peer = None
        self.transport = None
        self.name_seen = None
        """What its peer sees as the sender."""
        self.address = None
        """Where its peer sends to; None if the two are connected."""
        self.forgets = False
        """Linux drops what it has not received when it sends to a peer that has gone (unix_dgram_sendmsg())."""
        self.state = "new"  # then made, lost
        self.closed = False
        self.gone = False
        """It has been closed or aborted, or its peer has: what it sends may be lost."""
        self.plan = []
        self.faulty = set()

    def __repr__(self):
        return self.name

    def report(self, problem):
        self.world.problems.append(f"{self.name}: {problem}")

    def connection_made(self, transport):
        if self.state != "new":
            self.report(f"connection_made() when {self.state}")
        self.state = "made"
        self.transport = transport

    def datagram_received(self, data, addr):
        if self.state != "made" or self.closed:
            self.report(f"a datagram when {self.state}, closed={self.closed}")
        if type(data) is not bytes:
            self.report(f"datagram_received() of {type(data)}")
        expected = self.peer.name_seen
        if (addr or None) != expected:
            self.report(f"{addr!r} has sent what {expected!r} should have")
        if problem := self.receives.accept(data):
            self.report(problem)
        if self.plan:
            self.world.act(self, self.plan.pop(0))
        self.maybe_raise("datagram_received")

    def error_received(self, exc):
        if self.state != "made":
            self.report(f"error_received({exc!r}) when {self.state}")
        if not self.gone or not isinstance(exc, OSError):
            self.report(f"error_received({exc!r}) while the peer is there")
        self.maybe_raise("error_received")

    def connection_lost(self, exc):
        if self.state != "made" or exc is not None:
            self.report(f"connection_lost({exc!r}) when {self.state}")
        if not self.closed:
            self.report("connection_lost() without an end")
        self.state = "lost"
        self.maybe_raise("connection_lost")

    def maybe_raise(self, callback):
        if callback in self.faulty:
            self.faulty.discard(callback)
            raise Planned(callback)

    def send(self, size, kind="bytes"):
        if self.state != "made":
            return
        number, content = self.sends.begin(size)
        if self.gone or self.closed or size == 0:  # CPython 3.12 and earlier send no empty ones
            self.sends.may_be_lost(number)
        changing = bytearray(content)
        data = {"bytes": content, "bytearray": changing, "view": memoryview(changing)}[kind]
        for _ in range(2 if FAULT == "doubles datagrams" and size == 1400 else 1):
            try:
                self.transport.sendto(data, self.peer.address)
            except Planned:
                self.sends.may_be_lost(number)  # of error_received()
        changing[:] = bytes(size)

    def end(self, how):
        """Close or abort: what waits to be sent may be dropped, and what the peer sends from now on is lost."""
        self.closed = self.gone = self.peer.gone = True
        for sent in (self.peer.sends, self.sends) if how == "abort" or self.peer.forgets else (self.peer.sends,):
            for number in range(sent.count()):
                sent.may_be_lost(number)
        getattr(self.transport, how)()


class Endpoints(OneLoop):
    """Pipes and datagram endpoints of one loop, both of whose ends are in its hands."""

    expected = (Planned, BrokenPipeError)

    def __init__(self):
        super().__init__()
        self.pipes = []
        self.endpoints = []
        self.opened = 0
        self.calls = 0

    # ---- pipes

    @precondition(lambda self: len(self.pipes) < PAIRS)
    @rule(kind=st.sampled_from(PIPE_KINDS))
    def open_pipe(self, kind):
        """A direction of bytes; which file its two transports are given depends on the kind."""
        stream, nothing = Stream(self.opened), Stream(self.opened + 1)
        name = f"{kind} {self.opened // 2}"
        self.opened += 2
        loses = kind == "tty"  # what is unread when one side hangs up
        reader = PipeEnd(self, f"{name}, reader", nothing, stream, reads=True, loses=loses)
        writer = PipeEnd(self, f"{name}, writer", stream, nothing, reads=False, loses=loses)
        reader.peer, writer.peer = writer, reader
        if kind == "pipe":
            reading, writing = os.pipe()
        elif kind == "fifo":
            path = os.path.join(self.folder.name, name)
            os.mkfifo(path)
            reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        elif kind == "tty":
            writing, reading = os.openpty()
            tty.setraw(reading)
        else:
            reading, writing = (each.detach() for each in socket.socketpair())

        async def connect():
            file = os.fdopen(reading, "rb", 0)
            await self.loop.connect_read_pipe(lambda: PlainProtocol(reader), file)
            file = os.fdopen(writing, "wb", 0)
            await self.loop.connect_write_pipe(lambda: PlainProtocol(writer), file)

        self.run(connect())
        self.pipes.append((writer, reader))

    has_pipe = precondition(lambda self: self.pipes)

    def pipe(self, data):
        return self.pipes[data.draw(st.integers(0, len(self.pipes) - 1), "pipe")]

    @has_pipe
    @rule(data=st.data(), size=SIZES, kind=KINDS)
    def write(self, data, size, kind):
        self.write_to(self.pipe(data)[0], size, kind)

    def write_to(self, writer, size, kind="bytes"):
        if not writer.eof_written:
            writer.write(size, kind)

    @has_pipe
    @rule(data=st.data(), action=st.sampled_from(READER_ACTIONS))
    def call_reader(self, data, action):
        self.act(self.pipe(data)[1], action)

    @has_pipe
    @rule(data=st.data(), action=st.sampled_from(WRITER_ACTIONS))
    def call_writer(self, data, action):
        self.act(self.pipe(data)[0], action)

    @has_pipe
    @rule(data=st.data(), plan=st.lists(st.sampled_from([*READER_ACTIONS, "peer"]), max_size=3))
    def plan_reader(self, data, plan):
        self.pipe(data)[1].plan = plan

    @has_pipe
    @rule(
        data=st.data(),
        callbacks=st.sets(
            st.sampled_from(["data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing"])
        ),
    )
    def raise_in_pipe(self, data, callbacks):
        for end in self.pipe(data):
            end.faulty = dict.fromkeys(callbacks, Planned)

    # ---- endpoints

    @precondition(lambda self: len(self.endpoints) < PAIRS)
    @rule(kind=st.sampled_from(ENDPOINT_KINDS))
    def open_endpoints(self, kind):
        holds = HOLDS if kind.startswith("udp") else None
        there, back = (Datagrams(self.opened + number, holds=holds) for number in range(2))
        name = f"{kind} {self.opened // 2}"
        self.opened += 2
        first, second = Endpoint(self, f"{name}, first", there, back), Endpoint(self, f"{name}, second", back, there)
        first.peer, second.peer = second, first
        sockets = self.sockets(kind, name)
        for end, sock in zip((first, second), sockets, strict=True):
            sock.setblocking(False)
            end.name_seen = end.address = sock.getsockname() or None
            if kind.endswith("connected"):
                end.address = None
            end.forgets = kind in {"unix connected", "pair"}

        async def create():
            for end, sock in zip((first, second), sockets, strict=True):
                await self.loop.create_datagram_endpoint(lambda end=end: end, sock=sock)

        self.run(create())
        self.endpoints.append((first, second))

    def sockets(self, kind, name):
        if kind == "pair":
            return socket.socketpair(type=socket.SOCK_DGRAM)
        family = {"udp": socket.AF_INET, "udp6": socket.AF_INET6, "unix": socket.AF_UNIX}[kind.split()[0]]
        pair = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for number, sock in enumerate(pair):
            host = "127.0.0.1" if family == socket.AF_INET else "::1"
            path = os.path.join(self.folder.name, f"{name} {number}")
            sock.bind(path if family == socket.AF_UNIX else (host, 0))
        if kind.endswith("connected"):
            pair[0].connect(pair[1].getsockname())
            pair[1].connect(pair[0].getsockname())
        return pair

    has_endpoint = precondition(lambda self: self.endpoints)

    def endpoint(self, data):
        pair = self.endpoints[data.draw(st.integers(0, len(self.endpoints) - 1), "pair")]
        return pair[data.draw(st.integers(0, 1), "end")]

    @has_endpoint
    @rule(
        data=st.data(),
        size=DATAGRAM_SIZES,
        kind=st.sampled_from(["bytes", "bytearray", "view"]),
        count=st.sampled_from([1, 1, 2, 5, 30]),
    )
    def send(self, data, size, kind, count):
        end = self.endpoint(data)
        for _ in range(count):
            end.send(size, kind)

    @has_endpoint
    @rule(data=st.data(), action=st.sampled_from(ENDPOINT_ACTIONS))
    def call_endpoint(self, data, action):
        self.act(self.endpoint(data), action)

    @has_endpoint
    @rule(data=st.data(), plan=st.lists(st.sampled_from([*ENDPOINT_ACTIONS, "peer"]), max_size=3))
    def plan_endpoint(self, data, plan):
        self.endpoint(data).plan = plan

    @has_endpoint
    @rule(
        data=st.data(),
        callbacks=st.sets(
            st.sampled_from(
                ["datagram_received", "error_received", "connection_lost", "pause_writing", "resume_writing"]
            )
        ),
    )
    def raise_in_endpoint(self, data, callbacks):
        self.endpoint(data).faulty = set(callbacks)

    # ---- what is done to an end

    def act(self, end, action, _size=None):
        """Do something to an end; also from inside of its callbacks."""
        self.calls += 1
        if end.state != "lost":
            getattr(self, f"do_{action}")(end)

    def do_close(self, end):
        self.do_end(end, "close")

    def do_abort(self, end):
        self.do_end(end, "abort")

    def do_end(self, end, how):
        if isinstance(end, Endpoint):
            end.end(how)
            return
        end.closed = True
        end.broken = end.broken or how == "abort" or end.reads or end.loses
        end.peer.broken = end.peer.broken or end.broken
        getattr(end.transport, how)()

    def do_peer(self, end):
        """End the other one."""
        if end.peer.state != "lost":
            self.do_close(end.peer)

    def do_pause(self, end):
        end.transport.pause_reading()

    def do_resume(self, end):
        end.transport.resume_reading()

    def do_write_eof(self, end):
        end.eof_written = end.closed = True
        end.broken = end.broken or end.loses
        end.transport.write_eof()

    def do_write(self, end):
        self.write_to(end, 5000)

    def do_send(self, end):
        end.send(100)

    def do_limits(self, end):
        end.transport.set_write_buffer_limits(high=self.calls * 1000 % 100_000)

    def do_collect(self, _end):
        gc.collect()

    def do_get_info(self, end):
        end.transport.get_extra_info("pipe")
        if hasattr(end.transport, "get_write_buffer_size"):
            end.transport.get_write_buffer_size()
        repr(end.transport)

    # ---- the end

    def let_go(self):
        transports = [end.transport for end in self.ends()]
        self.pipes.clear()
        self.endpoints.clear()
        return transports

    def ends(self):
        return [end for pair in (*self.pipes, *self.endpoints) for end in pair]

    def finish(self):
        """Let everything that is promised arrive, then end all."""
        for end in self.ends():
            end.faulty.clear()
            end.plan.clear()
        for _writer, reader in self.pipes:
            self.act(reader, "resume")
        self.run_until(lambda: all(self.has_arrived(*pair) for pair in self.pipes))
        self.run_until(lambda: all(end.receives.is_complete() for pair in self.endpoints for end in pair))
        for writer, _reader in self.pipes:
            if writer.loses:
                self.act(writer, "abort")  # the terminal could be opened again, and what was written be read
        for end in self.ends():
            self.act(end, "close")
        for end in (end for pair in self.endpoints for end in pair):
            if end.state != "lost" and end.transport.get_write_buffer_size() > 0:
                self.act(end, "abort")  # its peer is closed, too, and reads no more: each could wait for the other
        self.run_until(lambda: all(end.state == "lost" for end in self.ends()))
        self.turns(3)

    def has_arrived(self, writer, reader):
        """Whether all that was promised is there; not owed once one side has gone otherwise than in order."""
        return writer.broken or reader.broken or reader.receives.received >= writer.sends.promised

    def run_until(self, condition):
        super().run_until(condition, lambda: [getattr(end.receives, "received", None) for end in self.ends()])

    def describe(self):
        return "; ".join(
            f"{end!r} is {end.state}, closed={end.closed}, {end.sends!r}, {end.receives!r}, {end.transport!r}"
            for end in self.ends()
        )
