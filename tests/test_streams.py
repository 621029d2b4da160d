"""asyncio's streams on top of the loop's transports."""

import asyncio
import hashlib
import socket

import pytest
from support import LOCALHOST, awaited_outcome, pattern, several_turns, socket_pair, tcp_pair, until

BIG = 4 << 20
"""More bytes than the buffers of a connection hold."""


class Server:
    """A streams server in an async with block: handler runs for each connection; what it raises comes out at last."""

    def __init__(self, handler, **options):
        self._handler = handler
        self._options = options
        self._tasks = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._handle, LOCALHOST, 0, **self._options)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc_info):
        self._server.close()
        await asyncio.gather(*self._tasks)
        await self._server.wait_closed()

    async def _handle(self, reader, writer):
        self._tasks.append(asyncio.current_task())
        try:
            await self._handler(reader, writer)
        finally:
            await close(writer)

    async def connect(self, **options):
        return await asyncio.open_connection(LOCALHOST, self.port, **options)


async def close(writer):
    """Close a stream and wait until its connection is gone."""
    writer.close()
    try:
        await writer.wait_closed()
    except ConnectionError:
        pass


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def saying(content):
    """A handler that sends content and hangs up."""

    async def say(_reader, writer):
        writer.write(content)

    return say


async def heard(content, listen):
    """Have a server send content; return what listen(reader) makes of it."""
    async with Server(saying(content)) as server:
        reader, writer = await server.connect()
        try:
            return await listen(reader)
        finally:
            await close(writer)


# -- reading -------------------------------------------------------------------------------------------------------


def test_echo(loop, run):
    async def scenario():
        async with Server(echo) as server:
            reader, writer = await server.connect()
            for message in (b"hello", b"x" * 10_000, b"bye"):
                writer.write(message)
                await writer.drain()
                assert await reader.readexactly(len(message)) == message
            writer.write_eof()
            assert await reader.read() == b""
            assert reader.at_eof()
            await close(writer)

    run(scenario())


READINGS = {
    "read all": lambda reader: reader.read(),
    "read some": lambda reader: reader.read(4),
    "read nothing": lambda reader: reader.read(0),
    "readexactly": lambda reader: reader.readexactly(9),
    "readexactly too much": lambda reader: reader.readexactly(1000),
    "readline": lambda reader: reader.readline(),
    "readuntil": lambda reader: reader.readuntil(b"two"),
    "readuntil what never comes": lambda reader: reader.readuntil(b"three"),
}


@pytest.mark.parametrize("reading", READINGS)
def test_ways_to_read(same_as_asyncio, reading):
    async def listen(reader):
        await until(reader._buffer.__len__)
        return await awaited_outcome(READINGS[reading](reader))

    async def scenario(loop):
        return await heard(b"line one\nline two\n", listen)

    assert same_as_asyncio(scenario).raised is None


def test_reading_line_by_line(loop, run):
    async def listen(reader):
        return [line async for line in reader]

    lines = [b"line %d\n" % number for number in range(500)]
    assert run(heard(b"".join(lines) + b"no newline", listen)) == [*lines, b"no newline"]


def test_line_that_is_too_long(same_as_asyncio):
    async def scenario(loop):
        async with Server(saying(b"x" * 1000 + b"\n")) as server:
            reader, writer = await server.connect(limit=100)
            try:
                return await awaited_outcome(reader.readline())
            finally:
                await close(writer)

    assert same_as_asyncio(scenario).returned[1] is ValueError


def test_connection_reset_while_reading(same_as_asyncio):
    async def scenario(loop):
        with tcp_pair() as (left, right):
            reader, writer = await asyncio.open_connection(sock=left)
            task = loop.create_task(reader.read())
            await several_turns()
            right.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            right.close()
            outcome = await awaited_outcome(task)
            await close(writer)
            return outcome

    assert same_as_asyncio(scenario).returned[1] is ConnectionResetError


def test_reader_that_does_not_read_holds_the_sender_back(loop, run):
    """Above twice the limit the transport is paused, and the sender's drain() waits."""

    async def scenario():
        sent = []

        async def send(_reader, writer):
            for _ in range(64):
                writer.write(b"x" * 131_072)
                await writer.drain()
                sent.append(131_072)

        async with Server(send) as server:
            reader, writer = await server.connect(limit=1024)
            await until(lambda: not writer.transport.is_reading())
            held = len(reader._buffer)
            await several_turns(20)
            assert len(reader._buffer) == held
            assert len(sent) < 64
            received = 0
            while chunk := await reader.read(1 << 20):
                received += len(chunk)
            await close(writer)
            return received

    assert run(scenario()) == 64 * 131_072


# -- writing -------------------------------------------------------------------------------------------------------


def test_drain_waits_for_the_reader(loop, run):
    async def scenario():
        may_read = asyncio.Event()
        received = []

        async def read_when_told(reader, _writer):
            await may_read.wait()
            received.append(await reader.readexactly(BIG * 2))

        async with Server(read_when_told) as server:
            _reader, writer = await server.connect()
            writer.write(b"x" * (BIG * 2))
            draining = loop.create_task(writer.drain())
            await several_turns(20)
            assert not draining.done()
            may_read.set()
            await draining
            await close(writer)
        return len(received[0])

    assert run(scenario()) == BIG * 2


def test_drain_of_a_lost_connection(same_as_asyncio):
    async def scenario(loop):
        with tcp_pair() as (left, right):
            _reader, writer = await asyncio.open_connection(sock=left)
            writer.write(b"x" * BIG)
            draining = loop.create_task(writer.drain())
            await several_turns()
            right.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            right.close()
            outcomes = [(await awaited_outcome(draining))[:2], (await awaited_outcome(writer.drain()))[:2]]
            await close(writer)
            return [outcome[0] for outcome in outcomes]

    assert same_as_asyncio(scenario).returned == ["raised", "raised"]


def test_writelines_and_extra_info(loop, run):
    async def scenario():
        async with Server(echo) as server:
            reader, writer = await server.connect()
            assert writer.get_extra_info("peername") == (LOCALHOST, server.port)
            assert writer.can_write_eof()
            writer.writelines([b"one ", b"two ", b"three"])
            writer.write_eof()
            received = await reader.read()
            await close(writer)
            assert writer.is_closing()
            return received

    assert run(scenario()) == b"one two three"


@pytest.mark.parametrize("way", ["read", "readexactly", "readuntil"])
def test_much_at_a_time_then_little(loop, run, way):
    content = b"\n".join([b"x" * 300_000, b"y" * 100_000, b"small", b"z" * 100_000, b"end", b""])

    async def scenario():
        async with Server(saying(content), limit=1 << 20) as server:
            reader, writer = await server.connect(limit=1 << 20)
            received = b""
            try:
                while not reader.at_eof():
                    if way == "readexactly":
                        received += await reader.readexactly(100_001)
                    else:
                        received += await (reader.read(1 << 20) if way == "read" else reader.readuntil(b"\n"))
            except asyncio.IncompleteReadError as exc:
                received += exc.partial
            await close(writer)
            return received == content

    assert run(scenario())


@pytest.mark.parametrize("limit", [1, 1000, 1001, 1001.5, 4000, 1 << 70])
def test_a_reader_pauses_beyond_twice_its_limit(same_as_asyncio, limit):
    async def scenario(loop):
        with tcp_pair() as (left, right):
            reader, writer = await asyncio.open_connection(sock=left, limit=limit)
            states = []
            for size in (2000, 1, 1):
                seen = len(reader._buffer)
                right.sendall(b"x" * size)
                if not reader._paused:
                    await until(lambda: len(reader._buffer) == seen + size)
                states.append((writer.transport.is_reading(), reader._paused, len(reader._buffer)))
            await close(writer)
            return states

    same_as_asyncio(scenario)


@pytest.mark.parametrize("replaced", ["feed_data", "data_received", "class"])
def test_feed_data_replaced_while_much_comes(loop, run, replaced):
    """Whoever counts bytes in a method of their own counts all that come from then on."""
    counted = []

    async def scenario():
        async with Server(saying(pattern(BIG))) as server:
            reader, writer = await server.connect()
            received = await reader.readexactly(BIG // 4)
            before = len(reader._buffer)
            protocol = writer.transport.get_protocol()
            owner = protocol if replaced == "data_received" else reader
            name = "data_received" if replaced == "data_received" else "feed_data"
            original = getattr(owner, name)

            def count(*arguments):
                counted.append(len(arguments[-1]))
                original(arguments[-1])

            if replaced == "class":
                reader.__class__ = type("Counting", (asyncio.StreamReader,), {"feed_data": count})
            else:
                setattr(owner, name, count)
            received += await reader.read()
            await close(writer)
            return received == pattern(BIG), sum(counted) == BIG - BIG // 4 - before

    assert run(scenario()) == (True, True)


def test_a_lent_buffer_that_cannot_grow(loop, run, unhandled):
    """Somebody holds a view of the reader's buffer: receiving is as fatal as with feed_data()."""

    async def scenario():
        viewed = asyncio.Event()

        async def send_twice(_reader, writer):
            writer.write(b"x" * 200_000)
            await viewed.wait()
            writer.write(b"x" * 200_000)

        async with Server(send_twice) as server:
            reader, _writer = await server.connect(limit=1 << 20)
            await until(lambda: len(reader._buffer) == 200_000)
            with memoryview(reader._buffer):
                viewed.set()
                await until(lambda: reader.exception() is not None)
            return type(reader.exception())

    assert run(scenario()) is BufferError
    assert [type(context["exception"]) for context in unhandled] == [BufferError]
    unhandled.clear()


def test_wait_closed_waits_for_the_flush(loop, run):
    async def scenario():
        received = []

        async def read_all(reader, _writer):
            received.append(len(await reader.read()))

        async with Server(read_all) as server:
            _reader, writer = await server.connect()
            writer.write(b"x" * BIG)
            writer.close()
            await writer.wait_closed()
        return received

    assert run(scenario()) == [BIG]


@pytest.mark.parametrize("connections", [1, 10])
def test_large_transfers_both_ways_at_once(loop, run, connections):
    content = pattern(BIG)

    async def send(writer):
        for start in range(0, BIG, 100_001):
            writer.write(content[start : start + 100_001])
            await writer.drain()
        writer.write_eof()

    async def receive(reader):
        digest = hashlib.blake2b()
        while chunk := await reader.read(77_777):
            digest.update(chunk)
        return digest.digest()

    digests = []

    async def exchange(reader, writer):
        results = await asyncio.gather(send(writer), receive(reader))
        digests.append(results[1])

    async def scenario():
        async def client(server):
            reader, writer = await server.connect()
            await exchange(reader, writer)
            await close(writer)

        async with Server(exchange) as server:
            await asyncio.gather(*(client(server) for _ in range(connections)))

    run(scenario())
    assert set(digests) == {hashlib.blake2b(content).digest()}
    assert len(digests) == 2 * connections


# -- servers -------------------------------------------------------------------------------------------------------


def test_many_clients(loop, run):
    async def scenario():
        async with Server(echo, backlog=200) as server:

            async def client(number):
                reader, writer = await server.connect()
                message = b"client %d\n" % number
                writer.write(message)
                assert await reader.readline() == message
                await close(writer)

            await asyncio.gather(*(client(number) for number in range(100)))

    run(scenario())


def test_failing_handler_is_reported(same_as_asyncio):
    async def scenario(loop):
        contexts = []
        loop.set_exception_handler(lambda _loop, context: contexts.append(context))
        writers = []

        async def fail(_reader, writer):
            writers.append(writer)
            raise LookupError("in the handler")

        server = await asyncio.start_server(fail, LOCALHOST, 0)
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await until(lambda: contexts)
        for each in (writer, *writers):
            await close(each)
        server.close()
        await server.wait_closed()
        return [(context["message"], context["exception"]) for context in contexts]

    assert same_as_asyncio(scenario).returned[0][0] == "Unhandled exception in client_connected_cb"


def test_plain_function_as_a_handler(loop, run):
    async def scenario():
        writers = []
        server = await asyncio.start_server(lambda _reader, writer: writers.append(writer), LOCALHOST, 0)
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await until(lambda: writers)
        for each in (writer, *writers):
            await close(each)
        server.close()
        await server.wait_closed()
        return [type(each) for each in writers]

    assert run(scenario()) == [asyncio.StreamWriter]


def test_cancelled_handler(same_as_asyncio):
    async def scenario(loop):
        tasks, writers = [], []

        async def wait_forever(reader, writer):
            tasks.append(asyncio.current_task())
            writers.append(writer)
            await reader.read()

        server = await asyncio.start_server(wait_forever, LOCALHOST, 0)
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        await until(lambda: tasks)
        tasks[0].cancel()
        await asyncio.wait(tasks)
        for each in (writer, *writers):
            await close(each)
        server.close()
        await server.wait_closed()
        return tasks[0].cancelled()

    assert same_as_asyncio(scenario).returned is True


def test_writer_tells_the_state_of_its_transport(same_as_asyncio):
    """StreamWriter's warning about forgotten streams relies on it."""

    async def scenario(loop):
        with tcp_pair() as (left, _right):
            _reader, writer = await asyncio.open_connection(sock=left)
            states = [writer.is_closing(), writer.transport.is_closing()]
            writer.close()
            states += [writer.is_closing(), writer.transport.is_closing()]
            await writer.wait_closed()
            return states

    assert same_as_asyncio(scenario).returned == [False, False, True, True]


def test_streams_under_a_runner(make_loop):
    async def main():
        async with Server(echo) as server:
            reader, writer = await server.connect()
            writer.write(b"hello\n")
            line = await reader.readline()
            await close(writer)
            return line

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(main()) == b"hello\n"


# -- what zloop feeds to a StreamReader by itself ----------------------------------------------------------------------


class FeedingReader(asyncio.StreamReader):
    """A reader of a class of its own, which sees what is fed."""

    def feed_data(self, data):
        super().feed_data(bytes(data).upper())


def replace_on_reader(reader, protocol, monkeypatch):
    plain = reader.feed_data
    reader.feed_data = lambda data: plain(bytes(data).upper())


def replace_on_protocol(reader, protocol, monkeypatch):
    protocol.data_received = lambda data: reader.feed_data(bytes(data).upper())


def replace_on_class(reader, protocol, monkeypatch):
    plain = asyncio.StreamReader.feed_data
    monkeypatch.setattr(asyncio.StreamReader, "feed_data", lambda self, data: plain(self, bytes(data).upper()))


@pytest.mark.parametrize("replace", [replace_on_reader, replace_on_protocol, replace_on_class])
def test_methods_that_were_replaced_are_called(loop, run, monkeypatch, replace):
    async def scenario():
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        with socket_pair() as (near, peer):
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, near)
            peer.send(b"first")
            assert await reader.readexactly(5) == b"first"
            replace(reader, protocol, monkeypatch)
            peer.send(b"second")
            assert await reader.readexactly(6) == b"SECOND"
            transport.abort()
            await several_turns()

    run(scenario())


def test_readers_of_other_classes_are_fed_by_their_own_method(loop, run):
    async def scenario():
        reader = FeedingReader(loop=loop)
        with socket_pair() as (near, peer):
            transport, _ = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), near
            )
            peer.send(b"data")
            assert await reader.readexactly(4) == b"DATA"
            transport.abort()
            await several_turns()

    run(scenario())


def test_a_buffer_that_is_being_looked_at(same_as_asyncio):
    """A reader's buffer cannot grow while a view of it exists: that ends the connection."""

    async def scenario(loop):
        reader = asyncio.StreamReader(loop=loop)
        with socket_pair() as (near, peer):
            await loop.connect_accepted_socket(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), near)
            peer.send(b"data")
            await until(lambda: bytes(reader._buffer) == b"data")
            with memoryview(reader._buffer):
                peer.send(b"more")
                outcome = await awaited_outcome(reader.readexactly(8))
            return outcome, bytes(reader._buffer)

    same_as_asyncio(scenario)


def test_a_reader_that_has_ended_takes_no_data(same_as_asyncio):
    async def scenario(loop):
        reader = asyncio.StreamReader(loop=loop)
        with socket_pair() as (near, peer):
            await loop.connect_accepted_socket(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), near)
            reader.feed_eof()
            peer.send(b"data")
            await until(lambda: reader.exception() is not None)
            return reader.exception()

    same_as_asyncio(scenario)


@pytest.mark.parametrize("size", [2 * 1000, 2 * 1000 + 1])
def test_a_full_reader_pauses_its_transport(same_as_asyncio, size):
    async def scenario(loop):
        reader = asyncio.StreamReader(limit=1000, loop=loop)
        with socket_pair() as (near, peer):
            transport, _ = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), near
            )
            peer.send(b"x" * size)
            await until(lambda: len(reader._buffer) == size)
            reading = transport.is_reading(), reader._paused
            await reader.readexactly(size - 500)
            outcome = reading, transport.is_reading(), reader._paused
            transport.abort()
            await several_turns()
            return outcome

    same_as_asyncio(scenario)


def test_a_transport_that_cannot_pause_is_forgotten(same_as_asyncio):
    async def scenario(loop):
        def refuse():
            raise NotImplementedError

        reader = asyncio.StreamReader(limit=10, loop=loop)
        with socket_pair() as (near, peer):
            transport, _ = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), near
            )
            await several_turns()
            transport.pause_reading = refuse
            peer.send(b"x" * 100)
            data = await reader.readexactly(100)
            outcome = data, reader._transport, reader._paused
            transport.abort()
            await several_turns()
            return outcome

    same_as_asyncio(scenario)
