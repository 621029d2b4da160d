"""TLS: flow control where nothing waits, and where writing was paused before TLS began."""

import asyncio

import pytest
from support import LOCALHOST, Recorder, pattern, port_of, tcp_pair
from tls_support import HOST, RawTls, connection_to_raw, stop


def write_until_paused(transport, protocol):
    """Write plain bytes to a peer that does not read; returns them."""
    written = b""
    while "pause_writing" not in protocol.names():
        transport.write(pattern(1 << 18))
        written += pattern(1 << 18)
    return written


async def shake_hands_behind(peer, count):
    """The raw end: receive so many plain bytes, and do the handshake that follows them."""
    plain = bytearray()
    while len(plain) < count:
        plain += await peer.loop.sock_recv(peer.sock, min(65536, count - len(plain)))
    await peer.do(peer.object.do_handshake)
    return bytes(plain)


@pytest.mark.zloop_only
def test_start_tls_on_a_writer_that_is_paused(loop, run, tls):
    """What was written before is sent first; the protocol is resumed when it has something to write to."""

    async def scenario():
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.server, server_side=True)
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            written = write_until_paused(transport, protocol)
            starting = loop.create_task(loop.start_tls(transport, protocol, tls.client, server_hostname=HOST))
            resumed_after_handshake = []
            starting.add_done_callback(lambda _task: resumed_after_handshake.append(protocol.names()[-1]))
            shaking = loop.create_task(shake_hands_behind(peer, len(written)))
            secure = await starting
            assert await shaking == written
            await protocol.until_called("resume_writing")
            secure.write(b"now in secret")
            assert await peer.receive(13) == b"now in secret"
            assert protocol.names() == ["connection_made", "pause_writing", "resume_writing"]
            secure.abort()
            await protocol.until_called("connection_lost")

    run(scenario())


@pytest.mark.zloop_only
def test_writer_is_not_resumed_before_the_handshake_is_over(loop, run, tls):
    """Until then it has nothing to write to but the transport underneath: its bytes would stand among the records."""

    async def scenario():
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.server, server_side=True)
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            written = write_until_paused(transport, protocol)
            starting = loop.create_task(loop.start_tls(transport, protocol, tls.client, server_hostname=HOST))
            plain = bytearray()
            while len(plain) < len(written):
                plain += await loop.sock_recv(right, min(65536, len(written) - len(plain)))
            peer.incoming.write(await loop.sock_recv(right, 65536))  # the client's first words
            assert transport.get_write_buffer_size() == 0
            assert "resume_writing" not in protocol.names()
            await peer.do(peer.object.do_handshake)
            secure = await starting
            await protocol.until_called("resume_writing")
            secure.abort()
            await protocol.until_called("connection_lost")

    run(scenario())


@pytest.mark.zloop_only
def test_start_tls_on_a_writer_that_is_resumed_in_that_turn(loop, run, tls):
    """The transport has room again before the new protocol has heard of it."""

    async def scenario():
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.server, server_side=True)
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            transport.set_write_buffer_limits(high=1)
            written = write_until_paused(transport, protocol)
            received = bytearray()

            def receive_all():
                while True:
                    try:
                        received.extend(right.recv(65536))
                    except BlockingIOError:
                        return

            while transport.get_write_buffer_size() > 20000:  # the kernel's next answer is that it takes all of it
                receive_all()
            starting = loop.create_task(loop.start_tls(transport, protocol, tls.client, server_hostname=HOST))
            loop.call_soon(receive_all)
            await asyncio.sleep(0)
            shaking = loop.create_task(shake_hands_behind(peer, len(written) - len(received)))
            secure = await starting
            await shaking
            await protocol.until_called("resume_writing")
            secure.abort()
            await protocol.until_called("connection_lost")
            return protocol.names()

    assert run(scenario()) == ["connection_made", "pause_writing", "resume_writing", "connection_lost"]


@pytest.mark.zloop_only
def test_high_water_mark_of_zero_pauses_nobody_for_nothing(loop, run, tls):
    """On asyncio the writer is paused when nothing waits, and never resumed."""

    async def scenario():
        received = bytearray()

        async def serve(reader, writer):
            while data := await reader.read(1000):
                received.extend(data)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, LOCALHOST, 0, ssl=tls.server)
        _reader, writer = await asyncio.open_connection(
            LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST
        )
        writer.transport.set_write_buffer_limits(high=0)
        for _ in range(3):
            writer.write(b"x" * 100)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        await stop(server)
        assert received == b"x" * 300

    run(scenario())


@pytest.mark.zloop_only
def test_high_water_mark_of_zero_does_not_keep_an_idle_connection_from_reading(loop, run, tls):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.set_read_buffer_limits(high=0)
                await peer.do(peer.object.write, b"still received")
                await protocol.until(lambda: protocol.received)
                return protocol.received

    assert run(scenario()) == b"still received"
