"""ZLOOP_ADAPTIVE_POLLING=0: every turn polls, as asyncio's do."""

import asyncio
import contextlib
import functools

import pytest
from support import several_turns, socket_pair

import zloop

EMPTY_POLLS_TO_SKIP = 64
"""After so many polls in a row that found nothing, a turn that has callbacks to run may skip its poll."""

BUSY_BATCH_MIN = 4
"""After a poll that found so many events, the next turn skips its poll."""


async def turns_until_read(loop, empty_turns):
    """How many turns after its bytes are sent a reader runs, when `empty_turns` turns before have found no event."""
    with socket_pair() as (read_end, write_end):
        received = []
        loop.add_reader(read_end, lambda: received.append(read_end.recv(100)))
        await several_turns(empty_turns)
        write_end.send(b"x")
        turns = 0
        while not received:
            turns += 1
            await asyncio.sleep(0)
        loop.remove_reader(read_end)
    return turns


async def turns_until_read_after_a_busy_batch(loop):
    """The same for bytes that a callback of a busy batch sends."""
    with contextlib.ExitStack() as stack:
        batch = [stack.enter_context(socket_pair()) for _ in range(BUSY_BATCH_MIN)]
        read_end, write_end = stack.enter_context(socket_pair())
        received = []
        sent = asyncio.Event()

        def send(sock):
            sock.recv(100)
            if not sent.is_set():
                write_end.send(b"x")
                sent.set()

        loop.add_reader(read_end, lambda: received.append(read_end.recv(100)))
        for sock, _ in batch:
            loop.add_reader(sock, send, sock)
        await several_turns()
        for _, peer in batch:
            peer.send(b"x")
        await sent.wait()
        turns = 0
        while not received:
            turns += 1
            await asyncio.sleep(0)
        for sock in [read_end, *(sock for sock, _ in batch)]:
            loop.remove_reader(sock)
    return turns


@pytest.mark.parametrize("empty_turns", [0, EMPTY_POLLS_TO_SKIP - 1, EMPTY_POLLS_TO_SKIP + 1, 4 * EMPTY_POLLS_TO_SKIP])
def test_without_adaptive_polling_an_event_is_seen_in_the_turn_in_which_asyncio_sees_it(
    same_as_asyncio, monkeypatch, empty_turns
):
    monkeypatch.setenv("ZLOOP_ADAPTIVE_POLLING", "0")
    same_as_asyncio(functools.partial(turns_until_read, empty_turns=empty_turns))


def test_without_adaptive_polling_a_busy_batch_delays_nothing(same_as_asyncio, monkeypatch):
    monkeypatch.setenv("ZLOOP_ADAPTIVE_POLLING", "0")
    same_as_asyncio(turns_until_read_after_a_busy_batch)


@pytest.mark.zloop_only
@pytest.mark.parametrize("value", ["", "1"])
def test_turns_skip_polls_after_many_empty_ones(monkeypatch, make_loop, value):
    monkeypatch.setenv("ZLOOP_ADAPTIVE_POLLING", value)
    loop = make_loop()

    async def latest():
        # How long turns last is the machine's to say: of so many attempts one runs within the longest gap of two polls,
        # and not just before the poll at its end.
        return max([await turns_until_read(loop, 2 * EMPTY_POLLS_TO_SKIP + attempt) for attempt in range(100)])

    assert loop.run_until_complete(latest()) > 2


@pytest.mark.zloop_only
@pytest.mark.parametrize("value", ["2", "off", "0 "])
def test_adaptive_polling_that_is_neither_on_nor_off_is_refused_when_a_loop_is_made(monkeypatch, value):
    monkeypatch.setenv("ZLOOP_ADAPTIVE_POLLING", value)
    with pytest.raises(ValueError, match=rf"^ZLOOP_ADAPTIVE_POLLING is '{value}' in the environment; it may be '1' "):
        zloop.new_event_loop()
    monkeypatch.setenv("ZLOOP_ADAPTIVE_POLLING", "0")
    zloop.new_event_loop().close()
