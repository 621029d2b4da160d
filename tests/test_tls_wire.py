"""TLS: records of every size and at every moment, what is wrong with them, and how connections end."""

import asyncio
import contextlib
import ssl

import pytest
from support import (
    BufferedRecorder,
    Recorder,
    pattern,
    reset,
    several_turns,
    tcp_pair,
    until,
)
from tls_support import HOST, RawTls, connection_to_raw, tls_connection

RECORD = 16384
"""The most that a record holds, bytes."""


class ViewRecorder(BufferedRecorder):
    """Offers a view of its buffer: asyncio takes slices of what it is given, and of a bytearray those are copies."""

    def get_buffer(self, sizehint):
        return memoryview(super().get_buffer(sizehint))


def stream(loop):
    """A StreamReader, and a factory of the protocol that feeds it and does not keep it alive."""
    reader = asyncio.StreamReader(limit=1 << 20, loop=loop)
    return reader, lambda: asyncio.StreamReaderProtocol(reader, loop=loop)


def described(exc):
    """An exception as far as it is the same for everybody: the ssl module's texts end with a line of its source."""
    return type(exc), str(exc).partition(" (_ssl.c")[0], getattr(exc, "reason", None), getattr(exc, "library", None)


# -- records -------------------------------------------------------------------------------------------------------


SIZES = [1, RECORD - 1, RECORD, RECORD + 1, 3 * RECORD, 300_000]


@pytest.mark.parametrize("factory", [Recorder, ViewRecorder], ids=["protocol", "buffered"])
def test_messages_around_the_size_of_a_record(loop, run, tls, factory):
    async def scenario():
        async with tls_connection(loop, tls, client=factory, accepted=factory) as (transport, protocol, accepted):
            sent = b""
            for size in SIZES:
                transport.write(pattern(size))
                sent += pattern(size)
                await accepted.until(lambda sent=sent: len(accepted.received) == len(sent))
                accepted.transport.write(pattern(size))
                await protocol.until(lambda sent=sent: len(protocol.received) == len(sent))
            assert accepted.received == protocol.received == sent

    run(scenario())


def test_many_connections_at_once_do_not_mix(loop, run, tls):
    """More than there is memory in store for, each in the middle of receiving and of sending."""

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            ends = []
            for number in range(70):
                sockets = stack.enter_context(tcp_pair())
                ends.append(await stack.enter_async_context(connection_to_raw(loop, tls, sockets)))
                ends[number][0].write(b"hello")
            for turn in range(3):
                messages = [pattern(1000 + 10 * number)[number:] for number in range(len(ends))]
                sealed = [peer.sealed(message)[0] for (*_, peer), message in zip(ends, messages, strict=True)]
                for part in (slice(0, 5), slice(5, 600), slice(600, None)):
                    for (*_, peer), record in zip(ends, sealed, strict=True):
                        await loop.sock_sendall(peer.sock, record[part])
                    await several_turns()
                for (transport, protocol, _peer), message in zip(ends, messages, strict=True):
                    size = (turn + 1) * len(message)
                    await protocol.until(lambda protocol=protocol, size=size: len(protocol.received) == size)
                    assert protocol.received.endswith(message)
                    transport.write(message[:500])
                    transport.write(message[500:])
                for (*_, peer), message in zip(ends, messages, strict=True):
                    expected = b"hello" + message if turn == 0 else message
                    assert await peer.receive(len(expected)) == expected

    run(scenario())


def test_what_waits_to_be_sent_stays_as_it_was_written(loop, run, tls):
    """Many short messages to a peer that does not read, and later ones meanwhile."""

    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            accepted.transport.pause_reading()
            sent = []
            while "pause_writing" not in protocol.names():
                for _ in range(100):
                    sent.append(len(sent).to_bytes(4, "big") * 250)
                    transport.write(sent[-1])
                await several_turns(2)
            accepted.transport.resume_reading()
            expected = b"".join(sent)
            await accepted.until(lambda: len(accepted.received) == len(expected))
            assert accepted.received == expected

    run(scenario())


@pytest.mark.parametrize("size", [1, 7, 4096, RECORD, 1 << 20])
def test_buffers_of_a_buffered_protocol_are_filled_whatever_their_size(loop, run, tls, size):
    """Of one byte too; and all that came is passed on, even if nothing comes after it."""
    message = pattern(min(100 * size, 200_000))

    async def scenario():
        with tcp_pair() as sockets:
            factory = lambda: ViewRecorder(size)  # noqa: E731
            async with connection_to_raw(loop, tls, sockets, factory) as (_transport, protocol, peer):
                await peer.do(peer.object.write, message)
                await protocol.until(lambda: len(protocol.received) >= len(message))
                assert protocol.received == message
                assert all(hint >= 0 for hint in protocol.hints)

    run(scenario())


def test_records_of_one_byte(loop, run, tls):
    """They are passed on together."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (_transport, protocol, peer):
                message = pattern(1000)
                await loop.sock_sendall(peer.sock, b"".join(peer.sealed(*(bytes([byte]) for byte in message))))
                await protocol.until(lambda: len(protocol.received) == len(message))
                assert protocol.received == message

    run(scenario())


@pytest.mark.parametrize("factory", [Recorder, ViewRecorder], ids=["protocol", "buffered"])
def test_records_that_come_byte_by_byte(loop, run, tls, factory):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets, factory) as (_transport, protocol, peer):
                for byte in b"".join(peer.sealed(b"hello ", b"world")):
                    await loop.sock_sendall(peer.sock, bytes([byte]))
                    await several_turns(2)
                await protocol.until(lambda: len(protocol.received) >= len(b"hello world"))
                return protocol.received

    assert run(scenario()) == b"hello world"


@pytest.mark.parametrize("cut", [1, 5, 6, 100, RECORD])
def test_record_in_two_pieces(loop, run, tls, cut):
    """The second is followed by another record at once."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (_transport, protocol, peer):
                message = pattern(RECORD)
                first, second = peer.sealed(message, b"second")
                await loop.sock_sendall(peer.sock, first[:cut])
                await several_turns(4)
                assert protocol.received == b""
                await loop.sock_sendall(peer.sock, first[cut:] + second)
                await protocol.until(lambda: len(protocol.received) == RECORD + 6)
                assert protocol.received == message + b"second"

    run(scenario())


@pytest.mark.parametrize("cut", [1, 5, 6, 100, RECORD, 2 * RECORD])
def test_stream_reader_gets_every_record(loop, run, tls, cut):
    """Also of what comes in two pieces, and behind bytes that nobody has read yet."""
    message = b"".join(map(pattern, SIZES))

    async def scenario():
        with tcp_pair() as sockets:
            reader, factory = stream(loop)
            async with connection_to_raw(loop, tls, sockets, factory) as (_transport, _protocol, peer):
                sealed = b"".join(peer.sealed(*map(pattern, SIZES)))
                await loop.sock_sendall(peer.sock, sealed[:cut])
                await several_turns(4)
                sending = loop.create_task(loop.sock_sendall(peer.sock, sealed[cut:]))
                assert await reader.readexactly(len(message)) == message
                await sending
                assert bytes(reader._buffer) == b""

    run(scenario())


def test_methods_of_a_stream_reader_that_are_replaced_are_called(loop, run, tls):
    async def scenario():
        with tcp_pair() as sockets:
            reader, factory = stream(loop)
            async with connection_to_raw(loop, tls, sockets, factory) as (_transport, _protocol, peer):
                await peer.do(peer.object.write, b"first")
                assert await reader.readexactly(5) == b"first"
                plain = reader.feed_data
                reader.feed_data = lambda data: plain(data.upper())
                await peer.do(peer.object.write, b"second" * 10_000)
                assert await reader.readexactly(60_000) == b"SECOND" * 10_000

    run(scenario())


def test_stream_reader_whose_buffer_is_held_loses_the_connection(loop, run, tls):
    """Its memory cannot grow while somebody has a view of it."""
    reported = []

    async def scenario():
        loop.set_exception_handler(lambda _loop, context: reported.append(type(context["exception"])))
        with tcp_pair() as sockets:
            reader, factory = stream(loop)
            async with connection_to_raw(loop, tls, sockets, factory) as (_transport, _protocol, peer):
                with memoryview(reader._buffer):
                    await peer.do(peer.object.write, b"hello")
                    with pytest.raises(BufferError):
                        await reader.read(5)

    run(scenario())
    assert reported == [BufferError]


def test_large_write_among_small_ones_keeps_its_place(loop, run, tls):
    messages = [b"small", pattern(200_000), b"smaller", pattern(70_000), pattern(600_000), b"smallest"]

    async def scenario():
        async with tls_connection(loop, tls) as (transport, _protocol, accepted):
            for message in messages:
                transport.write(message)
            await accepted.until(lambda: len(accepted.received) == sum(map(len, messages)))
            assert accepted.received == b"".join(messages)

    run(scenario())


@pytest.mark.parametrize("size", [100, 100_000])
def test_writes_to_a_peer_that_is_gone(loop, run, tls, size):
    """They are not refused; the connection ends by the kernel's answer to one of them."""

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport._ssl_protocol._transport.pause_reading()  # so that writing is what finds out
                reset(peer.sock)
                while not transport.is_closing():
                    transport.write(pattern(size))
                    await several_turns(1)
                assert isinstance(await protocol.until_called("connection_lost"), ConnectionError)

    run(scenario())


def test_handshake_that_comes_byte_by_byte(loop, run, tls):
    async def scenario():
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.client, server_hostname=HOST)
            accepting = loop.create_task(loop.connect_accepted_socket(Recorder, left, ssl=tls.server))
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.object.do_handshake()
            for byte in peer.outgoing.read():
                await loop.sock_sendall(right, bytes([byte]))
                await several_turns(2)
            await peer.do(peer.object.do_handshake)
            transport, protocol = await accepting
            await peer.do(peer.object.write, b"hello")
            await protocol.until(lambda: protocol.received)
            transport.abort()
            await protocol.until_called("connection_lost")
            return protocol.received

    assert run(scenario()) == b"hello"


def test_data_that_comes_with_the_end_of_the_handshake(loop, run, tls):
    """It is passed on after connection_made()."""

    async def scenario():
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.client, server_hostname=HOST)
            accepting = loop.create_task(loop.connect_accepted_socket(Recorder, left, ssl=tls.server))
            await peer.shake_hands_but_hold_the_end()
            peer.object.write(b"early")
            await peer.send()
            transport, protocol = await accepting
            await protocol.until(lambda: protocol.received == b"early")
            assert protocol.names() == ["connection_made", "data_received"]
            transport.abort()
            await protocol.until_called("connection_lost")

    run(scenario())


# -- writing -------------------------------------------------------------------------------------------------------


def test_what_is_written_may_be_changed_afterwards(loop, run, tls):
    """Also what is held back, and what is not contiguous is refused."""

    async def scenario():
        async with tls_connection(loop, tls) as (transport, _protocol, accepted):
            accepted.transport.pause_reading()
            buffer = bytearray(pattern(1 << 20))
            for _ in range(8):
                transport.write(memoryview(buffer))
            assert transport.get_write_buffer_size() > 0
            buffer[:] = bytes(len(buffer))
            accepted.transport.resume_reading()
            await accepted.until(lambda: len(accepted.received) == 8 << 20)
            assert accepted.received == pattern(1 << 20) * 8

    run(scenario())


def test_many_small_writes_keep_their_order(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, _protocol, accepted):
            message = pattern(3000)
            for start in range(0, 2000, 10):
                transport.write(message[start : start + 10])
            transport.writelines([message[2000:2500], bytearray(message[2500:2999]), memoryview(message[2999:]), b""])
            await accepted.until(lambda: len(accepted.received) == 3000)
            assert accepted.received == message

    run(scenario())


def test_arguments_of_write(same_as_asyncio, tls):
    async def scenario(loop):
        outcomes = []
        async with tls_connection(loop, tls) as (transport, _protocol, _accepted):
            for data in ("text", None, 1, [b"list"]):
                try:
                    transport.write(data)
                except TypeError as exc:
                    outcomes.append(str(exc))
            transport.write(b"")
            transport.writelines([])
            try:
                transport.write_eof()
            except NotImplementedError as exc:
                outcomes.append(str(exc))
            return outcomes, transport.can_write_eof(), transport.get_write_buffer_size()

    assert len(same_as_asyncio(scenario).returned[0]) == 5


def test_data_that_cannot_be_sent_is_fatal(loop, run, tls, unhandled):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, _accepted):
            transport.write(memoryview(b"0123456789")[::2])
            assert isinstance(await protocol.until_called("connection_lost"), BufferError)

    run(scenario())
    (context,) = unhandled
    assert context["message"] == "Fatal error on SSL protocol"


def test_writes_after_the_end(same_as_asyncio, tls):
    async def scenario(loop):
        async with tls_connection(loop, tls) as (transport, protocol, _accepted):
            transport.close()
            transport.write(b"late")
            await protocol.until_called("connection_lost")
            for _ in range(10):
                transport.write(b"later")
            return protocol.names(), transport.is_closing()

    assert "SSL connection is closed" in str(same_as_asyncio(scenario).logged)


def test_closing_again_and_using_what_is_closed(loop, run, tls):
    """In asyncio that is an AttributeError."""

    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, _accepted):
            transport.close()
            await protocol.until_called("connection_lost")
            assert transport.get_extra_info("ssl_object") is not None
            transport.close()
            transport.close()
            if type(transport).__module__.startswith("zloop"):
                transport.pause_reading()
                transport.resume_reading()
                transport.write(b"lost")
                transport.abort()
                assert transport.get_extra_info("ssl_object") is None
                assert transport.get_write_buffer_size() == 0
                assert transport.get_protocol() is None
                assert "closed" in repr(transport)
            assert transport.is_closing()
            await several_turns()

    run(scenario())


def test_water_marks(same_as_asyncio, tls):
    async def scenario(loop):
        async with tls_connection(loop, tls) as (transport, protocol, _accepted):
            found = [transport.get_write_buffer_limits(), transport.get_read_buffer_limits()]
            for marks in ({"high": 4000}, {"low": 100}, {"high": 9, "low": 3}, {}, {"high": 1, "low": 2}, {"low": -1}):
                for set_limits, get_limits in (
                    (transport.set_write_buffer_limits, transport.get_write_buffer_limits),
                    (transport.set_read_buffer_limits, transport.get_read_buffer_limits),
                ):
                    try:
                        set_limits(**marks)
                    except ValueError as exc:
                        found.append(str(exc))
                    found.append(get_limits())
            return found, transport.get_read_buffer_size(), protocol.names()

    same_as_asyncio(scenario)


def test_full_write_buffer_is_sent_before_the_farewell(loop, run, tls):
    """A peer that reads late gets everything that was written before close()."""

    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            accepted.transport.pause_reading()
            size = 0
            while "pause_writing" not in protocol.names():
                transport.write(pattern(1 << 20))
                size += 1 << 20
                await several_turns(2)
            transport.close()
            await several_turns()
            assert "connection_lost" not in protocol.names()
            accepted.transport.resume_reading()
            await accepted.until_called("eof_received")
            assert len(accepted.received) == size
            assert await protocol.until_called("connection_lost") is None

    run(scenario())


def test_reader_that_is_paused_holds_the_sender_up(loop, run, tls):
    """Neither end takes more than its buffers hold; all of it arrives in the end."""

    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            accepted.transport.pause_reading()
            assert not accepted.transport.is_reading()
            size = 0
            while not transport.get_write_buffer_size() > 1 << 20:
                transport.write(pattern(1 << 18))
                size += 1 << 18
                await several_turns(2)
            assert accepted.received == b""
            assert accepted.transport.get_read_buffer_size() < 1 << 20
            accepted.transport.resume_reading()
            await accepted.until(lambda: len(accepted.received) == size)
            assert accepted.received == pattern(1 << 18) * (size >> 18)
            await protocol.until_called("resume_writing")

    run(scenario())


# -- callbacks that interfere --------------------------------------------------------------------------------------


class Meddler(Recorder):
    """Does something to its transport as soon as data comes."""

    def __init__(self, meddle):
        super().__init__()
        self.meddle = meddle

    def data_received(self, data):
        super().data_received(data)
        self.meddle(self)


def fail(_protocol):
    raise LookupError("no use for it")


MEDDLING = {
    "close": lambda protocol: protocol.transport.close(),
    "abort": lambda protocol: protocol.transport.abort(),
    "write and close": lambda protocol: (protocol.transport.write(b"answer"), protocol.transport.close()),
    "close twice": lambda protocol: (protocol.transport.close(), protocol.transport.close()),
    "pause": lambda protocol: protocol.transport.pause_reading(),
    "pause and close": lambda protocol: (protocol.transport.pause_reading(), protocol.transport.close()),
    "fail": fail,
}


@pytest.mark.parametrize("meddling", MEDDLING)
def test_meddling_while_data_is_received(same_as_asyncio, tls, meddling):
    async def scenario(loop):
        contexts = []
        loop.set_exception_handler(lambda _loop, context: contexts.append(context))
        with tcp_pair() as sockets:
            options = {"ssl_shutdown_timeout": 0.05}
            factory = lambda: Meddler(MEDDLING[meddling])  # noqa: E731
            async with connection_to_raw(loop, tls, sockets, factory, **options) as (_transport, protocol, peer):
                first, second, farewell = *peer.sealed(b"first", b"second"), None
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.object.unwrap()
                farewell = peer.outgoing.read()
                await loop.sock_sendall(peer.sock, first + second)
                await protocol.until_called("data_received")
                await several_turns()
                if meddling == "pause":
                    protocol.transport.resume_reading()
                with contextlib.suppress(OSError):
                    await loop.sock_sendall(peer.sock, farewell)
                exc = await protocol.until_called("connection_lost")
                failures = [(context["message"], described(context["exception"])) for context in contexts]
                return protocol.received, protocol.names(), described(exc), failures

    same_as_asyncio(scenario)


@pytest.mark.zloop_only  # asyncio takes an empty buffer for the end of the stream
def test_empty_buffer_is_an_error(loop, run, tls, unhandled):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets, lambda: ViewRecorder(0)) as (_, protocol, peer):
                await peer.do(peer.object.write, b"data")
                assert isinstance(await protocol.until_called("connection_lost"), RuntimeError)

    run(scenario())
    assert str(unhandled[0]["exception"]) == "get_buffer() returned an empty buffer"


def test_protocol_that_turns_buffered(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            transport.write(b"one")
            await accepted.until(lambda: accepted.received == b"one")
            buffered = ViewRecorder()
            accepted.transport.set_protocol(buffered)
            assert accepted.transport.get_protocol() is buffered
            transport.write(b"two")
            await buffered.until(lambda: buffered.received == b"two")
            accepted.transport.set_protocol(accepted)
            transport.write(b"three")
            await accepted.until(lambda: accepted.received == b"onethree")
            assert protocol.names() == ["connection_made"]

    run(scenario())


# -- the end -------------------------------------------------------------------------------------------------------


def test_farewell_of_the_peer(same_as_asyncio, tls):
    """It is answered, and what came before it is passed on."""

    async def scenario(loop):
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (_transport, protocol, peer):
                peer.object.write(b"last words")
                await peer.do(peer.object.unwrap)
                exc = await protocol.until_called("connection_lost")
                return exc, protocol.received, protocol.names(), await loop.sock_recv(peer.sock, 1)

    names = ["connection_made", "data_received", "eof_received", "connection_lost"]
    assert same_as_asyncio(scenario).returned == (None, b"last words", names, b"")


def test_farewell_of_our_own(same_as_asyncio, tls):
    async def scenario(loop):
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.write(b"last words")
                transport.close()
                received = await peer.receive(10)
                await peer.do(peer.object.unwrap)
                exc = await protocol.until_called("connection_lost")
                return exc, received, protocol.names(), transport.is_closing()

    assert same_as_asyncio(scenario).returned[:2] == (None, b"last words")


def test_end_of_the_stream_while_the_application_does_not_read(same_as_asyncio, tls):
    async def scenario(loop):
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (transport, protocol, peer):
                transport.pause_reading()
                peer.object.write(b"unread")
                await peer.send()
                await several_turns()
                peer.sock.close()
                await several_turns()
                before = protocol.names()
                transport.resume_reading()
                exc = await protocol.until_called("connection_lost")
                return before, exc, protocol.received, protocol.names()

    assert same_as_asyncio(scenario).returned[2] == b"unread"


def test_peer_that_resets_the_connection(same_as_asyncio, tls):
    async def scenario(loop):
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (_transport, protocol, peer):
                peer.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SOL_SOCKET, SO_LINGER: reset when closed
                peer.sock.close()
                exc = await protocol.until_called("connection_lost")
                return type(exc), protocol.names()

    assert same_as_asyncio(scenario).returned[0] is ConnectionResetError


# -- what is wrong with records ------------------------------------------------------------------------------------


def corrupted(peer):
    (record,) = peer.sealed(b"corrupted")
    return record[:-1] + bytes([record[-1] ^ 1])


def no_record(_peer):
    return b"HTTP/1.1 400 Bad Request\r\n\r\n"


def too_long(_peer):
    return b"\x17\x03\x03\xff\xff" + bytes(65535)


def fatal_alert(peer):
    """What the peer says when it cannot read a record: the alert is a record itself."""
    peer.incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    with contextlib.suppress(ssl.SSLError):
        peer.object.read(10)
    return peer.outgoing.read()


@pytest.mark.parametrize("factory", [Recorder, ViewRecorder], ids=["protocol", "buffered"])
@pytest.mark.parametrize("bad", [corrupted, no_record, too_long, fatal_alert])
def test_record_that_is_wrong(same_as_asyncio, tls, bad, factory):
    async def scenario(loop):
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets, factory) as (_transport, protocol, peer):
                await peer.do(peer.object.write, b"good")
                await protocol.until(lambda: protocol.received == b"good")
                await loop.sock_sendall(peer.sock, bad(peer))
                exc = await protocol.until_called("connection_lost")
                return described(exc), exc.errno, protocol.names()

    found = same_as_asyncio(scenario).returned[0]
    assert found[0] is ssl.SSLError
    assert found[3] == "SSL"


@pytest.mark.zloop_only  # asyncio drops what came with it
def test_data_in_front_of_a_wrong_record_is_passed_on(loop, run, tls):
    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, tls, sockets) as (_transport, protocol, peer):
                await loop.sock_sendall(peer.sock, b"".join(peer.sealed(b"good ", b"data")) + corrupted(peer))
                assert isinstance(await protocol.until_called("connection_lost"), ssl.SSLError)
                assert protocol.received == b"good data"

    run(scenario())


def test_old_error_of_somebody_else_is_none_of_the_connections(loop, run, tls):
    """OpenSSL's errors are queued for the thread; a failed call elsewhere must not end a connection."""

    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            for _ in range(3):
                with pytest.raises(ssl.SSLError):
                    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("nonsense")
                transport.write(b"ping")
                await accepted.until(lambda: accepted.received.endswith(b"ping"))
                accepted.transport.write(b"pong")
                await protocol.until(lambda: protocol.received.endswith(b"pong"))
                await several_turns()
            assert protocol.received == b"pong" * 3

    run(scenario())


# -- in the end ----------------------------------------------------------------------------------------------------


def test_transport_that_is_forgotten_warns(loop, run, tls):
    async def scenario():
        with tcp_pair() as (left, right):
            peer = RawTls(loop, right, tls.server, server_side=True)
            shaking = loop.create_task(peer.do(peer.object.do_handshake))
            transport, protocol = await loop.create_connection(
                Recorder, sock=left, ssl=tls.client, server_hostname=HOST
            )
            await shaking
            with pytest.warns(ResourceWarning, match="unclosed transport <"):
                transport.__del__()
            transport.abort()
            await protocol.until_called("connection_lost")
            await until(lambda: left.fileno() == -1)

    run(scenario())
