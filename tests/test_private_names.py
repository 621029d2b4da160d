"""Private names of asyncio's handles, transports and protocols that libraries use: zloop's objects have them, too."""

import asyncio
import contextvars
import os
import socket

import pytest
from support import connection, several_turns, socket_pair, tcp_pair, udp_socket, until
from tls_support import connection_to_raw

MARK = contextvars.ContextVar("MARK", default="unset")


def test_of_a_handle(same_as_asyncio):
    def scenario(loop):
        handle = loop.call_soon(print, 1, 2)
        before = handle._callback is print, handle._args, handle._loop is loop, handle._cancelled
        handle.cancel()
        return before, (handle._callback, handle._args, handle._cancelled)

    assert same_as_asyncio(scenario).returned == ((True, (1, 2), True, False), (None, None, True))


def test_a_handle_is_run_by_hand(same_as_asyncio):
    """Loops of tests do that. A failure is the exception handler's, and SystemExit leaves."""

    def scenario(loop):
        seen, reported = [], []
        loop.set_exception_handler(lambda _loop, context: reported.append(context["message"]))
        context = contextvars.Context()
        context.run(MARK.set, "own")
        handle = loop.call_soon(lambda: seen.append(MARK.get()), context=context)
        handle._run()
        handle._run()
        handle.cancel()
        failing = loop.call_soon([].pop)
        failing._run()
        failing.cancel()
        leaving = loop.call_soon(lambda: os.sys.exit(3))
        with pytest.raises(SystemExit):
            leaving._run()
        leaving.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        return seen, reported

    seen, reported = same_as_asyncio(scenario).returned
    assert seen == ["own", "own"]
    assert len(reported) == 1


def test_of_a_stream_transport(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, protocol, _peer):
            transport.pause_reading()
            sock = transport.get_extra_info("socket")
            names = transport._extra["peername"] == sock.getpeername(), transport._sock.fileno() == sock.fileno()
            return (
                (transport._loop is loop, transport._protocol is protocol, transport._paused),
                (transport._protocol_paused, transport.get_protocol() is protocol, names),
            )

    assert same_as_asyncio(scenario).returned == ((True, True, True), (False, True, (True, True)))


@pytest.mark.parametrize("error", [ConnectionResetError("by the peer"), ValueError("by the program")], ids=repr)
def test_a_transport_is_ended_by_a_fatal_error(same_as_asyncio, error):
    """As asyncio's sslproto, and others that stand on a transport, do it."""

    async def scenario(loop):
        reported = []
        loop.set_exception_handler(lambda _loop, context: reported.append((context["message"], context["exception"])))
        async with connection(loop) as (transport, protocol, _peer):
            transport._fatal_error(error, "said by a library")
            transport._fatal_error(error, "said again")
            assert await protocol.until_called("connection_lost") is error
            await several_turns()
        return reported, protocol.names()

    reported, names = same_as_asyncio(scenario).returned
    assert names == ["connection_made", "connection_lost"]
    assert len(reported) == (0 if isinstance(error, OSError) else 2)


@pytest.mark.zloop_only
def test_the_end_of_a_transport_is_told_once_whoever_asks_for_it(loop, run):
    """With asyncio the second time is an AttributeError."""

    async def scenario():
        async with connection(loop) as (transport, protocol, _peer):
            transport.abort()
            transport._call_connection_lost(None)
            transport._call_connection_lost(None)
            await several_turns()
            return protocol.names()

    assert run(scenario()) == ["connection_made", "connection_lost"]


def test_of_a_datagram_transport(same_as_asyncio):
    async def scenario(loop):
        with udp_socket() as peer:
            transport, _protocol = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=peer.getsockname()
            )
            found = transport._sock.type == socket.SOCK_DGRAM, transport._address == peer.getsockname()
            transport.abort()
            await until(lambda: transport._sock is None)
            return found

    assert same_as_asyncio(scenario).returned == (True, True)


def test_of_pipe_transports(same_as_asyncio):
    async def scenario(loop):
        reading, writing = os.pipe()
        with open(reading, "rb", 0) as reader, open(writing, "wb", 0) as writer:
            read_end, _protocol = await loop.connect_read_pipe(asyncio.Protocol, reader)
            write_end, _protocol = await loop.connect_write_pipe(asyncio.BaseProtocol, writer)
            found = read_end._pipe is reader, write_end._pipe is writer
            for transport in (read_end, write_end):
                transport.close()
            await until(lambda: read_end._pipe is write_end._pipe is None)
            return found

    assert same_as_asyncio(scenario).returned == (True, True)


@pytest.mark.parametrize("method", ["is_reading", "pause_reading", "resume_reading"])
def test_a_writing_end_has_nothing_to_read(same_as_asyncio, method):
    async def scenario(loop):
        with socket_pair() as (left, _right):
            transport, _protocol = await loop.connect_write_pipe(asyncio.BaseProtocol, left)
            try:
                getattr(transport, method)()
            finally:
                transport.abort()
                await until(lambda: left.fileno() == -1)

    assert same_as_asyncio(scenario).raised is NotImplementedError


def test_of_tls(loop, run, tls):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, application, _peer):
                protocol = transport._ssl_protocol
                assert (transport._loop, protocol._loop, protocol._app_transport) == (loop, loop, transport)
                assert protocol._sslcontext is tls.client
                assert protocol._app_protocol is application
                assert protocol._sslobj is transport.get_extra_info("ssl_object")
                assert protocol._transport.get_extra_info("peername") == transport.get_extra_info("peername")
                transport.pause_reading()
                assert protocol._app_reading_paused
                transport.resume_reading()
                assert not protocol._app_reading_paused

    run(scenario())


def test_what_is_put_into_the_backlog_of_tls_is_sent(loop, run, tls):
    """CPython's own tests of TLS do that."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, _protocol, peer):
                transport._test__append_write_backlog(b"before ")
                transport.write(b"after")
                assert await peer.receive(12) == b"before after"

    run(scenario())


def test_tls_transport_that_is_closed(loop, run, tls):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, _protocol, _peer):
                before = transport._closed
                transport.close()
                return before, transport._closed

    assert run(scenario()) == (False, True)
