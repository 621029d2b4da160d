"""sock_sendfile: files of every kind, offsets and counts, the fallback, and what is refused."""

import asyncio
import io
import os
import socket
import sys

import pytest
from support import (
    awaited_outcome,
    pattern,
    receive_all,
    receive_exactly,
    reset,
    socket_pair,
    started,
    tcp_pair,
    udp_socket,
)

BIG = 4 << 20
"""More bytes than the buffers of any socket here hold."""


# -- sock_sendfile -------------------------------------------------------------------------------------------------

FILE_SIZE = 300_000


@pytest.fixture
def file(tmp_path):
    """A file of FILE_SIZE bytes of pattern(), open for reading."""
    path = tmp_path / "file"
    path.write_bytes(pattern(FILE_SIZE))
    with path.open("rb") as opened:
        yield opened


class SlowlyReadFile(io.BytesIO):
    """No descriptor, so sendfile has to fall back."""

    def fileno(self):
        raise io.UnsupportedOperation("no descriptor")


RANGES = {
    "everything": (0, None),
    "from an offset": (1234, None),
    "a count": (0, 5000),
    "offset and count": (250_001, 12_345),
    "more than there is": (299_000, 1_000_000),
    "beyond the end": (FILE_SIZE + 10, None),
    "one byte": (7, 1),
}


async def send_and_receive(loop, file, *args, **kwargs):
    """Send a file over a connection; return what sock_sendfile returned, and what arrived."""
    with tcp_pair() as (left, right):

        async def send():
            count = await loop.sock_sendfile(left, file, *args, **kwargs)
            left.shutdown(socket.SHUT_WR)
            return count

        return await asyncio.gather(send(), receive_all(loop, right))


@pytest.mark.parametrize("kind", ["native", "fallback"])
@pytest.mark.parametrize("part", RANGES)
def test_sending_a_file(loop, run, file, kind, part):
    offset, count = RANGES[part]
    source = file if kind == "native" else SlowlyReadFile(pattern(FILE_SIZE))
    sent, received = run(send_and_receive(loop, source, offset, count))
    expected = pattern(FILE_SIZE)[offset:][:count]
    assert received == expected
    assert sent == len(expected)


@pytest.mark.parametrize("kind", ["native", "fallback"])
@pytest.mark.parametrize("part", RANGES)
def test_position_of_the_file_afterwards(same_as_asyncio, tmp_path, kind, part):
    path = tmp_path / "file"
    path.write_bytes(pattern(FILE_SIZE))

    async def scenario(loop):
        offset, _count = RANGES[part]
        with path.open("rb") if kind == "native" else SlowlyReadFile(pattern(FILE_SIZE)) as source:
            source.seek(offset and 17)  # with an offset of 0 older fallbacks start where the file stands
            await send_and_receive(loop, source, *RANGES[part])
            return source.tell()

    assert same_as_asyncio(scenario).raised is None


def test_native_sendfile_is_used_where_fallback_is_not_allowed(loop, run, file):
    sent, received = run(send_and_receive(loop, file, fallback=False))
    assert received == pattern(FILE_SIZE)
    assert sent == FILE_SIZE


def test_empty_file(loop, run, tmp_path):
    path = tmp_path / "empty"
    path.touch()
    with path.open("rb") as empty:
        assert run(send_and_receive(loop, empty)) == [0, b""]
    assert run(send_and_receive(loop, SlowlyReadFile())) == [0, b""]


def test_sendfile_is_not_taken_for_a_blocking_call(loop, run, file, monkeypatch):
    """What looks for such calls replaces os.sendfile(), and lets asyncio's own loops call it."""
    sendfile = os.sendfile

    def guarded(*args):
        assert sys._getframe(1).f_code.co_filename == asyncio.unix_events.__file__
        return sendfile(*args)

    monkeypatch.setattr(os, "sendfile", guarded)
    assert run(send_and_receive(loop, file)) == [FILE_SIZE, pattern(FILE_SIZE)]


def test_fallback_that_is_not_allowed(same_as_asyncio):
    async def scenario(loop):
        with tcp_pair() as (left, _right):
            return (await awaited_outcome(loop.sock_sendfile(left, SlowlyReadFile(b"x"), fallback=False)))[:2]

    assert same_as_asyncio(scenario).returned[1] is asyncio.SendfileNotAvailableError


@pytest.mark.parametrize(
    ("offset", "count"),
    [(-1, None), (1.5, None), ("0", None), (None, None), (0, 0), (0, -1), (0, 1.5), (0, "1")],
    ids=repr,
)
def test_ranges_that_make_no_sense(same_as_asyncio, file, offset, count):
    async def scenario(loop):
        with tcp_pair() as (left, _right):
            return await awaited_outcome(loop.sock_sendfile(left, file, offset, count))

    assert same_as_asyncio(scenario).returned[1] in (TypeError, ValueError)


def test_files_and_sockets_that_make_no_sense(same_as_asyncio, tmp_path):
    path = tmp_path / "file"
    path.write_text("text")

    async def scenario(loop):
        with tcp_pair() as (left, _right), udp_socket() as datagrams, path.open() as text, path.open("rb") as binary:
            return [
                await awaited_outcome(loop.sock_sendfile(left, text)),
                await awaited_outcome(loop.sock_sendfile(datagrams, binary)),
            ]

    assert {outcome[1] for outcome in same_as_asyncio(scenario).returned} == {ValueError}


def test_sendfile_to_a_slow_reader(loop, run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pattern(BIG))

    async def scenario(left, right):
        with path.open("rb") as big:
            task = await started(loop, loop.sock_sendfile(left, big))
            received = await receive_exactly(loop, right, BIG)
            return await task, received == pattern(BIG)

    with tcp_pair() as (left, right):
        assert run(scenario(left, right)) == (BIG, True)


@pytest.mark.parametrize("kind", ["native", "fallback"])
def test_sendfile_to_a_peer_that_goes_away(loop, run, tmp_path, kind):
    path = tmp_path / "file"
    path.write_bytes(b"x" * BIG * 2)

    async def scenario(left, right):
        with path.open("rb") if kind == "native" else SlowlyReadFile(b"x" * BIG * 2) as big:
            task = await started(loop, loop.sock_sendfile(left, big))
            reset(right)
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await task

    with tcp_pair() as (left, right):
        run(scenario(left, right))


@pytest.mark.parametrize("kind", ["native", "fallback"])
def test_cancelled_sendfile(loop, run, tmp_path, kind):
    path = tmp_path / "file"
    path.write_bytes(b"x" * BIG * 2)

    async def scenario(left, right):
        with path.open("rb") if kind == "native" else SlowlyReadFile(b"x" * BIG * 2) as big:
            task = await started(loop, loop.sock_sendfile(left, big))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert loop.remove_writer(left) is False
        with pytest.raises(TimeoutError):  # nothing of the file comes any more once what was sent is read
            async with asyncio.timeout(0.05):
                while True:
                    await loop.sock_recv(right, 1 << 20)

    with tcp_pair() as (left, right):
        run(scenario(left, right))


def test_a_file_of_the_wrong_kind(same_as_asyncio):
    async def scenario(loop):
        with socket_pair() as (left, _right):
            return [(await awaited_outcome(loop.sock_sendfile(left, thing)))[:2] for thing in (None, "text", 42)]

    assert {outcome[0] for outcome in same_as_asyncio(scenario).returned} == {"raised"}
