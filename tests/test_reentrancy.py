"""Calling a transport from inside each callback of its protocol, and protocols that raise in each of theirs.

Datagram endpoints, pipes and child processes; those of stream sockets are in test_transports.py. Every callback meets
every action: what is called after it, what is reported and how it ends is as with asyncio.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import weakref

import pytest
from support import (
    LOCALHOST,
    BufferedRecorder,
    Recorder,
    drain,
    outcome_of,
    resource_warnings,
    several_turns,
    socket_pair,
    until,
)

BIG = 1 << 20
"""More bytes than a pipe holds."""

DATAGRAM = b"x" * 4096
MANY = 100
"""More datagrams than a unix socket's queue and a transport's high-water mark hold."""


class Broken(Exception):
    """What a broken protocol raises."""


def break_down(_protocol):
    raise Broken


def leave(_protocol):
    raise SystemExit("leaving")


def interrupt(_protocol):
    raise KeyboardInterrupt("leaving")


class Acting:
    """A protocol of any kind that records its calls, and acts on its transport at the first call of one of them."""

    def __init__(self, place, action):
        self._place = place
        self._action = action
        self.transport = None
        self.calls = []
        self.outcome = None

    def _call(self, name, *details):
        self.calls.append((name, *details))
        if name == self._place and self.outcome is None:
            self.outcome = ()
            self.outcome = outcome_of(self._action, self)[:2]
            if self._action is break_down:
                self._action(self)

    def connection_made(self, transport):
        self.transport = transport
        self._call("connection_made")

    def connection_lost(self, exc):
        self._call("connection_lost", type(exc))

    def data_received(self, _data):
        self._call("data_received")

    def eof_received(self):
        self._call("eof_received")

    def datagram_received(self, _data, _address):
        self._call("datagram_received")

    def error_received(self, exc):
        self._call("error_received", type(exc))

    def pause_writing(self):
        self._call("pause_writing")

    def resume_writing(self):
        self._call("resume_writing")

    def pipe_data_received(self, fd, _data):
        self._call("pipe_data_received", fd)

    def pipe_connection_lost(self, fd, exc):
        self._call("pipe_connection_lost", fd, type(exc))

    def process_exited(self):
        self._call("process_exited")

    def names(self):
        return [call[0] for call in self.calls]


def successor(protocol):
    """A protocol that goes on with the record of another, and does nothing."""
    following = Acting(None, None)
    following.calls = protocol.calls
    return following


# -- the stages: everything that can happen to a protocol, one after the other --------------------------------------


async def play_datagrams(loop, protocol):
    with socket_pair(socket.SOCK_DGRAM) as (left, right):
        right.bind("")  # a name that the kernel finds: without one asyncio does not see that the socket is connected
        transport, _protocol = await loop.create_datagram_endpoint(lambda: protocol, sock=left)
        for data in (b"one", b"two"):
            with contextlib.suppress(OSError):  # closed or aborted already
                right.send(data)
        await several_turns()
        for _ in range(MANY):
            if not transport.is_closing():
                transport.sendto(DATAGRAM)
        for _ in range(MANY):  # the queue of a unix socket takes one at least
            drain(right)
            await several_turns(1)
        right.close()
        if not transport.is_closing():
            with contextlib.suppress(Broken):  # by error_received()
                transport.sendto(b"to nobody")
        await several_turns()
        if not transport.is_closing():
            transport.abort()
        await until(lambda: transport.get_extra_info("socket").fileno() == -1)
        await several_turns()


async def play_reading_end(loop, protocol):
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as pipe:
        transport, _protocol = await loop.connect_read_pipe(lambda: protocol, pipe)
        for _ in range(2):
            with contextlib.suppress(BrokenPipeError):  # closed already
                os.write(writing, b"data")
            await several_turns()
        os.close(writing)
        await several_turns()
        transport.close()
        await until(lambda: pipe.closed)
        await several_turns()


async def play_writing_end(loop, protocol):
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as pipe:
        transport, _protocol = await loop.connect_write_pipe(lambda: protocol, pipe)
        await several_turns()
        if not transport.is_closing():
            transport.write(bytes(BIG))
        while not pipe.closed and transport.get_write_buffer_size():
            reader.read(BIG)
            await several_turns()
        reader.read(BIG)
        await several_turns()
        if not pipe.closed:
            transport.abort()
        await until(lambda: pipe.closed)
        await several_turns()


async def play_process(loop, protocol):
    transport, _protocol = await loop.subprocess_exec(
        lambda: protocol, "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    stdin = transport.get_pipe_transport(0)
    if stdin is not None and not stdin.is_closing():
        stdin.write(b"data")
        stdin.close()
    await until(lambda: transport.get_returncode() is not None)
    await several_turns()
    transport.close()
    await until(lambda: transport._proc is None)
    await several_turns()


# -- the actions ---------------------------------------------------------------------------------------------------

ENDINGS = {
    "close": lambda protocol: protocol.transport.close(),
    "close twice": lambda protocol: (protocol.transport.close(), protocol.transport.close()),
    "set_protocol": lambda protocol: protocol.transport.set_protocol(successor(protocol)),
    "close and set_protocol": lambda protocol: (
        protocol.transport.close(),
        protocol.transport.set_protocol(successor(protocol)),
    ),
    "break": break_down,
}
ABORTS = {
    "abort": lambda protocol: protocol.transport.abort(),
    "abort and close": lambda protocol: (protocol.transport.abort(), protocol.transport.close()),
    "close and abort": lambda protocol: (protocol.transport.close(), protocol.transport.abort()),
}
PAUSES = {
    "pause_reading": lambda protocol: protocol.transport.pause_reading(),
    "pause and resume": lambda protocol: (protocol.transport.pause_reading(), protocol.transport.resume_reading()),
}
LIMITS = {
    "set limits": lambda protocol: protocol.transport.set_write_buffer_limits(high=0),
    "ask for the buffer's size": lambda protocol: protocol.transport.get_write_buffer_size(),
}


def stdin_of(protocol):
    return protocol.transport.get_pipe_transport(0)


def abort_stdin(protocol):
    with contextlib.suppress(AttributeError):  # of asyncio's transport, when it is closed already
        stdin_of(protocol).abort()


# kind: the stage, the callbacks, the actions
KINDS = {
    "datagrams": (
        play_datagrams,
        [
            "connection_made",
            "datagram_received",
            "error_received",
            "pause_writing",
            "resume_writing",
            "connection_lost",
        ],
        {"sendto": lambda protocol: protocol.transport.sendto(DATAGRAM), **ENDINGS, **ABORTS, **LIMITS},
    ),
    "reading end": (
        play_reading_end,
        ["connection_made", "data_received", "eof_received", "connection_lost"],
        {**ENDINGS, **PAUSES},
    ),
    "writing end": (
        play_writing_end,
        ["connection_made", "pause_writing", "resume_writing", "connection_lost"],
        {
            "write": lambda protocol: protocol.transport.write(b"more"),
            "write a lot": lambda protocol: protocol.transport.write(bytes(BIG)),
            "write_eof": lambda protocol: protocol.transport.write_eof(),
            "write and close": lambda protocol: (protocol.transport.write(b"last"), protocol.transport.close()),
            **ENDINGS,
            **ABORTS,
            **LIMITS,
        },
    ),
    "process": (
        play_process,
        ["connection_made", "pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"],
        {
            "kill": lambda protocol: protocol.transport.kill(),
            "terminate": lambda protocol: protocol.transport.terminate(),
            "send a signal": lambda protocol: protocol.transport.send_signal(signal.SIGTERM),
            "write": lambda protocol: stdin_of(protocol).write(b"more"),
            "close stdin": lambda protocol: stdin_of(protocol).close(),
            "abort stdin": abort_stdin,
            "close stdout": lambda protocol: protocol.transport.get_pipe_transport(1).close(),
            "ask": lambda protocol: (
                type(protocol.transport.get_pid()),
                protocol.transport.get_returncode() in (None, 0),  # the end may be known before the last data
                protocol.transport.is_closing(),
            ),
            **ENDINGS,
        },
    ),
}
MATRIX = [
    (kind, place, action) for kind, (_play, places, actions) in KINDS.items() for place in places for action in actions
]


def told(kind, protocol):
    """The calls in order; those about a child come when it likes."""
    if kind != "process":
        return protocol.calls
    calls = [call for call in protocol.calls if call[0] != "pipe_data_received"]  # or never, if a signal comes first
    return sorted({call[:2] if call[0] == "pipe_connection_lost" else call for call in calls}, key=str)


@pytest.mark.parametrize(("kind", "place", "action"), MATRIX)
def test_acting_inside_a_callback(same_as_asyncio, loop_log, kind, place, action):
    if kind == "datagrams" and action in LIMITS and (3, 13) <= sys.version_info < (3, 14):
        pytest.skip("asyncio takes a datagram's header off the buffer's size only from 3.14 on")
    play, _places, actions = KINDS[kind]

    async def scenario(loop):
        reports = []
        loop.set_exception_handler(
            lambda _loop, context: reports.append((context["message"].partition("(<")[0], type(context["exception"])))
        )
        protocol = Acting(place, actions[action])
        await play(loop, protocol)
        if isinstance(loop, asyncio.BaseEventLoop):  # its own methods fail when they are called once too often
            reports = [report for report in reports if report[1] is not AttributeError]
            if kind == "process":
                loop_log.take()  # it may find a child that it has killed gone
        return told(kind, protocol), protocol.outcome, reports

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is None
    assert outcome.returned[1] is not None


# Not those that are called inside of the program's own calls, which the exception leaves by.
LEAVING = [
    (kind, place)
    for kind, (_play, places, _actions) in KINDS.items()
    for place in places
    if place not in ("pause_writing", "error_received")
]


@pytest.mark.parametrize("action", [leave, interrupt])
@pytest.mark.parametrize(("kind", "place"), LEAVING)
def test_leaving_the_loop_from_a_callback(same_as_asyncio, kind, place, action):
    """SystemExit and KeyboardInterrupt come out of the loop at once, and it can go on."""
    play = KINDS[kind][0]

    def scenario(loop):
        protocol = Acting(place, action)
        playing = loop.create_task(play(loop, protocol))
        with pytest.raises((SystemExit, KeyboardInterrupt), match="leaving") as left:
            loop.run_until_complete(playing)
        loop.run_until_complete(playing)
        return left.type, told(kind, protocol)

    assert same_as_asyncio(scenario).raised is None


# -- a turn inside a callback ----------------------------------------------------------------------------------------


@pytest.mark.zloop_only  # asyncio's loop takes from an empty queue when the turn inside has run the batch
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")  # connection_lost() cannot enter the context
def test_transport_is_there_as_long_as_the_read_that_asked_for_a_buffer(loop, run, loop_log):
    """Although a turn inside get_buffer() drops the last reference but the one of the read itself."""
    calls, references = [], []

    class Protocol(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def get_buffer(self, sizehint):
            calls.append("get_buffer")
            references.append(weakref.ref(self.transport, lambda _reference: calls.append("freed")))
            self.transport.abort()
            del self.transport
            for _ in range(2):
                loop.call_soon(gc.collect)
                loop._run_once()
            done.set()
            return bytearray(65536)

        def buffer_updated(self, nbytes):
            calls.append("buffer_updated")

    async def scenario():
        server = await loop.create_server(Protocol, LOCALHOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            peer.sendall(b"x")
            await done.wait()
        server.close()
        await server.wait_closed()

    done = asyncio.Event()
    run(scenario())
    gc.collect()
    loop_log.take()  # the turn inside cannot enter the connection's context again, and says so
    assert calls == ["get_buffer", "buffer_updated", "freed"]


def one_turn(loop):
    loop.call_soon(int)  # then it does not wait
    loop._run_once()


@pytest.mark.zloop_only  # asyncio reads on
def test_turn_inside_connection_lost_receives_nothing_more(loop, protocol_factory):
    class Turning(protocol_factory):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            far.send(b"too late")
            for _ in range(3):
                one_turn(loop)

    near, far = socket.socketpair()
    with far:
        _transport, protocol = loop.run_until_complete(loop.create_connection(Turning, sock=near))
        loop._run_forever_setup()
        protocol.transport._call_connection_lost(None)
        loop._run_forever_cleanup()
        assert protocol.names() == ["connection_made", "connection_lost"]


class Asking(BufferedRecorder):
    """Its buffer is the argument."""

    def __init__(self, buffer):
        super().__init__()
        self.own_buffer = buffer

    def get_buffer(self, sizehint):
        return self.own_buffer


def receive_at_the_end(loop, make_protocol):
    """What a protocol is called of when its connection is ended while its buffer is asked for; and the next one's."""
    for make in (make_protocol, BufferedRecorder):
        near, far = socket.socketpair()
        with far:
            transport, protocol = loop.run_until_complete(loop.create_connection(make, sock=near))
            far.send(b"x")
            loop.run_until_complete(several_turns())
            yield protocol.names()
            transport.abort()
            loop.run_until_complete(several_turns())


@pytest.mark.zloop_only
def test_connection_that_ends_while_its_buffer_is_asked_for(loop):
    class Ending(BufferedRecorder):
        def get_buffer(self, sizehint):
            self.transport._call_connection_lost(None)
            return bytearray(100)

    first, second = receive_at_the_end(loop, Ending)
    assert first == ["connection_made", "connection_lost"]
    assert second == ["connection_made", "buffer_updated"]


@pytest.mark.zloop_only
def test_connection_that_ends_while_its_buffer_is_looked_at(loop, exporter):
    protocol = Asking(exporter(100, lambda: protocol.transport._call_connection_lost(None)))
    first, second = receive_at_the_end(loop, lambda: protocol)
    assert first == ["connection_made", "connection_lost"]
    assert second == ["connection_made", "buffer_updated"]
    protocol.own_buffer.append(1)  # nobody holds it any more


@pytest.mark.zloop_only
def test_memory_that_is_out_for_the_report_of_a_connection_that_has_ended(loop):
    """The exception is the loop's then: there is no connection any more for it to end."""

    class Failing(Recorder):
        def resume_writing(self):
            raise ValueError("of the protocol")

    def call_exception_handler(context):
        told.append(context["message"])
        if len(told) == 1:
            transport._call_connection_lost(None)
            raise MemoryError

    told = []
    near, far = socket.socketpair()
    with far:
        far.setblocking(False)
        transport, protocol = loop.run_until_complete(loop.create_connection(Failing, sock=near))
        transport.write(bytes(1_000_000))
        loop.call_exception_handler = call_exception_handler
        while not told:
            drain(far)
            loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(several_turns())
        assert told == ["protocol.resume_writing() failed", "Exception in transport callback"]
        assert protocol.names() == ["connection_made", "pause_writing", "connection_lost"]


@pytest.mark.zloop_only
@pytest.mark.skipif(sys.version_info < (3, 13), reason="servers know their clients since 3.13")
def test_server_does_not_count_a_client_that_is_being_dropped(loop, run):
    class Client(asyncio.Protocol):
        def connection_made(self, transport):
            transport.pause_reading()
            transports.append(transport)

    async def scenario():
        server = await loop.create_server(Client, LOCALHOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await until(lambda: transports)
            await several_turns()
            assert list(server._clients) == transports
            found = []
            reference = weakref.ref(transports[0], lambda _reference: found.append(list(server._clients)))
            with resource_warnings() as texts:
                transports.clear()
            assert reference() is None
            assert found == [[]]
            assert len(texts) == 1
        server.close()
        await server.wait_closed()

    transports = []
    run(scenario())
