"""Stream transports: what they are, protocols that fail, calls from inside callbacks, and debug mode."""

import asyncio
import contextlib
import gc
import socket
import weakref

import pytest
from support import (
    BIG,
    BufferedRecorder,
    Recorder,
    alike,
    connection,
    descriptor_closed,
    enable_debug,
    info_of,
    outcome_of,
    receive_all,
    receive_exactly,
    reset,
    several_turns,
    socket_pair,
    until,
    without_repeats,
)

# -- what a transport is -------------------------------------------------------------------------------------------


def test_transport_is_asyncios(loop, run):
    async def scenario():
        async with connection(loop) as (transport, protocol, _peer):
            assert isinstance(transport, asyncio.Transport)
            assert weakref.ref(transport)() is transport
            transport.attribute = "anything"
            assert transport.attribute == "anything"
            assert transport.get_protocol() is protocol
            assert {transport: 1}[transport] == 1

    run(scenario())


def test_methods_can_be_replaced_on_the_instance(loop, run):
    """Programs' tests do so, and library code calls what they put there."""

    async def scenario():
        async with connection(loop) as (transport, _protocol, peer):
            written = []
            original = transport.write
            transport.write = written.append
            transport.write(b"kept")
            original(b"sent")
            assert await loop.sock_recv(peer, 100) == b"sent"
            return written

    assert run(scenario()) == [b"kept"]


def test_extra_info(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, peer):
            sock = transport.get_extra_info("socket")
            return [
                type(sock),
                sock.family,
                sock.type,
                sock.proto,
                sock.gettimeout(),
                transport.get_extra_info("peername") == peer.getsockname() == sock.getpeername(),
                transport.get_extra_info("sockname") == peer.getpeername() == sock.getsockname(),
                transport.get_extra_info("no such key"),
                transport.get_extra_info("no such key", "default"),
                transport.get_extra_info("sslcontext"),
                outcome_of(transport.get_extra_info)[:2],
                hasattr(sock, "send"),
                alike(repr(sock)),
            ]

    assert same_as_asyncio(scenario).returned[0] is asyncio.trsock.TransportSocket


def test_extra_info_of_a_unix_socket(same_as_asyncio):
    async def scenario(loop):
        with socket_pair() as (left, _right):
            transport, _protocol = await loop.create_connection(Recorder, sock=left)
            told = [transport.get_extra_info(key, "default") for key in ("peername", "sockname")]
            transport.abort()
            await until(lambda: descriptor_closed(transport))
            return told

    assert same_as_asyncio(scenario).raised is None


def test_extra_info_outlives_the_connection(loop, run):
    async def scenario():
        async with connection(loop) as (transport, _protocol, peer):
            peername = peer.getsockname()
        assert transport.get_extra_info("peername") == peername
        assert transport.get_extra_info("socket").fileno() == -1

    run(scenario())


def test_extra_info_is_inherited_from_the_base_class(loop, run, monkeypatch):
    """Test helpers replace it there for all transports at once."""

    async def scenario():
        async with connection(loop) as (transport, _protocol, _peer):
            with monkeypatch.context() as patch:
                patch.setattr(asyncio.BaseTransport, "get_extra_info", lambda _self, _name, _default=None: "patched")
                return transport.get_extra_info("peername")

    assert run(scenario()) == "patched"


STATES = {
    "open": lambda transport: None,
    "paused": lambda transport: transport.pause_reading(),
    "writing": lambda transport: transport.write(b"x" * BIG),
    "closing": lambda transport: transport.close(),
    "flushing": lambda transport: (transport.write(b"x" * BIG), transport.close()),
    "aborted": lambda transport: transport.abort(),
    "half-closed": lambda transport: transport.write_eof(),
}


@pytest.mark.parametrize("state", STATES)
def test_repr_and_state(same_as_asyncio, state):
    async def scenario(loop):
        async with connection(loop, narrow=True) as (transport, _protocol, _peer):
            STATES[state](transport)
            info = info_of(transport).partition("bufsize")[0]
            return info, transport.is_closing(), transport.is_reading()

    assert same_as_asyncio(scenario).returned[0].endswith("fd=N read=polling write=<polling, ") == (state == "writing")


def test_repr_after_the_end(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            pass
        return info_of(transport), transport.is_closing(), transport.is_reading()

    info, closing, reading = same_as_asyncio(scenario).returned
    assert info.startswith("<SocketTransport closed fd=N")
    assert (closing, reading) == (True, False)


# -- failing protocols ---------------------------------------------------------------------------------------------


async def provoke(loop, transport, protocol, peer, name):
    """Have the transport call that method of its protocol."""
    if name in ("pause_writing", "resume_writing"):
        transport.write(b"x" * BIG)
        await receive_exactly(loop, peer, BIG)
    elif name in ("data_received", "get_buffer", "buffer_updated"):
        peer.send(b"data")
    elif name == "eof_received":
        peer.shutdown(socket.SHUT_WR)
    elif name == "connection_lost":
        transport.close()
    await several_turns()


def failing(base, name, exception):
    """A protocol class whose method of that name notes its call, and raises."""

    def fail(self, *_args):
        self.note(name, *_args)
        raise exception

    return type("Failing", (base,), {name: fail})


FAILURES = [
    (Recorder, "data_received"),
    (Recorder, "eof_received"),
    (Recorder, "pause_writing"),
    (Recorder, "resume_writing"),
    (Recorder, "connection_lost"),
    (BufferedRecorder, "get_buffer"),
    (BufferedRecorder, "buffer_updated"),
    (BufferedRecorder, "eof_received"),
]


@pytest.mark.parametrize(("base", "name"), FAILURES)
def test_failing_callbacks_are_reported_as_asyncio_does(same_as_asyncio, base, name):
    async def scenario(loop):
        contexts = []
        loop.set_exception_handler(lambda _loop, context: contexts.append(context))
        protocol_class = failing(base, name, LookupError("broken"))
        async with connection(loop, protocol_class, narrow=True) as (transport, protocol, peer):
            await provoke(loop, transport, protocol, peer, name)
            closing = transport.is_closing()
            transport.abort()
            await protocol.until_called("connection_lost")
        reports = [
            (
                context["message"],
                type(context["exception"]),
                context.get("transport") is transport,
                context.get("protocol") is protocol,
                sorted(context),
            )
            for context in contexts
        ]
        return (
            [alike(report[0]) for report in reports],
            [report[1:] for report in reports],
            closing,
            [(call[0], type(call[1])) if call[0] == "connection_lost" else call[0] for call in protocol.calls],
        )

    messages, _reports, _closing, _calls = same_as_asyncio(scenario).returned
    assert len(messages) == 1


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize(("base", "name"), FAILURES)
def test_exit_leaves_the_loop_through_callbacks(make_loop, base, name, exception):
    loop = make_loop()
    loop.set_exception_handler(lambda _loop, _context: None)
    opened = connection(loop, failing(base, name, exception("leaving")), narrow=True)
    transport, protocol, peer = loop.run_until_complete(opened.__aenter__())

    async def leave():
        await provoke(loop, transport, protocol, peer, name)
        await asyncio.sleep(3600)

    task = loop.create_task(leave())
    with pytest.raises(exception, match="leaving"):
        loop.run_until_complete(task)
    assert not loop.is_running()
    if not descriptor_closed(transport):
        transport.set_protocol(asyncio.Protocol())
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.run_until_complete(opened.__aexit__(None, None, None))


def test_first_reason_for_the_end_stays(loop, run, unhandled):
    """A fatal error, then close, abort and a reset: connection_lost tells of the error."""

    async def scenario():
        protocol_class = failing(Recorder, "data_received", LookupError("the reason"))
        async with connection(loop, protocol_class) as (transport, protocol, peer):
            peer.send(b"data")
            await protocol.until_called("data_received")
            transport.close()
            transport.abort()
            reset(peer)
            return await protocol.until_called("connection_lost")

    assert str(run(scenario())) == "the reason"


# -- calling the transport from inside its callbacks ---------------------------------------------------------------

ACTIONS = {
    "write": lambda transport: transport.write(b"from inside"),
    "writelines": lambda transport: transport.writelines([b"from", b"inside"]),
    "write a lot": lambda transport: transport.write(b"x" * BIG),
    "write_eof": lambda transport: transport.write_eof(),
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "close and abort": lambda transport: (transport.close(), transport.abort()),
    "write and close": lambda transport: (transport.write(b"last"), transport.close()),
    "pause_reading": lambda transport: transport.pause_reading(),
    "pause and resume": lambda transport: (transport.pause_reading(), transport.resume_reading()),
    "set_protocol": lambda transport: transport.set_protocol(Recorder()),
    "set_protocol to buffered": lambda transport: transport.set_protocol(BufferedRecorder()),
    "set limits": lambda transport: transport.set_write_buffer_limits(high=0),
    "collect garbage": lambda transport: gc.collect(),
}
PLACES = {
    Recorder: [
        "connection_made",
        "data_received",
        "eof_received",
        "pause_writing",
        "resume_writing",
        "connection_lost",
    ],
    BufferedRecorder: ["get_buffer", "buffer_updated", "eof_received"],
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("base", "place"), [(base, place) for base, places in PLACES.items() for place in places])
def test_calling_the_transport_from_inside_its_callbacks(same_as_asyncio, base, place, action):
    """Whatever asyncio lets a program do, with the same calls, the same reports, and the same end.

    What is left out: failures of asyncio's own methods, which older versions have here.
    """

    def act_inside(self, *args):
        result = getattr(base, place)(self, *args)
        if not self.acted:
            self.acted = True
            ACTIONS[action](self.transport)
        return result

    protocol_class = type("Acting", (base,), {place: act_inside, "acted": False})

    async def scenario(loop):
        received, reports = [], []
        loop.set_exception_handler(lambda _loop, context: reports.append(context["message"]))

        async def receive_in_the_background():
            with contextlib.suppress(ConnectionResetError):
                received.append(await receive_all(loop, peer))

        async with connection(loop, protocol_class, narrow=True) as (transport, protocol, peer):
            outcome_of(transport.write, b"x" * BIG)  # refused after a write_eof()
            receiving = loop.create_task(receive_in_the_background())
            peer.send(b"data")
            await until(lambda: transport.is_closing() or transport.get_write_buffer_size() == 0)
            await several_turns()
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
            await several_turns()
            if not descriptor_closed(transport):
                transport.abort()
            await until(lambda: descriptor_closed(transport))
            await receiving
            names = protocol.names()
            order = [name for name in names if name in ("connection_made", "eof_received", "connection_lost")]
        if isinstance(loop, asyncio.BaseEventLoop):
            reports = [report for report in reports if "._call_connection_lost(" not in report]
        return protocol.acted, sorted(set(names)), order, reports

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is None
    assert outcome.returned[2].count("connection_lost") <= 1


# -- debug mode ----------------------------------------------------------------------------------------------------


def test_debug_mode_changes_nothing_but_the_log(loop, run):
    async def scenario():
        enable_debug(loop)
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.pause_reading()
            transport.resume_reading()
            transport.write(b"x" * BIG)
            await receive_exactly(loop, peer, BIG)
            peer.send(b"answer")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_called("connection_lost")
            return without_repeats(protocol.names())

    assert run(scenario()) == [
        "connection_made",
        "pause_writing",
        "resume_writing",
        "data_received",
        "eof_received",
        "connection_lost",
    ]
