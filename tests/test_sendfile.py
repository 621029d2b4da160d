"""loop.sendfile(): files to transports, by sendfile(2) and by reading and writing."""

import asyncio
import contextlib
import gc
import io
import socket

import pytest
from support import (
    Recorder,
    awaited_outcome,
    connection,
    descriptor_closed,
    drain,
    pattern,
    receive_all,
    receive_exactly,
    reset,
    several_turns,
    until,
)
from tls_support import tls_connection

BIG = 8 << 20
"""More bytes than the buffers of a connection hold."""

CONTENT = pattern(100_000)


@pytest.fixture
def file(tmp_path):
    """A file with CONTENT, open for reading."""
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        yield file


@pytest.fixture
def big_file(tmp_path):
    """A file with pattern(BIG), open for reading."""
    path = tmp_path / "big file"
    path.write_bytes(pattern(BIG))
    with path.open("rb") as file:
        yield file


class InMemory(io.BytesIO):
    """No descriptor, so sendfile has to fall back."""


def in_memory(file):
    with file:
        return InMemory(file.read())


KINDS = {"sendfile(2)": lambda file: file, "reading and writing": in_memory}


@pytest.fixture(params=KINDS)
def way(request, loop_kind):
    """Makes of a file one that is sent in this way."""
    if loop_kind == "asyncio" and request.param == "reading and writing":
        pytest.skip("asyncio reads on into a buffer that its transport may not have sent yet (seen on 3.15.2)")
    return KINDS[request.param]


@contextlib.asynccontextmanager
async def sending(loop, file, *args, protocol_factory=Recorder):
    """A sendfile() that waits for its peer to read: (task, transport, protocol, peer)."""
    async with connection(loop, protocol_factory, narrow=True) as (transport, protocol, peer):
        task = loop.create_task(loop.sendfile(transport, file, *args))
        await receive_exactly(loop, peer, 1)
        yield task, transport, protocol, peer
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


@pytest.mark.parametrize(
    ("args", "begin", "end"),
    [
        ((), 0, 100_000),
        ((0, 1), 0, 1),
        ((1000,), 1000, 100_000),
        ((1000, 100), 1000, 1100),
        ((0, 100_000), 0, 100_000),
        ((99_000, 5000), 99_000, 100_000),
    ],
    ids=repr,
)
def test_part_of_a_file(loop, run, file, way, args, begin, end):
    async def scenario(file):
        async with connection(loop) as (transport, _protocol, peer):
            count = await loop.sendfile(transport, file, *args)
            transport.close()
            return count, await receive_all(loop, peer), file.tell()

    with way(file) as source:
        assert run(scenario(source)) == (end - begin, CONTENT[begin:end], end)


def test_nothing_to_send(same_as_asyncio, tmp_path):
    (tmp_path / "empty").touch()

    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, peer):
            with open(tmp_path / "empty", "rb") as empty:
                counts = [await loop.sendfile(transport, empty), await loop.sendfile(transport, InMemory())]
            transport.close()
            return counts, await receive_all(loop, peer)

    assert same_as_asyncio(scenario).returned == ([0, 0], b"")


def test_what_is_written_comes_before_and_after(loop, run, file, way):
    """More of it than the kernel takes at once, so that it has to wait for its turn."""

    async def scenario(file):
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            transport.write(pattern(BIG))
            receiving = loop.create_task(receive_all(loop, peer))
            await loop.sendfile(transport, file)
            transport.write(b"the end")
            transport.close()
            return await receiving

    with way(file) as source:
        assert run(scenario(source)) == pattern(BIG) + CONTENT + b"the end"


def test_slow_reader_gets_it_all(loop, run, big_file, way):
    async def scenario(file):
        async with sending(loop, file) as (task, transport, _protocol, peer):
            received = await receive_exactly(loop, peer, BIG - 1)
            assert received == pattern(BIG)[1:]
            assert await task == BIG
            assert file.tell() == BIG
            transport.write(b"goes on")
            assert await receive_exactly(loop, peer, 7) == b"goes on"

    with way(big_file) as source:
        run(scenario(source))


def test_writing_is_refused_meanwhile(same_as_asyncio, big_file):
    async def scenario(loop):
        async with sending(loop, big_file) as (task, transport, _protocol, peer):
            with pytest.raises(RuntimeError, match=r"^unable to write; sendfile is in progress$"):
                transport.write(b"no")
            outcomes = []
            for write, data in ((transport.write, b""), (transport.writelines, [b"no"])):
                try:
                    outcomes.append(write(data))
                except RuntimeError as exc:
                    outcomes.append(str(exc))
            await receive_exactly(loop, peer, BIG - 1)
            await task
            return outcomes

    same_as_asyncio(scenario)


@pytest.mark.zloop_only  # asyncio leaves both in disorder
def test_second_sendfile_is_refused(loop, run, big_file, file):
    async def scenario():
        async with sending(loop, big_file) as (task, transport, _protocol, peer):
            assert await awaited_outcome(loop.sendfile(transport, file)) == (
                "raised",
                RuntimeError,
                "Empty waiter is already set",
            )
            assert await receive_exactly(loop, peer, BIG - 1) == pattern(BIG)[1:]
            assert await task == BIG

    run(scenario())


def test_reading_waits_and_goes_on(loop, run, big_file, way):
    async def scenario(file):
        async with sending(loop, file) as (task, transport, protocol, peer):
            peer.send(b"meanwhile")
            await several_turns()
            assert not transport.is_reading()
            assert protocol.received == b""
            await receive_exactly(loop, peer, BIG - 1)
            await task
            assert transport.is_reading()
            await protocol.until(lambda: protocol.received == b"meanwhile")

    with way(big_file) as source:
        run(scenario(source))


def test_paused_reading_stays_paused(loop, run, file, way):
    async def scenario(file):
        async with connection(loop) as (transport, _protocol, peer):
            transport.pause_reading()
            receiving = loop.create_task(receive_all(loop, peer))
            await loop.sendfile(transport, file)
            assert not transport.is_reading()
            transport.close()
            await receiving

    with way(file) as source:
        run(scenario(source))


def test_paused_protocol_is_resumed_afterwards(loop, run, file):
    """Reading and writing takes the protocol's place: what it has missed it is told in the end."""

    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.write(pattern(BIG))
            assert protocol.names() == ["connection_made", "pause_writing"]
            receiving = loop.create_task(receive_all(loop, peer))
            await loop.sendfile(transport, in_memory(file))
            assert transport.get_protocol() is protocol
            assert protocol.names() == ["connection_made", "pause_writing", "resume_writing"]
            transport.close()
            await receiving

    run(scenario())


# -- ends ----------------------------------------------------------------------------------------------------------


def test_peer_that_goes_away(loop, run, big_file, way):
    async def scenario(file):
        async with sending(loop, file) as (task, transport, protocol, peer):
            reset(peer)
            with pytest.raises(ConnectionError):
                await task
            assert 0 < file.tell() < BIG
            await protocol.until_called("connection_lost")
            assert transport.is_closing()

    with way(big_file) as source:
        run(scenario(source))


@pytest.mark.zloop_only  # asyncio's waits for ever, or ends in InvalidStateError
@pytest.mark.parametrize("method", ["close", "abort"])
def test_transport_ended_meanwhile(loop, run, big_file, way, method):
    async def scenario(file):
        async with sending(loop, file) as (task, transport, protocol, peer):
            getattr(transport, method)()
            receiving = loop.create_task(receive_all(loop, peer))
            with pytest.raises(ConnectionError):
                await task
            assert await protocol.until_called("connection_lost") is None
            assert 0 < file.tell() < BIG
            await receiving

    with way(big_file) as source:
        run(scenario(source))


@pytest.mark.zloop_only  # asyncio's transport refuses writes for ever
def test_cancelled_while_it_waits_for_what_was_written(loop, run, file):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            transport.write(pattern(BIG))
            task = loop.create_task(loop.sendfile(transport, file))
            await several_turns()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert file.tell() == 0
            transport.write(b"the end")
            transport.close()
            assert await receive_all(loop, peer) == pattern(BIG) + b"the end"

    run(scenario())


def test_cancelled_in_the_middle(loop, run, loop_kind, big_file, way):
    """The transport is of use again, and the file's position tells what was sent, or written."""

    async def scenario(file):
        async with sending(loop, file) as (task, transport, protocol, peer):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            sent = file.tell()
            transport.write(b"the end")
            transport.close()
            received = await receive_all(loop, peer)
            assert received.endswith(b"the end")
            assert received == pattern(BIG)[1 : len(received) - 6] + b"the end"
            return sent, len(received) - 6

    with way(big_file) as source:
        sent, arrived = run(scenario(source))
    if way is in_memory:
        assert 0 < sent <= arrived
    elif loop_kind == "zloop":  # asyncio leaves it where it was
        assert sent == arrived


def test_it_lives_while_only_the_kernel_knows_it(loop, run, big_file):
    async def send(peer, sock):
        transport, _protocol = await loop.create_connection(Recorder, sock=sock)
        count = await loop.sendfile(transport, big_file)
        transport.close()
        await until(lambda: descriptor_closed(transport))
        peer.done.set_result(count)

    async def scenario(left, right):
        class Peer:
            done = loop.create_future()

        right.setblocking(False)
        loop.create_task(send(Peer, left))
        received = await receive_exactly(loop, right, 1)
        for _ in range(3):
            gc.collect()
            await several_turns()
        received += await receive_all(loop, right)
        assert received == pattern(BIG)
        assert await Peer.done == BIG

    left, right = socket.socketpair()
    with left, right:
        run(scenario(left, right))


# -- arguments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "count"), [(-1, None), (1.5, None), (0, 0), (0, -1), (0, "1"), (None, 1)], ids=repr)
def test_arguments_that_make_no_sense(same_as_asyncio, file, offset, count):
    async def scenario(loop):
        async with connection(loop) as (transport, protocol, peer):
            outcome = await awaited_outcome(loop.sendfile(transport, file, offset, count))
            transport.write(b"still here")
            assert await receive_exactly(loop, peer, 10) == b"still here"
            peer.send(b"and here")
            await protocol.until(lambda: protocol.received == b"and here")
            return outcome

    assert same_as_asyncio(scenario).returned[1] in (ValueError, TypeError)


def test_text_file(same_as_asyncio, tmp_path):
    (tmp_path / "text").write_text("text")

    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            with open(tmp_path / "text") as text:
                return await awaited_outcome(loop.sendfile(transport, text))

    assert same_as_asyncio(scenario).returned[2] == "file should be opened in binary mode"


def test_file_that_needs_the_fallback_where_there_is_none(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, peer):
            outcome = await awaited_outcome(loop.sendfile(transport, InMemory(b"x"), fallback=False))
            transport.write(b"still here")
            assert await receive_exactly(loop, peer, 10) == b"still here"
            return outcome

    assert same_as_asyncio(scenario).returned == ("raised", asyncio.SendfileNotAvailableError, "not a regular file")


def test_transports_that_take_no_files(same_as_asyncio, file):
    class WithoutFlowControl(asyncio.Transport):
        _sendfile_compatible = asyncio.constants._SendfileMode.FALLBACK

        def is_closing(self):
            return False

    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, peer):
            transport.close()
            drain(peer)
            return [
                await awaited_outcome(loop.sendfile(transport, file)),
                await awaited_outcome(loop.sendfile(WithoutFlowControl(), file)),
                await awaited_outcome(loop.sendfile(WithoutFlowControl(), file, fallback=False)),
            ]

    same_as_asyncio(scenario)


def test_protocol_in_place_of_the_applications_is_called_by_nobody(same_as_asyncio):
    """While a file is read and written: it only waits for room."""

    async def scenario(loop):
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            sending = loop.create_task(loop.sendfile(transport, io.BytesIO(pattern(1 << 20))))
            await until(lambda: transport.get_protocol() is not protocol)
            between = transport.get_protocol()
            told = []
            for call in (
                lambda: between.connection_made(transport),
                lambda: between.data_received(b"x"),
                between.eof_received,
            ):
                with pytest.raises(RuntimeError) as caught:
                    call()
                told.append(str(caught.value))
            await receive_exactly(loop, peer, 1 << 20)
            return told, await sending, transport.get_protocol() is protocol

    assert same_as_asyncio(scenario).returned[1:] == (1 << 20, True)


def test_protocol_that_was_paused_before_a_file_is_read_and_written_is_resumed_behind_it(loop, run, tls):
    async def scenario():
        size = 0
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            accepted.transport.pause_reading()
            while not transport._protocol_paused:
                transport.write(bytes(1 << 20))
                size += 1 << 20
                await several_turns(20)  # the kernel takes what it can
            sending = loop.create_task(loop.sendfile(transport, io.BytesIO(b"file")))
            await several_turns()
            paused = protocol.names()[-1] == "pause_writing" and not sending.done()
            accepted.transport.resume_reading()
            assert await sending == 4
            await accepted.until(lambda: sum(len(call[1]) for call in accepted.calls[1:]) == size + 4)
            return paused, accepted.calls[-1][1][-4:], protocol.names()[-2:]

    assert run(scenario()) == (True, b"file", ["pause_writing", "resume_writing"])
