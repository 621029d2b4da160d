"""TLS: connections that are closed while the peer still sends, or has gone already."""

import contextlib
import socket
import ssl

import pytest
from support import pattern, several_turns, tcp_pair, until
from tls_support import connection_to_raw


async def rest_of(peer):
    """What the raw end receives up to the farewell."""
    received = b""
    while data := await peer.do(peer.object.read, 65536):
        received += data
    return received


@pytest.mark.zloop_only
def test_data_that_crosses_our_farewell_is_no_error(loop, run, tls, unhandled):
    """The peer has sent it before it could know."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.write(b"last words")
                transport.close()
                await peer.do(peer.object.write, b"crossing")
                assert await protocol.until_called("connection_lost") is None
                assert protocol.names() == ["connection_made", "connection_lost"]
                assert not unhandled

    run(scenario())


@pytest.mark.zloop_only
def test_close_with_data_that_the_application_has_not_read(loop, run, tls, unhandled):
    """It is dropped, as without TLS; what was written is sent, and the farewell."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.pause_reading()
                await peer.do(peer.object.write, b"never read")
                await until(lambda: transport.get_read_buffer_size() > 0)
                transport.write(b"last words")
                transport.close()
                assert await rest_of(peer) == b"last words"
                assert await protocol.until_called("connection_lost") is None
                assert protocol.names() == ["connection_made", "connection_lost"]
                assert not unhandled

    run(scenario())


@pytest.mark.zloop_only
@pytest.mark.parametrize("says_farewell", [True, False], ids=["farewell", "end of the stream"])
@pytest.mark.parametrize("unread", [b"", b"never read"], ids=["nothing", "data"])
def test_close_after_the_peer_while_reading_is_paused(loop, run, tls, unhandled, says_farewell, unread):
    """There is nothing to wait for. asyncio waits for reading to be resumed, or for the time-out."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.pause_reading()
                if unread:
                    await peer.do(peer.object.write, unread)
                if says_farewell:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        peer.object.unwrap()
                    await peer.send()
                peer.sock.shutdown(socket.SHUT_WR)
                await until(lambda: "read=idle" in repr(transport))  # the end has been seen
                transport.close()
                assert await protocol.until_called("connection_lost") is None
                assert protocol.received == b""
                assert not unhandled

    run(scenario())


@pytest.mark.zloop_only
def test_close_while_the_transport_underneath_is_paused(loop, run, tls, unhandled):
    """A part of a record fills the read buffer of an application that does not read: what follows still ends it."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.set_read_buffer_limits(high=1000)
                transport.pause_reading()
                (record,) = peer.sealed(pattern(10000))
                await loop.sock_sendall(peer.sock, record[:5000])
                await until(lambda: transport.get_read_buffer_size() >= 1000)
                transport.close()
                await several_turns()
                await loop.sock_sendall(peer.sock, record[5000:])
                assert await protocol.until_called("connection_lost") is None
                assert not unhandled

    run(scenario())
