"""TLS: connections, servers and start_tls, over TCP and Unix sockets. Certificates are made for the run."""

import asyncio
import contextlib
import contextvars
import os
import socket
import ssl
import sys

import pytest
from support import (
    LOCALHOST,
    Recorder,
    alike,
    assert_silent,
    awaited_outcome,
    descriptor_closed,
    enable_debug,
    listening_socket,
    pattern,
    port_of,
    receive_exactly,
    several_turns,
    socket_pair,
    tcp_pair,
    until,
)
from tls_support import HOST, Peers, RawTls, all_tasks_done, stop, tls_connection

BIG = 4 << 20
"""More bytes than the buffers of a connection hold."""

MARK = contextvars.ContextVar("MARK", default="unset")


# -- connections and servers ---------------------------------------------------------------------------------------


def test_both_ends_talk(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            transport.write(b"ping")
            await accepted.until(lambda: accepted.received == b"ping")
            accepted.transport.writelines([b"po", b"ng"])
            await protocol.until(lambda: protocol.received == b"pong")
            transport.close()
            assert await accepted.until_called("connection_lost") is None
            assert await protocol.until_called("connection_lost") is None

    run(scenario())


def test_much_data_in_both_directions(loop, run, tls):
    async def echo(reader, writer):
        writer.write(await reader.readexactly(BIG))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def scenario():
        server = await asyncio.start_server(echo, LOCALHOST, 0, ssl=tls.server)
        reader, writer = await asyncio.open_connection(LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST)
        writer.write(pattern(BIG))
        assert await reader.read() == pattern(BIG)
        writer.close()
        await writer.wait_closed()
        await stop(server)

    run(scenario())


def test_what_a_transport_knows_of_its_connection(same_as_asyncio, tls):
    names = ("sslcontext", "compression", "peername", "sockname", "nothing")

    async def scenario(loop):
        async with tls_connection(loop, tls) as (transport, _protocol, accepted):
            assert type(transport.get_extra_info("ssl_object")) is ssl.SSLObject
            assert transport.get_extra_info("sslcontext") is tls.client
            assert accepted.transport.get_extra_info("sslcontext") is tls.server
            assert transport.get_extra_info("peername") == accepted.transport.get_extra_info("sockname")
            assert isinstance(transport, asyncio.Transport)
            known = [
                sorted(name for name in (*names, "ssl_object", "cipher", "peercert") if end.get_extra_info(name))
                for end in (transport, accepted.transport)
            ]
            subject = transport.get_extra_info("peercert")["subjectAltName"]
            return known, subject, transport.can_write_eof(), transport.get_extra_info("cipher")

    assert same_as_asyncio(scenario).returned[1] == (("DNS", HOST),)


def test_over_unix_sockets(loop, run, tls, tmp_path):
    path = os.fspath(tmp_path / "socket")

    async def scenario():
        peers = Peers()
        server = await loop.create_unix_server(peers, path, ssl=tls.server)
        transport, protocol = await loop.create_unix_connection(
            Recorder, path, ssl=tls.client, server_hostname=HOST, ssl_handshake_timeout=10, ssl_shutdown_timeout=10
        )
        accepted = await peers.first()
        accepted.transport.write(b"hello")
        await protocol.until(lambda: protocol.received == b"hello")
        assert accepted.transport.get_extra_info("peername") == ""
        transport.close()
        await accepted.until_called("connection_lost")
        await protocol.until_called("connection_lost")
        await stop(server)

    run(scenario())


def test_over_sockets_that_are_connected_already(loop, run, tls):
    async def scenario(left, right):
        accepting = loop.create_task(loop.connect_accepted_socket(Recorder, left, ssl=tls.server))
        transport, protocol = await loop.create_connection(Recorder, sock=right, ssl=tls.client, server_hostname=HOST)
        accepted_transport, accepted = await accepting
        accepted_transport.write(b"hello")
        await protocol.until(lambda: protocol.received)
        transport.close()
        await accepted.until_called("connection_lost")
        await protocol.until_called("connection_lost")
        return protocol.received

    with tcp_pair() as (left, right):
        assert run(scenario(left, right)) == b"hello"


def test_certificate_of_somebody_else(same_as_asyncio, tls):
    """The client learns why; the server's debug mode, that it went wrong."""

    async def outcome(loop, **options):
        contexts = []
        loop.set_exception_handler(lambda _loop, context: contexts.append(context))
        peers = Peers()
        server = await loop.create_server(peers, LOCALHOST, 0, ssl=tls.server)
        enable_debug(loop)
        result = await awaited_outcome(loop.create_connection(Recorder, LOCALHOST, port_of(server), **options))
        await until(lambda: contexts)
        loop.set_debug(False)
        (context,) = contexts
        assert context["protocol"] is peers.made[0]
        assert context["transport"].is_closing()
        assert peers.made[0].names() == []
        await stop(server)
        return result[:2], context["message"], type(context["exception"]), sorted(context)

    async def scenario(loop):
        return [
            await outcome(loop, ssl=tls.client),  # not the host's
            await outcome(loop, ssl=tls.stranger, server_hostname=HOST),
            await outcome(loop, ssl=True, server_hostname=HOST),
        ]

    for result, message, exception, _keys in same_as_asyncio(scenario).returned:
        assert result == ("raised", ssl.SSLCertVerificationError)
        assert message == "Error on transport creation for incoming connection"
        assert issubclass(exception, OSError)


def test_empty_hostname_is_not_checked(loop, run, tls):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def scenario():
        peers = Peers()
        server = await loop.create_server(peers, LOCALHOST, 0, ssl=tls.server)
        transport, protocol = await loop.create_connection(
            Recorder, LOCALHOST, port_of(server), ssl=context, server_hostname=""
        )
        transport.close()
        await protocol.until_called("connection_lost")
        await stop(server)
        return protocol.calls[-1], transport.get_extra_info("peercert")

    assert run(scenario()) == (("connection_lost", None), {})  # nobody looked at the certificate


def test_peer_that_does_not_speak_tls(same_as_asyncio, tls):
    async def scenario(loop):
        with tcp_pair() as (left, right):
            await loop.sock_sendall(right, b"HTTP/1.0 400 what?\r\n\r\n")
            connecting = loop.create_connection(Recorder, sock=left, ssl=tls.client, server_hostname=HOST)
            outcome = await awaited_outcome(connecting)
            return outcome[:2], left.fileno()

    assert same_as_asyncio(scenario).returned == (("raised", ssl.SSLError), -1)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03"], ids=["nothing", "a beginning"])
def test_peer_that_hangs_up_in_the_handshake(same_as_asyncio, tls, sent):
    async def scenario(loop):
        with tcp_pair() as (left, right):
            task = loop.create_task(loop.connect_accepted_socket(Recorder, left, ssl=tls.server))
            await loop.sock_sendall(right, sent)
            await several_turns()
            right.close()
            outcome = await awaited_outcome(task)
            return outcome, left.fileno()

    outcome, fd = same_as_asyncio(scenario).returned
    assert outcome[:2] == ("raised", ConnectionResetError)
    assert fd == -1


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
def test_handshake_that_takes_too_long(same_as_asyncio, tls, server_side):
    async def scenario(loop):
        with tcp_pair() as (left, _silent):
            if server_side:
                task = loop.connect_accepted_socket(Recorder, left, ssl=tls.server, ssl_handshake_timeout=0.01)
            else:
                task = loop.create_connection(
                    Recorder, sock=left, ssl=tls.client, server_hostname=HOST, ssl_handshake_timeout=0.01
                )
            return await awaited_outcome(task)

    assert same_as_asyncio(scenario).returned == (
        "raised",
        ConnectionAbortedError,
        "SSL handshake is taking longer than 0.01 seconds: aborting the connection",
    )


def test_time_out_of_a_servers_handshakes(loop, run, tls, unhandled):
    """Other connections are served meanwhile."""

    async def scenario():
        peers = Peers()
        server = await loop.create_server(peers, LOCALHOST, 0, ssl=tls.server, ssl_handshake_timeout=0.05)
        with socket.create_connection(("127.0.0.1", port_of(server))) as silent:
            silent.setblocking(False)
            assert await loop.sock_recv(silent, 1) == b""
        transport, protocol = await loop.create_connection(
            Recorder, LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST
        )
        transport.close()
        await protocol.until_called("connection_lost")
        await stop(server)

    run(scenario())
    assert unhandled == []


def test_farewell_that_takes_too_long(same_as_asyncio, tls):
    """A peer that never answers close_notify is left after the time-out."""

    async def scenario(loop):
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.server, server_side=True)
            shaking = loop.create_task(peer.do(peer.object.do_handshake))
            transport, protocol = await loop.create_connection(
                Recorder, sock=left, ssl=tls.client, server_hostname=HOST, ssl_shutdown_timeout=0.01
            )
            await shaking
            transport.close()
            exc = await protocol.until_called("connection_lost")
            return type(exc), str(exc), protocol.names()

    assert same_as_asyncio(scenario).returned[:2] == (TimeoutError, "SSL shutdown timed out")


def test_end_of_the_stream_without_farewell(same_as_asyncio, tls):
    async def scenario(loop):
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.server, server_side=True)
            shaking = loop.create_task(peer.do(peer.object.do_handshake))
            _transport, protocol = await loop.create_connection(
                Recorder, sock=left, ssl=tls.client, server_hostname=HOST
            )
            await shaking
            await peer.do(peer.object.write, b"last words")
            right.close()
            exc = await protocol.until_called("connection_lost")
            return type(exc), protocol.received, protocol.names()

    assert same_as_asyncio(scenario).returned[1] == b"last words"


def test_flow_control(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            accepted.transport.pause_reading()
            sent = b""
            while "pause_writing" not in protocol.names():
                sent += pattern(1 << 20)
                transport.write(pattern(1 << 20))
                await several_turns()
            accepted.transport.resume_reading()
            await protocol.until_called("resume_writing")
            await accepted.until(lambda: len(accepted.received) >= len(sent))
            assert accepted.received == sent
            assert protocol.names() == ["connection_made", "pause_writing", "resume_writing"]

    run(scenario())


def test_abort(same_as_asyncio, tls):
    async def scenario(loop):
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            transport.abort()
            exc = await protocol.until_called("connection_lost")
            await accepted.until_called("connection_lost")
            return exc, transport.is_closing(), protocol.names(), accepted.names()

    assert same_as_asyncio(scenario).returned[0] is None


@pytest.mark.zloop_only  # asyncio forgot the socket before some 3.14
def test_protocol_factory_that_fails(loop, run, tls, unhandled):
    class Refusal(Exception):
        pass

    def refuse():
        raise Refusal("no protocol")

    async def scenario():
        server = await loop.create_server(refuse, LOCALHOST, 0, ssl=tls.server)
        enable_debug(loop)
        outcome = await awaited_outcome(
            loop.create_connection(Recorder, LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST)
        )
        assert issubclass(outcome[1], OSError)
        loop.set_debug(False)
        await stop(server)

    run(scenario())
    (context,) = unhandled
    assert isinstance(context["exception"], Refusal)
    assert "transport" not in context


@pytest.mark.parametrize("seconds", [0, -1])
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # asyncio's
def test_time_outs_that_make_no_sense(same_as_asyncio, tls, seconds):
    async def scenario(loop):
        outcomes = []
        for name in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
            with tcp_pair() as (left, _right):
                connecting = loop.create_connection(
                    Recorder, sock=left, ssl=tls.client, server_hostname=HOST, **{name: seconds}
                )
                outcomes.append(await awaited_outcome(connecting))
        return outcomes

    assert "should be a positive number" in same_as_asyncio(scenario).returned[0][2]


def test_arguments_that_make_no_sense(same_as_asyncio, tls):
    async def scenario(loop):
        with tcp_pair() as (left, _right), listening_socket() as listener:
            calls = [
                loop.create_connection(Recorder, LOCALHOST, 1, server_hostname=HOST, ssl_handshake_timeout=1),
                loop.create_connection(Recorder, sock=left, ssl=tls.client),
                loop.create_connection(Recorder, port=1, ssl=tls.client),
                loop.create_server(Recorder, sock=listener, ssl=True),
                loop.create_server(Recorder, sock=listener, ssl=False),
                loop.create_server(Recorder, sock=listener, ssl_handshake_timeout=1),
                loop.create_unix_connection(Recorder, "/no/such/socket", ssl=tls.client),
                loop.create_unix_server(Recorder, "/no/such/socket", ssl=True),
                loop.connect_accepted_socket(Recorder, left, ssl=None, ssl_shutdown_timeout=1),
                loop.start_tls(asyncio.Transport(), Recorder(), tls.client),
                loop.start_tls(None, Recorder(), None),
            ]
            return [(await awaited_outcome(call))[:2] for call in calls], left.fileno() != -1

    outcomes, _open = same_as_asyncio(scenario).returned
    assert all(outcome[0] == "raised" for outcome in outcomes)


def test_server_needs_a_context(same_as_asyncio):
    async def scenario(loop):
        with tcp_pair() as (left, _right):
            return await awaited_outcome(loop.connect_accepted_socket(Recorder, left, ssl=True))

    assert same_as_asyncio(scenario).returned == (
        "raised",
        ValueError,
        "Server side SSL needs a valid SSLContext",
    )


@pytest.mark.parametrize("turns", range(0, 12, 2))
def test_cancelled_connection_leaves_nothing(loop, run, tls, turns):
    """However far the handshake had got."""

    async def scenario():
        server = await loop.create_server(Recorder, LOCALHOST, 0, ssl=tls.server)
        task = loop.create_task(
            loop.create_connection(Recorder, LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST)
        )
        await several_turns(turns)
        task.cancel()
        try:
            transport, protocol = await task
        except asyncio.CancelledError:
            pass
        else:
            transport.abort()
            await protocol.until_called("connection_lost")
        await stop(server)
        await all_tasks_done()
        await several_turns()

    with assert_silent(loop):
        run(scenario())


def test_accepted_connection_in_its_handshake_is_closed_with_its_task(loop, run, tls):
    """asyncio.run() cancels what is left in the end: a silent client's connection is among it."""

    async def scenario():
        peers = Peers()
        server = await loop.create_server(peers, LOCALHOST, 0, ssl=tls.server)
        with socket.create_connection((LOCALHOST, port_of(server))) as silent:
            silent.setblocking(False)
            await until(lambda: peers.made)
            (handshake,) = asyncio.all_tasks() - {asyncio.current_task()}
            handshake.cancel()
            assert await loop.sock_recv(silent, 1) == b""
        await stop(server)

    run(scenario())


@pytest.mark.skipif(sys.version_info < (3, 15), reason="connections have a context since 3.15")
def test_accepted_connections_have_a_context_each(same_as_asyncio, tls):
    class Marked(Recorder):
        def note(self, *call):
            super().note(call[0], MARK.get())

    async def scenario(loop):
        made = []

        def factory():
            seen = MARK.get()
            MARK.set(f"{seen}, connection {len(made)}")
            made.append(Marked())
            return made[-1]

        MARK.set("server")
        server = await loop.create_server(factory, LOCALHOST, 0, ssl=tls.server)
        MARK.set("later")
        for _ in range(2):
            transport, protocol = await loop.create_connection(
                Recorder, LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST
            )
            transport.write(b"x")
            await made[-1].until_called("data_received")
            transport.close()
            await made[-1].until_called("connection_lost")
            await protocol.until_called("connection_lost")
        await stop(server)
        return [protocol.calls for protocol in made]

    assert same_as_asyncio(scenario).returned[1][0] == ("connection_made", "server, connection 1")


# -- start_tls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [tcp_pair, socket_pair], ids=["TCP", "Unix"])
def test_start_tls_on_both_sides(loop, run, tls, pair):
    async def scenario(left, right):
        client, protocol = await loop.create_connection(Recorder, sock=left)
        server, accepted = await loop.connect_accepted_socket(Recorder, right)
        client.write(b"STARTTLS")
        await accepted.until(lambda: accepted.received == b"STARTTLS")
        serving = loop.create_task(loop.start_tls(server, accepted, tls.server, server_side=True))
        secure = await loop.start_tls(client, protocol, tls.client, server_hostname=HOST, ssl_handshake_timeout=10)
        secure_server = await serving
        secure.write(b" and more")
        await accepted.until(lambda: accepted.received == b"STARTTLS and more")
        secure_server.write(b"answer")
        await protocol.until(lambda: protocol.received == b"answer")
        assert protocol.names().count("connection_made") == 1
        assert secure.get_extra_info("ssl_object").version().startswith("TLS")
        secure.close()
        await accepted.until_called("connection_lost")
        await protocol.until_called("connection_lost")
        await until(lambda: descriptor_closed(client) and descriptor_closed(server))

    with pair() as (left, right):
        run(scenario(left, right))


def test_tls_inside_tls(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            serving = loop.create_task(loop.start_tls(accepted.transport, accepted, tls.server, server_side=True))
            inner = await loop.start_tls(transport, protocol, tls.client, server_hostname=HOST)
            inner_server = await serving
            inner.write(b"twice wrapped")
            await accepted.until(lambda: accepted.received)
            inner_server.abort()
            inner.abort()
            await protocol.until_called("connection_lost")
            await accepted.until_called("connection_lost")
            return accepted.received

    assert run(scenario()) == b"twice wrapped"


def test_start_tls_with_the_handshake_in_the_readers_buffer(loop, run, tls, loop_kind):
    """A client need not wait for the answer to its request: both may come in one packet."""
    if loop_kind == "asyncio" and sys.version_info < (3, 14):
        pytest.skip("asyncio hangs")

    async def handle(reader, writer, done):
        assert await reader.readline() == b"STARTTLS\n"
        await until(lambda: reader._buffer)
        await writer.start_tls(tls.server)
        done.set_result(await reader.readexactly(6))
        writer.write(b"answer")
        await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def scenario():
        done = loop.create_future()
        handlers = []
        server = await asyncio.start_server(
            lambda reader, writer: handlers.append(loop.create_task(handle(reader, writer, done))), LOCALHOST, 0
        )
        with socket.create_connection((LOCALHOST, port_of(server))) as sock:
            sock.setblocking(False)
            peer = RawTls(loop, sock, tls.client, server_hostname=HOST)
            with pytest.raises(ssl.SSLWantReadError):
                peer.object.do_handshake()
            await loop.sock_sendall(sock, b"STARTTLS\n" + peer.outgoing.read())
            await peer.do(peer.object.do_handshake)
            await peer.do(peer.object.write, b"secret")
            assert await done == b"secret"
            assert await peer.do(peer.object.read, 100) == b"answer"
        await asyncio.gather(*handlers)
        await stop(server)

    run(scenario())


def test_start_tls_that_fails_closes_the_connection(same_as_asyncio, tls):
    async def scenario(loop):
        with tcp_pair() as (left, right):
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            await loop.sock_sendall(right, b"what?" * 10)
            outcome = await awaited_outcome(loop.start_tls(transport, protocol, tls.client, server_hostname=HOST))
            exc = await protocol.until_called("connection_lost")
            return outcome[:2], type(exc), protocol.names(), transport.is_closing()

    assert same_as_asyncio(scenario).returned[0] == ("raised", ssl.SSLError)


def test_cancelled_start_tls_closes_the_connection(loop, run, tls):
    async def scenario(left, right):
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        task = loop.create_task(loop.start_tls(transport, protocol, tls.client, server_hostname=HOST))
        assert (await receive_exactly(loop, right, 1)) == b"\x16"  # its ClientHello
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: descriptor_closed(transport))

    with tcp_pair() as (left, right):
        run(scenario(left, right))


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "count"), [(0, None), (1000, None), (1000, 500), (0, 10**9)], ids=repr)
def test_file_over_tls(loop, run, tls, tmp_path, offset, count):
    content = pattern(BIG)
    (tmp_path / "file").write_bytes(content)
    wanted = content[offset:] if count is None else content[offset : offset + count]

    async def scenario(file):
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            transport.write(b"before ")
            assert await loop.sendfile(transport, file, offset, count) == len(wanted)
            transport.write(b" after")
            transport.close()
            await accepted.until_called("connection_lost")
            assert accepted.received == b"before " + wanted + b" after"
            assert file.tell() == offset + len(wanted)
            await protocol.until_called("connection_lost")

    with open(tmp_path / "file", "rb") as file:
        run(scenario(file))


def test_file_over_tls_cannot_do_without_the_fallback(same_as_asyncio, tls, tmp_path):
    (tmp_path / "file").write_bytes(b"content")

    async def scenario(loop):
        with open(tmp_path / "file", "rb") as file:
            async with tls_connection(loop, tls) as (transport, _protocol, _accepted):
                outcome = await awaited_outcome(loop.sendfile(transport, file, fallback=False))
                return outcome[:2], alike(outcome[2]).partition(" for transport")[0]

    assert same_as_asyncio(scenario).returned == (
        ("raised", RuntimeError),
        "fallback is disabled and native sendfile is not supported",
    )
