"""Datagrams beside tasks that never wait: what has arrived is passed on; how much at a time, and what stops it.

asyncio passes on one datagram in a turn, and loses what the kernel cannot hold.
"""

import asyncio
import contextlib
import socket
import sys
import time

import pytest
from support import LOCALHOST, descriptor_closed, run_bounded, several_turns, socket_pair, until

pytestmark = pytest.mark.zloop_only

MOST = 128 + 16
"""That many datagrams may be passed on in one turn: the limit, and what the last system call brought beyond it."""


class Collector(asyncio.DatagramProtocol):
    """Keeps what it is told; `react`, if set, is called after each datagram."""

    def __init__(self):
        self.received = []
        self.errors = []
        self.react = None

    def datagram_received(self, data, addr):
        self.received.append(data)
        if self.react is not None:
            self.react()

    def error_received(self, exc):
        self.errors.append(exc)


@contextlib.asynccontextmanager
async def endpoint(loop, **kwargs):
    """An endpoint and its protocol."""
    transport, protocol = await loop.create_datagram_endpoint(Collector, **(kwargs or {"local_addr": (LOCALHOST, 0)}))
    try:
        yield transport, protocol
    finally:
        transport.abort()
        await until(lambda: descriptor_closed(transport))


@contextlib.contextmanager
def sender_to(transport):
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.connect(transport.get_extra_info("sockname"))
        yield sender


async def warm_up(protocol, sender):
    """Receive until the transport asks for as many datagrams at a time as it ever does."""
    for _ in range(6):
        for _ in range(20):
            sender.send(b"")
        await until(lambda: len(protocol.received) == 20)
        protocol.received.clear()


async def be_busy(turns):
    while turns["go on"]:
        turns["count"] += 1
        await asyncio.sleep(0)


def test_nothing_is_lost_beside_a_busy_task(loop, run):
    async def scenario():
        turns = {"go on": True, "count": 0}
        async with endpoint(loop) as (transport, protocol), asyncio.TaskGroup() as group:
            group.create_task(be_busy(turns))
            with sender_to(transport) as sender:
                for number in range(5000):
                    sender.send(b"%d" % number)
                    if number % 64 == 63:
                        await asyncio.sleep(0)
                await until(lambda: protocol.received[-1:] == [b"4999"])
            turns["go on"] = False
        received = [int(data) for data in protocol.received]
        assert len(received) > 0.95 * 5000
        assert received == sorted(received)

    run(scenario())


def test_others_have_their_turn(loop, run):
    """A bounded number of datagrams is passed on in a turn, however many there are."""

    async def scenario():
        async with endpoint(loop) as (transport, protocol):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            with sender_to(transport) as sender:
                await warm_up(protocol, sender)
                for _ in range(250):
                    sender.send(b"")
                counts = []
                while len(protocol.received) < 250:
                    before = len(protocol.received)
                    await asyncio.sleep(0)
                    counts.append(len(protocol.received) - before)
                assert max(counts) <= MOST

    run(scenario())


def test_slow_datagrams_leave_others_their_turn(loop, run):
    """Where passing them on takes long, it is time that bounds them, beyond the half that is passed on in any case."""

    async def scenario():
        async with endpoint(loop) as (transport, protocol):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            with sender_to(transport) as sender:
                await warm_up(protocol, sender)
                protocol.react = lambda: time.sleep(0.0005)
                for _ in range(100):
                    sender.send(b"")
                counts = []
                while len(protocol.received) < 100:
                    before = len(protocol.received)
                    await asyncio.sleep(0)
                    counts.append(len(protocol.received) - before)
                assert max(counts) <= 64

    run(scenario())


def test_what_datagrams_schedule_runs_behind_those_that_came_with_them(loop, run):
    async def scenario():
        async with endpoint(loop) as (transport, protocol):
            with sender_to(transport) as sender:
                await warm_up(protocol, sender)
                protocol.react = lambda: loop.call_soon(protocol.received.append, "called")
                for _ in range(10):
                    sender.send(b"")
                await until(lambda: len(protocol.received) == 20)
                assert protocol.received == [b""] * 10 + ["called"] * 10

    run(scenario())


@pytest.mark.parametrize("how", ["close", "abort", "pause_reading"])
def test_what_stops_them_at_once(loop, run, how):
    async def scenario():
        async with endpoint(loop) as (transport, protocol):
            with sender_to(transport) as sender:
                await warm_up(protocol, sender)
                protocol.react = lambda: len(protocol.received) == 3 and getattr(transport, how)()
                for number in range(10):
                    sender.send(b"%d" % number)
                await until(lambda: len(protocol.received) == 3)
                await several_turns(10)
                assert protocol.received == [b"0", b"1", b"2"]
                transport.resume_reading()
                await several_turns(10)
                assert protocol.received == [b"%d" % number for number in range(10 if how == "pause_reading" else 3)]

    run(scenario())


def test_stop_of_the_loop_stops_them(loop):
    async def begin():
        transport, protocol = await loop.create_datagram_endpoint(Collector, local_addr=(LOCALHOST, 0))
        with sender_to(transport) as sender:
            await warm_up(protocol, sender)
            for number in range(10):
                sender.send(b"%d" % number)
        protocol.react = lambda: len(protocol.received) == 3 and loop.stop()
        return transport, protocol

    transport, protocol = run_bounded(loop, begin())
    if not protocol.received:
        loop.run_forever()
    assert protocol.received == [b"0", b"1", b"2"]
    run_bounded(loop, until(lambda: len(protocol.received) == 10))
    assert protocol.received == [b"%d" % number for number in range(10)]
    transport.close()
    run_bounded(loop, until(lambda: descriptor_closed(transport)))


# ---- datagrams of a connection


@pytest.mark.parametrize("data", [b"data", bytearray(b"data"), b""])
def test_peer_without_a_name_is_sent_to_without_an_address(loop, run, data):
    """Of a socketpair, whose ends have none. asyncio asks for an address."""

    async def scenario():
        with socket_pair(socket.SOCK_DGRAM) as (left, right):
            async with endpoint(loop, sock=left.dup()) as (transport, protocol):
                transport.sendto(b"first")
                transport.sendto(data)
                transport.sendto(b"last", None)
                received = [right.recv(100) for _ in range(2 if not data and sys.version_info < (3, 13) else 3)]
                assert b"".join(received) == b"first" + data + b"last"
                right.send(b"answer")
                await until(lambda: protocol.received == [b"answer"])
                assert not protocol.errors

    run(scenario())


def test_peer_without_a_name_that_reads_slowly_loses_nothing(loop, run):
    async def scenario():
        with socket_pair(socket.SOCK_DGRAM) as (left, right):
            async with endpoint(loop, sock=left.dup()) as (transport, _protocol):
                for number in range(1000):
                    transport.sendto(b"%d" % number)
                for number in range(1000):
                    assert await loop.sock_recv(right, 100) == b"%d" % number

    run(scenario())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="endpoints of other kinds of sockets came with 3.13")
@pytest.mark.parametrize("last", [[], [b""], [b"", b"x"], [b"x", b""]])
def test_end_of_a_connection_with_boundaries_is_told_once(loop, run, last):
    """With asyncio, empty messages come without end."""

    async def scenario():
        with socket_pair(socket.SOCK_SEQPACKET) as (left, right):
            async with endpoint(loop, sock=left.dup()) as (transport, protocol):
                messages = [b"%d" % number for number in range(20)] + last
                for message in messages:
                    right.send(message)
                right.close()
                await until(lambda: protocol.received[-1:] == [b""])
                await several_turns(10)
                expected = messages if messages[-1] == b"" else [*messages, b""]
                assert protocol.received == expected
                transport.pause_reading()
                transport.resume_reading()
                await several_turns(10)
                assert protocol.received == expected
                transport.sendto(b"nobody")
                await until(lambda: protocol.errors)
                assert not transport.is_closing()

    run(scenario())
