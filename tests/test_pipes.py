"""Pipes: connect_read_pipe() and connect_write_pipe() over pipes, FIFOs, terminals, devices and sockets."""

import array
import asyncio
import contextlib
import contextvars
import os
import socket
import tty
import weakref

import pytest
from support import Recorder, info_of, outcome_of, pattern, resource_warnings, several_turns, until

BIG = 1 << 20
"""More bytes than a pipe holds."""


def has_terminals():
    """Whether the system can make pseudo-terminals: a bare chroot cannot."""
    try:
        ends = os.openpty()
    except OSError:
        return False
    for fd in ends:
        os.close(fd)
    return True


needs_terminals = pytest.mark.skipif(not has_terminals(), reason="there are no pseudo-terminals")


class WriteRecorder(Recorder):
    """A recorder for writing ends, which are told of neither data nor an end."""


@contextlib.contextmanager
def pipe_ends():
    """The two ends of a pipe as unbuffered files, closed in the end; the one a test keeps does not block."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    with open(reader, "rb", 0) as reader_file, open(writer, "wb", 0) as writer_file:
        yield reader_file, writer_file


def read_available(reader):
    """What a pipe holds now, as bytes; b"" also at its end."""
    received = bytearray()
    while chunk := reader.read(1 << 20):
        received += chunk
    return bytes(received)


async def read_until(reader, size):
    """Read from a raw pipe until that many bytes have come."""
    received = bytearray()

    def enough():
        received.extend(read_available(reader))
        return len(received) >= size

    await until(enough)
    return bytes(received)


@contextlib.asynccontextmanager
async def reading(loop, protocol_factory=Recorder):
    """A transport that reads a pipe: (transport, protocol, raw writing end)."""
    with pipe_ends() as (reader, writer):
        transport, protocol = await loop.connect_read_pipe(protocol_factory, reader)
        try:
            yield transport, protocol, writer
        finally:
            transport.close()
            await until(lambda: reader.closed)


@contextlib.asynccontextmanager
async def writing(loop, protocol_factory=WriteRecorder):
    """A transport that writes to a pipe: (transport, protocol, raw reading end)."""
    with pipe_ends() as (reader, writer):
        transport, protocol = await loop.connect_write_pipe(protocol_factory, writer)
        try:
            yield transport, protocol, reader
        finally:
            if not writer.closed and transport.get_protocol() is not None:
                transport.abort()
            await until(lambda: writer.closed)


# -- what the transports are ---------------------------------------------------------------------------------------


def test_kinds_of_transport(same_as_asyncio):
    async def scenario(loop):
        kinds = (asyncio.ReadTransport, asyncio.WriteTransport, asyncio.Transport)
        async with reading(loop) as (reader, _, _), writing(loop) as (writer, _, _):
            return [[isinstance(transport, kind) for kind in kinds] for transport in (reader, writer)]

    assert same_as_asyncio(scenario).returned == [[True, False, False], [True, True, True]]


def test_what_the_transports_tell(same_as_asyncio):
    async def scenario(loop):
        told = []
        with pipe_ends() as (reader, writer):
            read_transport, read_protocol = await loop.connect_read_pipe(Recorder, reader)
            write_transport, write_protocol = await loop.connect_write_pipe(WriteRecorder, writer)
            for transport, protocol, pipe in (
                (read_transport, read_protocol, reader),
                (write_transport, write_protocol, writer),
            ):
                transport.attribute = "anything"
                told += [
                    transport.get_extra_info("pipe") is pipe,
                    transport.get_extra_info("no such key", "default"),
                    transport.get_protocol() is protocol,
                    transport.is_closing(),
                    weakref.ref(transport)() is transport,
                    transport.attribute,
                    os.get_blocking(pipe.fileno()),
                ]
            told += [write_transport.can_write_eof(), read_transport.is_reading()]
            write_transport.close()
            await read_protocol.until_called("connection_lost")
            told += [read_transport.is_closing(), write_transport.is_closing(), reader.closed, writer.closed]
            told += [read_protocol.names(), write_protocol.names()]
        return told

    assert same_as_asyncio(scenario).raised is None


def test_repr(same_as_asyncio):
    async def scenario(loop):
        async with reading(loop) as (reader, protocol, peer):
            await several_turns()
            told = [info_of(reader)]
            reader.pause_reading()
            told.append(info_of(reader))
            peer.close()
            reader.resume_reading()
            await protocol.until_called("eof_received")
            told.append(info_of(reader))
            await protocol.until_called("connection_lost")
            await several_turns()
            told.append(info_of(reader))
        async with writing(loop) as (writer, protocol, _peer):
            told.append(info_of(writer))
            writer.write(bytes(BIG))
            told.append(info_of(writer).replace(str(writer.get_write_buffer_size()), "SIZE"))
            writer.close()
            told.append("closing" in repr(writer))
            writer.abort()
            await protocol.until_called("connection_lost")
            await several_turns()
            told.append(info_of(writer))
        return told

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_regular_file_is_refused(same_as_asyncio, tmp_path, method):
    """The file stays the caller's, open."""

    async def scenario(loop):
        path = tmp_path / "file"
        with path.open("w+b", 0) as file:
            with pytest.raises(ValueError, match="Pipe transport is") as caught:
                await getattr(loop, method)(Recorder, file)
            file.write(b"still open")
        return str(caught.value)

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.zloop_only
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_arguments_that_are_no_pipe(loop, run, method):
    """With asyncio the same is raised, and half a transport left behind that cannot be collected without complaint."""

    async def scenario():
        with pipe_ends() as (closed, _writer):
            closed.close()
            with pytest.raises(ValueError, match="closed file"):
                await getattr(loop, method)(Recorder, closed)
        for pipe in (object(), None):
            with pytest.raises(AttributeError, match="fileno"):
                await getattr(loop, method)(Recorder, pipe)

    run(scenario())


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_raising_factory_leaves_the_pipe_alone(loop, run, method):
    def factory():
        raise ZeroDivisionError

    with pipe_ends() as (reader, writer):
        pipe = reader if "read" in method else writer
        with pytest.raises(ZeroDivisionError):
            run(getattr(loop, method)(factory, pipe))
        assert not pipe.closed


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_cancelled_connect_closes_the_pipe(loop, run, method):
    async def scenario():
        with pipe_ends() as (reader, writer):
            pipe = reader if "read" in method else writer
            task = loop.create_task(getattr(loop, method)(Recorder, pipe))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: pipe.closed)

    run(scenario())


@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe"])
def test_unclosed_transport_warns(make_loop, method):
    loop = make_loop()
    with pipe_ends() as (reader, writer), resource_warnings() as texts:
        pipe = reader if "read" in method else writer
        transport, _protocol = loop.run_until_complete(getattr(loop, method)(asyncio.Protocol, pipe))
        loop.close()
        assert "open" in repr(transport)
        del transport, _protocol
    assert [text for text in texts if "unclosed transport" in text]
    assert pipe.closed


def test_transport_at_work_needs_no_holder(loop, run):
    """The loop keeps a transport that waits for its pipe, as asyncio's selector does."""

    async def scenario():
        with pipe_ends() as (reader, writer):
            _, protocol = await loop.connect_read_pipe(Recorder, reader)
            reference = weakref.ref(protocol)
            protocol.calls.clear()
            protocol.transport = None
            del protocol, _
            await several_turns()
            writer.write(b"hello")
            await until(lambda: reference().received)
            received = reference().received
            writer.close()
            await until(lambda: reader.closed)
            return received

    assert run(scenario()) == b"hello"


# -- reading -------------------------------------------------------------------------------------------------------


def test_reading_to_the_end(same_as_asyncio):
    async def scenario(loop):
        async with reading(loop) as (_transport, protocol, writer):
            writer.write(b"hello")
            await protocol.until(lambda: protocol.received == b"hello")
            writer.close()
            await protocol.until_called("connection_lost")
            return protocol.names(), protocol.calls[-1]

    assert same_as_asyncio(scenario).returned == (
        ["connection_made", "data_received", "eof_received", "connection_lost"],
        ("connection_lost", None),
    )


def test_much_data_arrives_whole(loop, run):
    whole = pattern(4 * BIG)

    async def scenario():
        with pipe_ends() as (reader, writer):
            _, source = await loop.connect_write_pipe(WriteRecorder, writer)
            _, sink = await loop.connect_read_pipe(Recorder, reader)
            source.transport.write(whole)
            source.transport.close()
            await sink.until_called("connection_lost")
            assert sink.received == whole

    run(scenario())


def test_pause_and_resume_reading(loop, run):
    async def scenario():
        async with reading(loop) as (transport, protocol, writer):
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            writer.write(b"hello")
            await several_turns()
            assert protocol.received == b""
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until(lambda: protocol.received == b"hello")

    run(scenario())


def test_pausing_in_connection_made(loop, run):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async def scenario():
        async with reading(loop, Paused) as (transport, protocol, writer):
            writer.write(b"hello")
            await several_turns()
            assert protocol.received == b""
            transport.resume_reading()
            await protocol.until(lambda: protocol.received == b"hello")

    run(scenario())


def test_closing_in_data_received(loop, run):
    class Closing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.close()
            self.transport.close()

    async def scenario():
        async with reading(loop, Closing) as (transport, protocol, writer):
            writer.write(b"one")
            await protocol.until_called("data_received")
            writer.write(b"two")
            assert transport.is_closing()
            await protocol.until_called("connection_lost")
            await several_turns()
            assert protocol.names() == ["connection_made", "data_received", "connection_lost"]
            transport.pause_reading()
            transport.resume_reading()
            transport.close()

    run(scenario())


def test_raising_data_received_is_reported_and_reading_goes_on(loop, run, unhandled):
    error = ZeroDivisionError()

    class Raising(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if data == b"one":
                raise error

    async def scenario():
        async with reading(loop, Raising) as (_transport, protocol, writer):
            writer.write(b"one")
            await protocol.until_called("data_received")
            writer.write(b"two")
            await protocol.until(lambda: protocol.received == b"onetwo")

    run(scenario())
    assert [context["exception"] for context in unhandled] == [error]
    assert "Exception in " in unhandled[0]["message"]


def test_exit_leaves_the_loop(loop, run):
    class Leaving(Recorder):
        def data_received(self, data):
            super().data_received(data)
            raise SystemExit(3)

    with pipe_ends() as (reader, writer):
        transport, protocol = run(loop.connect_read_pipe(Leaving, reader))
        writer.write(b"hello")
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert protocol.received == b"hello"
        transport.close()
        run(until(lambda: reader.closed))


def test_set_protocol(loop, run):
    async def scenario():
        async with reading(loop) as (transport, first, writer):
            second = Recorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            writer.write(b"hello")
            await second.until(lambda: second.received == b"hello")
            assert first.names() == ["connection_made"]

    run(scenario())


def test_callbacks_run_in_the_context_of_the_connect(loop, run):
    variable = contextvars.ContextVar("variable", default="outside")

    class Looking(Recorder):
        def note(self, name, *call):
            super().note(name, variable.get())

    async def scenario():
        variable.set("inside")
        async with reading(loop, Looking) as (_transport, protocol, writer):
            writer.write(b"hello")
            await protocol.until_called("data_received")
            writer.close()
            await protocol.until_called("connection_lost")
            return {value for _name, value in protocol.calls}

    assert run(scenario()) == {"inside"}


# -- writing -------------------------------------------------------------------------------------------------------


def test_write_goes_out_at_once(loop, run):
    """Who has written to a process may block on it next."""

    async def scenario():
        async with writing(loop) as (transport, _protocol, reader):
            transport.write(b"hello")
            assert reader.read(100) == b"hello"

    run(scenario())


@pytest.mark.parametrize("size", [10, BIG])
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_what_was_written_may_change_afterwards(loop, run, kind, size):
    whole = pattern(size)

    async def scenario():
        async with writing(loop) as (transport, _protocol, reader):
            source = bytearray(whole)
            transport.write(b"first")
            transport.write(kind(source))
            source[:] = bytes(size)
            assert await read_until(reader, size + 5) == b"first" + whole

    run(scenario())


@pytest.mark.zloop_only
def test_items_wider_than_a_byte_are_written_whole(loop, run):
    """A fault of asyncio: it compares the bytes that the kernel took with the number of items."""
    items = array.array("I", range(BIG // 4))

    async def scenario():
        async with writing(loop) as (transport, _protocol, reader):
            transport.write(memoryview(items))
            assert await read_until(reader, BIG) == items.tobytes()

    run(scenario())


def test_writes_of_every_kind_keep_their_order(loop, run):
    chunks = [pattern(200_000), b"small", bytearray(pattern(100_000)), memoryview(b"view"), b"", b"end"]

    async def scenario():
        async with writing(loop) as (transport, _protocol, reader):
            for chunk in chunks:
                transport.write(chunk)
            transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            expected = b"".join(chunks) + b"abc"
            assert await read_until(reader, len(expected)) == expected

    run(scenario())


def test_types_that_cannot_be_written(same_as_asyncio):
    async def scenario(loop):
        async with writing(loop) as (transport, protocol, _reader):
            outcomes = [outcome_of(transport.write, data) for data in ("text", None, 1, [b"list"])]
            return outcomes, transport.is_closing(), protocol.names()

    assert same_as_asyncio(scenario).returned[1:] == (False, ["connection_made"])


def test_write_of_a_view_with_holes_ends_the_connection(loop, run, unhandled):
    async def scenario():
        async with writing(loop) as (transport, protocol, _reader):
            transport.write(memoryview(b"abcdef")[::2])
            return await protocol.until_called("connection_lost")

    assert isinstance(run(scenario()), BufferError)
    assert [context["message"] for context in unhandled] == ["Fatal write error on pipe transport"]


def test_flow_control(loop, run):
    async def scenario():
        async with writing(loop) as (transport, protocol, reader):
            transport.write(bytes(BIG))
            size = transport.get_write_buffer_size()
            assert 0 < size < BIG
            assert protocol.names() == ["connection_made", "pause_writing"]
            transport.write(b"more")
            assert transport.get_write_buffer_size() == size + 4
            await read_until(reader, BIG + 4)
            await protocol.until_called("resume_writing")
            assert protocol.names() == ["connection_made", "pause_writing", "resume_writing"]
            assert transport.get_write_buffer_size() == 0

    run(scenario())


def test_write_buffer_limits(same_as_asyncio):
    async def scenario(loop):
        async with writing(loop) as (transport, _protocol, _reader):
            outcomes = [transport.get_write_buffer_limits()]
            for limits in ({"high": 100}, {"low": 10}, {"high": 5, "low": 6}, {"high": 0}, {"low": -1}, {}):
                outcomes.append(outcome_of(transport.set_write_buffer_limits, **limits))
                outcomes.append(transport.get_write_buffer_limits())
            return outcomes

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.parametrize("raising", ["pause_writing", "resume_writing"])
def test_raising_flow_control_is_reported(loop, run, unhandled, raising):
    class Raising(WriteRecorder):
        def note(self, name, *call):
            super().note(name, *call)
            if name == raising:
                raise ZeroDivisionError

    async def scenario():
        async with writing(loop, Raising) as (transport, protocol, reader):
            transport.write(bytes(BIG))
            await read_until(reader, BIG)
            await protocol.until_called("resume_writing")
            assert not transport.is_closing()

    run(scenario())
    assert [context["message"] for context in unhandled] == [f"protocol.{raising}() failed"]


@pytest.mark.parametrize("method", ["close", "write_eof"])
@pytest.mark.parametrize("size", [0, 10, BIG])
def test_close_sends_what_is_queued(loop, run, method, size):
    whole = pattern(size)

    async def scenario():
        async with writing(loop) as (transport, protocol, reader):
            transport.write(whole)
            getattr(transport, method)()
            getattr(transport, method)()
            assert transport.is_closing()
            assert await read_until(reader, size) == whole
            assert await protocol.until_called("connection_lost") is None
            await several_turns()
            assert protocol.names().count("connection_lost") == 1
            assert reader.read(1) == b""

    run(scenario())


def test_abort_drops_what_is_queued(loop, run):
    async def scenario():
        async with writing(loop) as (transport, protocol, reader):
            transport.write(bytes(BIG))
            transport.close()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert await protocol.until_called("connection_lost") is None
            await several_turns()
            assert protocol.names() == ["connection_made", "pause_writing", "connection_lost"]
            assert len(read_available(reader)) < BIG

    run(scenario())


def test_writes_after_close_are_dropped_with_a_warning(same_as_asyncio):
    async def scenario(loop):
        async with writing(loop) as (transport, protocol, reader):
            transport.close()
            for _ in range(7):
                transport.write(b"dropped")
            await protocol.until_called("connection_lost")
            return reader.read(1)

    outcome = same_as_asyncio(scenario)
    assert outcome.returned == b""
    assert len(outcome.logged) == 2


@pytest.mark.parametrize("queued", [False, True])
def test_reader_that_goes_ends_the_connection(same_as_asyncio, queued):
    async def scenario(loop):
        async with writing(loop) as (transport, protocol, reader):
            if queued:
                transport.write(bytes(BIG))
            reader.close()
            lost = await protocol.until_called("connection_lost")
            return type(lost), transport.is_closing(), protocol.names()[-1]

    expected = BrokenPipeError if queued else type(None)
    assert same_as_asyncio(scenario).returned == (expected, True, "connection_lost")


def test_write_that_fails_ends_the_connection(same_as_asyncio):
    async def scenario(loop):
        async with writing(loop) as (transport, protocol, reader):
            reader.close()
            transport.write(b"hello")  # before the loop has seen that nobody reads
            assert transport.is_closing()
            lost = await protocol.until_called("connection_lost")
            await several_turns()
            return type(lost), lost.errno, protocol.names()

    assert same_as_asyncio(scenario).returned[0] is BrokenPipeError


@pytest.mark.zloop_only
def test_closing_inside_each_callback(loop, run):
    """A fault of asyncio: it watches a pipe for its reader even if connection_made() has closed it."""

    class Closing(WriteRecorder):
        def __init__(self, where):
            super().__init__()
            self.where = where

        def note(self, name, *call):
            super().note(name, *call)
            if name == self.where:
                self.transport.abort()
                self.transport.close()

    async def scenario():
        for where in ("connection_made", "pause_writing", "resume_writing", "connection_lost"):
            async with writing(loop, lambda where=where: Closing(where)) as (transport, protocol, reader):
                transport.write(bytes(BIG))
                if where == "resume_writing":
                    await read_until(reader, BIG)
                elif where == "connection_lost":
                    reader.close()
                await protocol.until_called("connection_lost")
                await several_turns()
                assert protocol.names().count("connection_lost") == 1

    run(scenario())


def test_writing_after_the_loop_is_closed(make_loop):
    loop = make_loop()
    with pipe_ends() as (reader, writer), resource_warnings():
        transport, _protocol = loop.run_until_complete(loop.connect_write_pipe(asyncio.Protocol, writer))
        loop.close()
        transport.write(b"hello")
        assert reader.read(100) == b"hello"
        with pytest.raises(RuntimeError):
            transport.write(bytes(BIG))
        transport._pipe = None


# -- what a pipe can be --------------------------------------------------------------------------------------------


@pytest.mark.zloop_only  # asyncio takes what it wrote for the end, and drops what it has not written
def test_fifo_opened_both_ways_keeps_what_is_written(loop, run, tmp_path):
    async def scenario():
        path = tmp_path / "fifo"
        os.mkfifo(path)
        pipe = os.fdopen(os.open(path, os.O_RDWR | os.O_NONBLOCK), "wb", 0)
        transport, protocol = await loop.connect_write_pipe(Recorder, pipe)
        transport.write(b"first ")
        await several_turns(10)
        transport.write(b"second ")
        sent = pattern(256 * 1024)
        transport.write(sent)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        received = bytearray()
        while len(received) < len(sent) + 13:
            with contextlib.suppress(BlockingIOError):
                received += os.read(reader, 65536)
            await asyncio.sleep(0)
        os.close(reader)
        assert received == b"first second " + sent
        assert not transport.is_closing()
        transport.close()
        await protocol.until_called("connection_lost")

    run(scenario())


def test_fifo(loop, run, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def scenario():
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", 0) as reader, path.open("wb", 0) as writer:
            _, sink = await loop.connect_read_pipe(Recorder, reader)
            source, _ = await loop.connect_write_pipe(WriteRecorder, writer)
            source.write(b"hello")
            source.close()
            await sink.until_called("connection_lost")
            assert sink.received == b"hello"

    run(scenario())


def test_sockets(loop, run):
    async def scenario():
        left, right = socket.socketpair()
        with left, right:
            _, sink = await loop.connect_read_pipe(Recorder, left)
            source, _ = await loop.connect_write_pipe(WriteRecorder, right)
            source.write(b"hello")
            source.close()
            await sink.until_called("connection_lost")
            assert sink.received == b"hello"
            assert left.fileno() == right.fileno() == -1

    run(scenario())


def test_socket_whose_peer_sends_ends_the_writing_end(same_as_asyncio):
    """To asyncio, readiness to read means that the reader is gone; what has come is nobody's."""

    async def scenario(loop):
        left, right = socket.socketpair()
        with left, right:
            _, protocol = await loop.connect_write_pipe(WriteRecorder, left)
            right.send(b"unexpected")
            await protocol.until_called("connection_lost")
            return protocol.names(), protocol.calls[-1]

    assert same_as_asyncio(scenario).raised is None


@needs_terminals
def test_terminal_read_and_written_through_one_descriptor(loop, run):
    async def scenario():
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        with open(master, "r+b", 0) as terminal, open(slave, "r+b", 0) as both_ways:
            source, sink = Recorder(), Recorder()
            reader, _ = await loop.connect_read_pipe(lambda: sink, both_ways)
            writer, _ = await loop.connect_write_pipe(lambda: source, both_ways)
            terminal.write(b"in")
            await sink.until(lambda: sink.received == b"in")
            writer.write(b"out")
            assert await read_until(terminal, 3) == b"out"
            writer.close()
            await source.until_called("connection_lost")
            reader.close()
            await sink.until_called("connection_lost")

    run(scenario())


@needs_terminals
def test_terminal_that_hangs_up(same_as_asyncio):
    async def scenario(loop):
        master, slave = os.openpty()
        with open(master, "rb", 0) as terminal:
            _, protocol = await loop.connect_read_pipe(Recorder, terminal)
            os.close(slave)
            lost = await protocol.until_called("connection_lost")
            return protocol.names(), type(lost), lost.errno

    assert same_as_asyncio(scenario).raised is None


def test_device_that_cannot_be_watched_can_be_written(same_as_asyncio):
    async def scenario(loop):
        with open("/dev/null", "wb", 0) as device:
            transport, protocol = await loop.connect_write_pipe(WriteRecorder, device)
            transport.write(b"hello")
            size = transport.get_write_buffer_size()
            transport.close()
            await protocol.until_called("connection_lost")
            return size, protocol.names()

    assert same_as_asyncio(scenario).returned == (0, ["connection_made", "connection_lost"])


@pytest.mark.zloop_only
def test_readers_of_a_transports_pipe_are_refused(loop, run):
    """With asyncio they steal the transport's bytes."""

    async def scenario():
        async with reading(loop) as (transport, protocol, writer):
            fd = transport.get_extra_info("pipe").fileno()
            with pytest.raises(RuntimeError, match="in use"):
                loop.add_reader(fd, print)
            assert loop.remove_reader(fd) is False
            writer.write(b"hello")
            await protocol.until(lambda: protocol.received == b"hello")

    run(scenario())


def test_reader_set_before_gives_way(loop, run):
    async def scenario():
        with pipe_ends() as (reader, writer):
            stolen = []
            loop.add_reader(reader.fileno(), lambda: stolen.append(reader.read(100)))
            transport, protocol = await loop.connect_read_pipe(Recorder, reader)
            writer.write(b"hello")
            await protocol.until(lambda: protocol.received == b"hello")
            transport.close()
            await protocol.until_called("connection_lost")
            await until(lambda: reader.closed)
            assert stolen == []

    run(scenario())
