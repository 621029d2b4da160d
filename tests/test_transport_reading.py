"""Stream transports: reading, and the end of the stream."""

import array
import asyncio
import socket

import pytest
from support import (
    BIG,
    BufferedRecorder,
    Recorder,
    connection,
    pattern,
    reset,
    resource_warnings,
    several_turns,
    until,
    without_repeats,
)

# -- reading -------------------------------------------------------------------------------------------------------


def test_data_is_received_as_bytes(loop, run):
    async def scenario():
        async with connection(loop) as (_transport, protocol, peer):
            peer.send(b"some data")
            data = await protocol.until_called("data_received")
            assert type(data) is bytes
            return data

    assert run(scenario()) == b"some data"


@pytest.mark.parametrize("size", [1, 4096, 65_535, 65_536, 65_537, 262_144, 1_000_003, 4 << 20])
def test_every_byte_arrives_in_order(loop, run, protocol_factory, size):
    content = pattern(size)

    async def scenario():
        async with connection(loop, protocol_factory) as (_transport, protocol, peer):
            await loop.sock_sendall(peer, content)
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_called("connection_lost")
            return protocol.received

    received = run(scenario())
    assert len(received) == size
    assert received == content


def test_buffered_protocol_is_asked_for_each_buffer(loop, run):
    async def scenario():
        async with connection(loop, lambda: BufferedRecorder(4)) as (_transport, protocol, peer):
            peer.send(b"0123456789")
            await protocol.until(lambda: protocol.received == b"0123456789")
            return protocol.calls[1:], protocol.hints

    updates, hints = run(scenario())
    assert updates == [("buffer_updated", 4), ("buffer_updated", 4), ("buffer_updated", 2)]
    assert set(hints) == {-1}


def test_buffered_protocol_may_offer_any_writable_buffer(loop, run):
    class Slicing(BufferedRecorder):
        def get_buffer(self, sizehint):
            return next(self.offered)

        def buffer_updated(self, nbytes):
            self.note("buffer_updated", nbytes)

    async def scenario():
        async with connection(loop, Slicing) as (_transport, protocol, peer):
            whole, numbers = bytearray(b"." * 8), array.array("I", [0, 0])
            protocol.offered = iter([memoryview(whole)[2:5], bytearray(1), memoryview(numbers).cast("B")])
            peer.send(b"abcd" + (7).to_bytes(4, "little") + (8).to_bytes(4, "little"))
            await protocol.until(lambda: sum(call[1] for call in protocol.calls[1:]) == 12)
            return bytes(whole), list(numbers)

    assert run(scenario()) == (b"..abc...", [7, 8])


BAD_BUFFERS = {
    "empty": bytearray(),
    "empty view": memoryview(bytearray(4))[4:],
    "read-only": b"1234",
    "None": None,
    "text": "text",
    "number": 42,
    "non-contiguous": memoryview(bytearray(8))[::2],
}


@pytest.mark.parametrize("case", BAD_BUFFERS)
def test_buffers_that_will_not_do_are_fatal(same_as_asyncio, case):
    class Offering(BufferedRecorder):
        def get_buffer(self, _sizehint):
            return BAD_BUFFERS[case]

    async def scenario(loop):
        async with connection(loop, Offering) as (_transport, protocol, peer):
            contexts = []
            loop.set_exception_handler(lambda _loop, context: contexts.append(context))
            peer.send(b"data")
            lost = await protocol.until_called("connection_lost")
            return type(lost), [(context["message"], type(context["exception"])) for context in contexts]

    lost, contexts = same_as_asyncio(scenario).returned
    assert issubclass(lost, Exception)
    assert len(contexts) == 1


def test_text_of_the_error_for_an_empty_buffer(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop, lambda: BufferedRecorder(0)) as (_transport, protocol, peer):
            peer.send(b"data")
            return str(await protocol.until_called("connection_lost"))

    assert same_as_asyncio(scenario).returned == "get_buffer() returned an empty buffer"


def test_protocol_that_only_looks_buffered(same_as_asyncio):
    """What counts is the class, not the methods."""

    class Duck:
        def connection_made(self, transport):
            pass

        def get_buffer(self, sizehint):
            return bytearray(100)

        def buffer_updated(self, nbytes):
            raise AssertionError("not a BufferedProtocol")

        def eof_received(self):
            pass

        def connection_lost(self, exc):
            self.lost = exc

    async def scenario(loop):
        async with connection(loop, Duck) as (_transport, protocol, peer):
            loop.set_exception_handler(lambda _loop, _context: None)
            peer.send(b"data")
            await until(lambda: hasattr(protocol, "lost"))
            return type(protocol.lost)

    assert same_as_asyncio(scenario).returned is AttributeError


def test_protocol_can_be_switched_between_kinds(loop, run):
    async def scenario():
        async with connection(loop) as (transport, first, peer):
            peer.send(b"first")
            await first.until(lambda: first.received == b"first")
            second, third = BufferedRecorder(), Recorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            peer.send(b"second")
            await second.until(lambda: second.received == b"second")
            transport.set_protocol(third)
            peer.send(b"third")
            await third.until(lambda: third.received == b"third")
            transport.close()
            await third.until_called("connection_lost")
            return first.names(), second.names(), third.names()

    assert run(scenario()) == (
        ["connection_made", "data_received"],
        ["buffer_updated"],
        ["data_received", "connection_lost"],
    )


def test_replaced_method_of_a_protocol(same_as_asyncio):
    """Whether data_received is looked up for every chunk: programs replace it on the instance."""

    async def scenario(loop):
        async with connection(loop) as (_transport, protocol, peer):
            peer.send(b"one")
            await protocol.until(lambda: protocol.received == b"one")
            replaced = []
            protocol.data_received = replaced.append
            peer.send(b"two")
            await until(lambda: replaced)
            return replaced

    assert same_as_asyncio(scenario).returned == [b"two"]


def test_pausing_and_resuming_reading(loop, run, protocol_factory):
    async def scenario():
        async with connection(loop, protocol_factory) as (transport, protocol, peer):
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            peer.send(b"waits")
            await several_turns()
            assert protocol.received == b""
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until(lambda: protocol.received == b"waits")

    run(scenario())


def test_pausing_inside_the_callback_stops_the_flow(loop, run):
    class OneByOne(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async def scenario():
        async with connection(loop, lambda: OneByOne(1)) as (transport, protocol, peer):
            peer.send(b"abc")
            for received in (b"a", b"ab", b"abc"):
                await protocol.until(lambda received=received: protocol.received == received)
                await several_turns()
                assert protocol.received == received
                transport.resume_reading()

    run(scenario())


def test_reading_paused_before_the_connection_is_made_public(loop, run):
    class Pausing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def scenario():
        async with connection(loop, Pausing) as (transport, protocol, peer):
            peer.send(b"waits")
            await several_turns()
            assert protocol.received == b""
            transport.resume_reading()
            await protocol.until(lambda: protocol.received == b"waits")

    run(scenario())


def test_paused_transport_does_not_notice_the_end_until_resumed(loop, run):
    async def scenario():
        async with connection(loop) as (transport, protocol, peer):
            transport.pause_reading()
            peer.send(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await several_turns()
            assert protocol.names() == ["connection_made"]
            transport.resume_reading()
            await protocol.until_called("connection_lost")
            return protocol.received, without_repeats(protocol.names())

    received, names = run(scenario())
    assert received == b"last words"
    assert names == ["connection_made", "data_received", "eof_received", "connection_lost"]


def test_reading_cannot_be_resumed_after_the_loop_is_closed(loop, run):
    async def scenario():
        near, far = socket.socketpair()
        transport, _ = await loop.create_connection(Recorder, sock=near)
        transport.pause_reading()
        return transport, far

    transport, far = run(scenario())
    loop.close()
    with far, pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.resume_reading()
    assert not transport.is_closing()
    with resource_warnings() as texts:
        del transport
    assert any("unclosed transport" in text for text in texts)


def test_nothing_is_received_after_close(loop, run):
    class Closing(BufferedRecorder):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.close()

    async def scenario():
        async with connection(loop, lambda: Closing(4)) as (_transport, protocol, peer):
            peer.send(b"12345678")
            await protocol.until_called("connection_lost")
            await several_turns()
            return protocol.received, protocol.names()

    assert run(scenario()) == (b"1234", ["connection_made", "buffer_updated", "connection_lost"])


# -- much at a time ------------------------------------------------------------------------------------------------


class Heavy(asyncio.Protocol):
    """Gets much at a time; `react` is called with each piece."""

    def __init__(self, react=lambda data: None):
        self.react = react
        self.pieces = []
        self.ended = self.lost = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.pieces.append(data)
        self.react(data)

    def eof_received(self):
        self.ended = True

    def connection_lost(self, exc):
        self.lost = exc or "closed"


async def send_in_pieces(loop, peer, content, size):
    """Hand content to the kernel, then wait until the loop has seen it."""
    for at in range(0, len(content), size):
        await loop.sock_sendall(peer, content[at : at + size])
        await asyncio.sleep(0)


@pytest.mark.parametrize("size", [1, 1000, 40_000, 100_000, BIG])
def test_much_received_at_a_time_and_little_in_turn(loop, run, size):
    async def scenario():
        async with connection(loop, Heavy) as (_transport, protocol, peer):
            content = pattern(BIG)
            await send_in_pieces(loop, peer, content, BIG)
            await send_in_pieces(loop, peer, content[: 20 * size], size)
            peer.shutdown(socket.SHUT_WR)
            await until(lambda: protocol.lost)
            return b"".join(protocol.pieces) == content + content[: 20 * size], {type(p) for p in protocol.pieces}

    assert run(scenario()) == (True, {bytes})


class HeavyBuffered(asyncio.BufferedProtocol):
    """The same, into memory of its own."""

    def __init__(self):
        self.pieces = []
        self.lost = None

    def get_buffer(self, sizehint):
        self.room = bytearray(70_000)
        return self.room

    def buffer_updated(self, nbytes):
        self.pieces.append(bytes(self.room[:nbytes]))

    def connection_lost(self, exc):
        self.lost = exc or "closed"


def at_third_piece(action):
    """A Heavy protocol that calls action(transport) when it gets its third piece."""
    protocol = Heavy(lambda data: action(protocol.transport) if len(protocol.pieces) == 3 else None)
    return protocol


@pytest.mark.parametrize("successor", [None, Heavy, HeavyBuffered])
def test_a_pause_or_another_protocol_while_much_comes(loop, run, successor):
    async def scenario():
        follower = successor() if successor else None

        def act(transport):
            if follower is not None:
                transport.set_protocol(follower)
            else:
                transport.pause_reading()
                loop.call_soon(transport.resume_reading)

        async with connection(loop, lambda: at_third_piece(act)) as (_transport, protocol, peer):
            await loop.sock_sendall(peer, pattern(BIG))
            peer.shutdown(socket.SHUT_WR)
            last = follower or protocol
            await until(lambda: last.lost)
            return b"".join(protocol.pieces + (follower.pieces if follower else [])) == pattern(BIG)

    assert run(scenario())


@pytest.mark.parametrize("way", ["abort", "close", "raise"])
def test_the_end_while_much_comes(loop, run, unhandled, way):
    def act(transport):
        if way == "raise":
            raise ZeroDivisionError
        getattr(transport, way)()

    async def scenario():
        async with connection(loop, lambda: at_third_piece(act)) as (_transport, protocol, peer):
            sending = loop.create_task(loop.sock_sendall(peer, pattern(BIG)))
            await until(lambda: protocol.lost)
            await asyncio.gather(sending, return_exceptions=True)
            await several_turns()
            return len(protocol.pieces)

    assert run(scenario()) == 3
    assert [type(context["exception"]) for context in unhandled] == [ZeroDivisionError] * (way == "raise")
    unhandled.clear()


# -- the end of the stream -----------------------------------------------------------------------------------------


def test_end_of_the_stream_closes_the_transport(loop, run, protocol_factory):
    async def scenario():
        async with connection(loop, protocol_factory) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            assert await protocol.until_called("connection_lost") is None
            assert transport.is_closing()
            assert await loop.sock_recv(peer, 1) == b""
            return protocol.names()

    assert run(scenario()) == ["connection_made", "eof_received", "connection_lost"]


def test_protocol_may_keep_its_half_open(loop, run, protocol_factory):
    async def scenario():
        async with connection(loop, protocol_factory) as (transport, protocol, peer):
            protocol.eof_received = lambda: protocol.note("eof_received") or True
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_called("eof_received")
            await several_turns()
            assert not transport.is_closing()
            transport.write(b"still writing")
            assert await loop.sock_recv(peer, 100) == b"still writing"
            transport.close()
            assert await loop.sock_recv(peer, 100) == b""
            await protocol.until_called("connection_lost")
            return protocol.names()

    assert run(scenario()) == ["connection_made", "eof_received", "connection_lost"]


def test_half_open_transport_can_pause_and_resume(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, protocol, peer):
            protocol.eof_received = lambda: protocol.note("eof_received") or True
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_called("eof_received")
            transport.pause_reading()
            transport.write(b"x")
            return await loop.sock_recv(peer, 1), protocol.names()

    assert same_as_asyncio(scenario).returned == (b"x", ["connection_made", "eof_received"])


def test_reset_by_the_peer_is_told(loop, run, protocol_factory):
    async def scenario():
        async with connection(loop, protocol_factory) as (_transport, protocol, peer):
            reset(peer)
            return await protocol.until_called("connection_lost"), protocol.names()

    exception, names = run(scenario())
    assert isinstance(exception, ConnectionResetError)
    assert names == ["connection_made", "connection_lost"]


def test_keyboard_interrupt_of_what_a_stream_calls_leaves_the_loop(same_as_asyncio):
    def interrupt():
        raise KeyboardInterrupt

    async def begin(near, far):
        reader, writer = await asyncio.open_connection(sock=near)
        far.send(b"x" * 50_000)
        await reader.readexactly(50_000)  # so much at a time that more is received where it belongs
        return reader, writer

    def scenario(loop):
        near, far = socket.socketpair()
        with far:
            reader, writer = loop.run_until_complete(begin(near, far))
            protocol = writer.transport.get_protocol()
            found, protocol._stream_reader_wr = protocol._stream_reader_wr, interrupt
            far.send(b"y" * 50_000)
            try:
                loop.run_until_complete(asyncio.sleep(60))
            except KeyboardInterrupt:
                return writer.transport.is_closing()
            finally:
                protocol._stream_reader_wr = found
                del reader
                writer.transport.abort()
                loop.run_until_complete(several_turns())

    assert same_as_asyncio(scenario).returned is False
