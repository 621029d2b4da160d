"""TLS: what the ssl module's objects raise, what protocols raise, and calls after the end."""

import asyncio
import contextlib
import logging
import socket
import ssl

import pytest
from support import (
    LOCALHOST,
    BufferedRecorder,
    Recorder,
    drain,
    enable_debug,
    pattern,
    port_of,
    several_turns,
    tcp_pair,
    until,
)
from tls_support import HOST, RawTls, connection_to_raw, tls_connection


@contextlib.contextmanager
def own_objects(context, **methods):
    """Connections of the context have an SSLObject with methods of the test's own."""
    context.sslobject_class = type("Own", (ssl.SSLObject,), methods)
    try:
        yield
    finally:
        context.sslobject_class = ssl.SSLObject


@pytest.fixture
def fresh(tls):
    """As `tls`, with a client's context of this test alone."""

    class Fresh:
        server = tls.server
        client = tls.new_client()

    return Fresh


def failing_until(method, moment, exception):
    """A method that raises once `moment` has something in it, as often as that says."""

    def replaced(self, *args):
        if moment:
            moment.pop()
            raise exception
        return getattr(ssl.SSLObject, method)(self, *args)

    return replaced


@pytest.mark.parametrize("call", ["write", "writelines"])
def test_write_that_needs_more_to_be_received_waits_for_it(loop, run, fresh, call):
    moment = []

    async def scenario():
        with (
            tcp_pair() as sockets,
            own_objects(fresh.client, write=failing_until("write", moment, ssl.SSLWantReadError())),
        ):
            async with connection_to_raw(loop, fresh, sockets) as (transport, protocol, peer):
                moment.append(True)
                if call == "write":
                    transport.write(b"first ")
                else:
                    transport.writelines([b"fir", b"st "])
                assert transport.get_write_buffer_size() == 6
                transport.write(b"second")
                await peer.do(peer.object.write, b"go on")
                assert await peer.receive(12) == b"first second"
                await until(lambda: protocol.received == b"go on")
                assert transport.get_write_buffer_size() == 0

    run(scenario())


FAILURE = ValueError("of the object's own")


@pytest.fixture(autouse=True)
def traceback_of_the_failure():
    """Is dropped with the test: its frames hold the loop."""
    yield
    FAILURE.__traceback__ = FAILURE.__context__ = None


def test_write_that_fails_ends_the_connection(loop, run, fresh, unhandled):
    moment = []

    async def scenario():
        with tcp_pair() as sockets, own_objects(fresh.client, write=failing_until("write", moment, FAILURE)):
            async with connection_to_raw(loop, fresh, sockets) as (transport, protocol, _peer):
                moment.append(True)
                transport.write(b"data")
                assert await protocol.until_called("connection_lost") is FAILURE
        return [context["message"] for context in unhandled]

    assert run(scenario()) == ["Fatal error on SSL protocol"]


@pytest.mark.zloop_only  # asyncio encrypts all of it in write()
@pytest.mark.parametrize("closing", [False, True], ids=["goes on", "is closed"])
def test_write_that_fails_when_what_waits_is_encrypted(loop, run, fresh, unhandled, closing):
    moment = []

    async def scenario():
        with tcp_pair() as sockets, own_objects(fresh.client, write=failing_until("write", moment, FAILURE)):
            async with connection_to_raw(loop, fresh, sockets) as (transport, protocol, peer):
                while transport.get_write_buffer_size() < 1 << 20:
                    transport.write(pattern(1 << 20))
                moment.append(True)
                if closing:
                    transport.close()
                while "connection_lost" not in protocol.names():
                    await several_turns()
                    with contextlib.suppress(ConnectionResetError):
                        drain(peer.sock)
                assert await protocol.until_called("connection_lost") is FAILURE
        return [context["message"] for context in unhandled]

    assert run(scenario()) == ["Fatal error on SSL protocol"]


def test_farewell_that_fails_ends_the_connection(loop, run, fresh, unhandled):
    moment = []
    failure = ssl.SSLError(1, "no farewell")

    async def scenario():
        with tcp_pair() as sockets, own_objects(fresh.client, unwrap=failing_until("unwrap", moment, failure)):
            async with connection_to_raw(loop, fresh, sockets) as (transport, protocol, _peer):
                moment.append(True)
                transport.close()
                assert await protocol.until_called("connection_lost") is failure

    run(scenario())
    assert unhandled == []  # an OSError


def test_strings_among_the_lines_end_the_connection(loop, run, tls, unhandled):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, _peer):
                transport.writelines(["no bytes"])
                assert isinstance(await protocol.until_called("connection_lost"), TypeError)
        return [context["message"] for context in unhandled]

    assert run(scenario()) == ["Fatal error on SSL protocol"]


def test_write_after_the_program_has_said_farewell_itself(loop, run, tls, unhandled):
    """By the SSLObject: OpenSSL refuses to send more."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, _peer):
                with pytest.raises(ssl.SSLWantReadError):
                    transport.get_extra_info("ssl_object").unwrap()
                transport.write(b"one word more")
                lost = await protocol.until_called("connection_lost")
                assert isinstance(lost, ssl.SSLError)
                return str(lost).lower().replace("_", " ")

    assert "protocol is shutdown" in run(scenario())
    assert unhandled == []


@pytest.mark.parametrize("call", ["write", "writelines"])
def test_writes_after_the_end_are_dropped_and_warned_of(loop, run, tls, loop_log, call):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, _peer):
                transport.abort()
                for _ in range(7):
                    getattr(transport, call)(b"dropped" if call == "write" else [b"dropped"])
                await protocol.until_called("connection_lost")

    run(scenario())
    messages = loop_log.take_messages()
    assert messages
    assert set(messages) == {"SSL connection is closed"}


@pytest.mark.zloop_only  # asyncio's transport has lost what it asks
def test_limits_and_sizes_after_the_end(loop, run, tls):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, _peer):
                transport.abort()
                await protocol.until_called("connection_lost")
                transport.set_write_buffer_limits(high=10)
                transport.set_read_buffer_limits(high=20)
                assert transport.get_write_buffer_limits() == (2, 10)
                assert transport.get_write_buffer_size() == 0
                transport.close()
                transport.close()
                transport.abort()
                assert transport.get_write_buffer_size() == transport.get_read_buffer_size() == 0
                assert transport.is_closing()

    run(scenario())


class Raising(Recorder):
    """Raises in one of its methods."""

    method = None
    exception = None

    def note(self, name, *args):
        super().note(name, *args)
        if name == self.method:
            raise self.exception


def raising(method, exception):
    return type("Raising", (Raising,), {"method": method, "exception": exception})


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_protocol_that_fails_in_flow_control_is_reported_and_goes_on(loop, run, tls, unhandled, method):
    failure = ValueError(method)

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets, raising(method, failure)) as (transport, protocol, peer):
                transport.set_write_buffer_limits(high=100000)
                written = b""
                while "pause_writing" not in protocol.names():
                    transport.write(pattern(1 << 20))
                    written += pattern(1 << 20)
                assert await peer.receive(len(written)) == written
                await protocol.until_called("resume_writing")
        return [(context["message"], context["exception"]) for context in unhandled]

    assert run(scenario()) == [(f"protocol.{method}() failed", failure)]


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_protocol_that_leaves_a_write(loop, run, tls, exception):
    """pause_writing() is called by write()."""

    async def scenario():
        with tcp_pair() as sockets:
            kind = raising("pause_writing", exception("paused"))
            async with connection_to_raw(loop, tls, sockets, kind) as (transport, _protocol, _peer):
                with pytest.raises(exception, match="paused"):
                    while True:
                        transport.write(pattern(1 << 20))

    run(scenario())


async def connect_to(loop, tls, sockets, protocol):
    """A client, its protocol, and the peer of these."""
    left, right = sockets
    peer = RawTls(loop, right, tls.server, server_side=True)
    shaking = loop.create_task(peer.do(peer.object.do_handshake))
    transport, protocol = await loop.create_connection(protocol, sock=left, ssl=tls.client, server_hostname=HOST)
    await shaking
    return transport, protocol, peer


async def say_farewell(peer):
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.object.unwrap()
    await peer.send()


async def end_the_stream(peer):
    peer.sock.shutdown(socket.SHUT_WR)


def leave_by_eof_received(loop, tls, sockets, exception, end):
    """A client whose eof_received() leaves the loop when the peer ends; its transport and protocol."""

    async def go_on(peer):
        await end(peer)
        await until(lambda: False)

    failing = raising("eof_received", exception("eof"))
    transport, protocol, peer = loop.run_until_complete(connect_to(loop, tls, sockets, failing))
    waiting = loop.create_task(go_on(peer))
    with pytest.raises(exception, match="eof"):
        loop.run_until_complete(waiting)
    waiting.cancel()
    return transport, protocol


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_protocol_that_leaves_the_loop_at_the_end(loop, tls, exception):
    async def end(transport):
        transport.abort()
        await several_turns()

    with tcp_pair() as sockets:
        transport, protocol = leave_by_eof_received(loop, tls, sockets, exception, say_farewell)
        loop.run_until_complete(end(transport))
        assert "eof_received" in protocol.names()


@pytest.mark.zloop_only  # asyncio's stays open, and its peer waits for an answer
@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("end", [say_farewell, end_the_stream])
def test_connection_ends_whose_protocol_leaves_the_loop_at_the_end(loop, run, tls, exception, end):
    with tcp_pair() as sockets:
        _transport, protocol = leave_by_eof_received(loop, tls, sockets, exception, end)
        assert run(protocol.until_called("connection_lost")) is None


def leaving(kind, exception):
    """A Recorder that leaves the loop at the first bytes that it gets."""

    class Leaving(kind):
        def note(self, name, *args):
            super().note(name, *args)
            if self.names().count(name) == 1 and name in {"data_received", "buffer_updated"}:
                raise exception("first")

    return Leaving


@pytest.mark.zloop_only  # asyncio passes it on when more comes from the peer, if it does
@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("end", ["farewell", "rubbish"])
def test_what_has_come_is_passed_on_after_the_protocol_left_the_loop(loop, run, tls, unhandled, exception, kind, end):
    """What ends the connection arrives with the bytes at which the application's code leaves."""

    async def send(peer):
        peer.object.write(b"data")
        if end == "farewell":
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.object.unwrap()
        else:
            peer.outgoing.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        await peer.send()
        await until(lambda: False)

    with tcp_pair() as sockets:
        _transport, protocol, peer = run(connect_to(loop, tls, sockets, leaving(kind, exception)))
        waiting = loop.create_task(send(peer))
        with pytest.raises(exception, match="first"):
            loop.run_until_complete(waiting)
        waiting.cancel()
        lost = run(protocol.until_called("connection_lost"))
        assert protocol.received == b"data"
        assert ("eof_received" in protocol.names()) is (end == "farewell")
        assert isinstance(lost, ssl.SSLError) is (end == "rubbish")
    assert not unhandled


def test_true_from_eof_received_has_no_effect_and_is_warned_of(loop, run, tls, loop_log):
    class Holding(Recorder):
        def eof_received(self):
            super().eof_received()
            return True

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets, Holding) as (_transport, protocol, peer):
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.object.unwrap()
                await peer.send()
                assert await protocol.until_called("connection_lost") is None

    run(scenario())
    assert loop_log.take_messages() == ["returning true from eof_received() has no effect when using ssl"]


@pytest.mark.zloop_only  # asyncio says farewell before, and calls what follows an error
def test_protocol_that_aborts_while_its_rest_is_passed_on(loop, run, tls, unhandled):
    """close() passes on what has been received, and data_received() may do anything."""

    class Aborting(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"unread":
                self.transport.abort()

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets, Aborting) as (transport, protocol, peer):
                await peer.do(peer.object.write, b"read")
                await protocol.until_called("data_received")  # and with it the tickets of the handshake
                transport.pause_reading()
                await peer.do(peer.object.write, b"unread")
                await until(lambda: transport.get_read_buffer_size() > 0)
                transport.resume_reading()
                transport.close()
                assert await protocol.until_called("connection_lost") is None
                return protocol.received, protocol.names()[-1], unhandled

    assert run(scenario()) == (b"readunread", "connection_lost", [])


def test_end_that_is_told_again_is_the_end_for_a_reader_that_pauses(loop, run, tls):
    """As by a transport of a program's own, which the connection may stand on."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.pause_reading()
                await peer.do(peer.object.write, b"unread")
                await until(lambda: transport.get_read_buffer_size() > 0)
                below = transport._ssl_protocol
                assert below.eof_received() is True
                assert not below.eof_received()
                await protocol.until_called("connection_lost")
                assert protocol.names().count("connection_lost") == 1

    run(scenario())


@pytest.mark.zloop_only  # asyncio encrypts all of it in write()
def test_end_that_is_told_again_to_what_cannot_be_sent(loop, run, fresh):
    moment = []

    async def scenario():
        with tcp_pair() as sockets, own_objects(fresh.client, write=failing_until("write", moment, FAILURE)):
            async with connection_to_raw(loop, fresh, sockets) as (transport, protocol, _peer):
                while transport.get_write_buffer_size() < 1 << 20:
                    transport.write(pattern(1 << 20))
                transport.pause_reading()
                below = transport._ssl_protocol
                assert below.eof_received() is True
                moment.append(True)
                with pytest.raises(ValueError, match="of the object's own"):
                    below.eof_received()
                transport.abort()
                await protocol.until_called("connection_lost")

    run(scenario())


@pytest.mark.zloop_only  # asyncio waits for the time-out
def test_farewell_that_memory_is_out_for_ends_the_connection(loop, run, fresh, unhandled):
    """What is resumed goes on with it."""
    moment = []
    failure = MemoryError("none left")

    async def scenario():
        with tcp_pair() as sockets, own_objects(fresh.client, unwrap=failing_until("unwrap", moment, failure)):
            async with connection_to_raw(loop, fresh, sockets) as (transport, protocol, peer):
                await peer.do(peer.object.write, b"read")
                await protocol.until_called("data_received")  # and with it the tickets of the handshake
                transport.pause_reading()
                transport.close()
                moment.append(True)
                transport.resume_reading()
                assert await protocol.until_called("connection_lost") is failure
        return [context["message"] for context in unhandled]

    assert run(scenario()) == ["Fatal error on SSL protocol"]


def test_debug_mode_tells_how_long_the_handshake_took(loop, run, tls, caplog):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets):
                pass

    enable_debug(loop)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(scenario())
    assert any("SSL handshake took" in record.getMessage() for record in caplog.records)


@pytest.mark.zloop_only  # asyncio says farewell before
def test_rest_of_a_connection_that_the_peer_has_closed_is_passed_on_by_close(loop, run, tls, unhandled):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                await peer.do(peer.object.write, b"read ")
                await protocol.until_called("data_received")  # and with it the tickets of the handshake
                transport.pause_reading()
                (record,) = peer.sealed(b"unread")
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.object.unwrap()
                rest = record + peer.outgoing.read()
                await loop.sock_sendall(peer.sock, rest)
                await until(lambda: transport.get_read_buffer_size() == len(rest))
                transport.resume_reading()
                transport.close()
                assert await protocol.until_called("connection_lost") is None
                return protocol.received, protocol.names()[-2:], unhandled

    assert run(scenario()) == (b"read unread", ["eof_received", "connection_lost"], [])


def test_protocol_that_fails_at_the_end_is_reported(loop, run, tls, unhandled):
    failure = ValueError("at the end")

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets, raising("eof_received", failure)) as parts:
                _transport, protocol, peer = parts
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.object.unwrap()
                await peer.send()
                await protocol.until_called("connection_lost")
        return [(context["message"], context["exception"]) for context in unhandled]

    assert run(scenario()) == [("Error calling eof_received()", failure)]


def test_stream_reader_gets_what_came_before_a_broken_record(loop, run, tls):
    async def scenario():
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.server, server_side=True)
            shaking = loop.create_task(peer.do(peer.object.do_handshake))
            reader, writer = await asyncio.open_connection(sock=left, ssl=tls.client, server_hostname=HOST)
            await shaking
            await peer.do(peer.object.write, b"whole")
            assert await reader.readexactly(5) == b"whole"
            await loop.sock_sendall(right, b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(ssl.SSLError):
                await reader.read(1)
            with contextlib.suppress(ssl.SSLError):
                writer.close()
                await writer.wait_closed()

    run(scenario())


def test_certificate_that_cannot_be_told_ends_the_handshake(loop, run, tls, unhandled):
    class Unwilling(ssl.SSLObject):
        def getpeercert(self, binary_form=False):
            raise ValueError("no certificate")

    async def scenario():
        context = tls.new_client()
        context.sslobject_class = Unwilling
        server = await loop.create_server(Recorder, LOCALHOST, 0, ssl=tls.server)
        with pytest.raises(ValueError, match="no certificate"):
            await loop.create_connection(Recorder, LOCALHOST, port_of(server), ssl=context, server_hostname=HOST)
        server.close()
        await several_turns()
        return [(context["message"], str(context["exception"])) for context in unhandled]

    assert run(scenario()) == [("SSL handshake failed", "no certificate")]


def test_write_over_a_connection_that_has_just_been_aborted(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            transport._ssl_protocol._transport.abort()
            transport.write(b"dropped")
            await protocol.until_called("connection_lost")
            await accepted.until_called("connection_lost")
            return protocol.calls[-1][1], accepted.received

    assert run(scenario()) == (None, b"")


@pytest.mark.zloop_only  # asyncio keeps what is written
def test_write_over_a_connection_whose_end_went_to_another_protocol(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, _accepted):
            below = transport._ssl_protocol._transport
            successor = Recorder()
            below.set_protocol(successor)
            below.abort()
            await successor.until_called("connection_lost")
            transport.write(b"dropped")
            assert transport.is_closing()
            assert transport.get_write_buffer_size() == 0
            assert protocol.names() == ["connection_made"]

    run(scenario())
