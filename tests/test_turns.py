"""The order within a turn: what was ready, what the poller told, due timers. What they schedule comes later."""

import asyncio
import contextlib
import functools
import time

import pytest
from support import Recorder, several_turns, socket_pair


class Teller(asyncio.Protocol):
    """Puts down what it is told, and what it schedules then."""

    def __init__(self, loop, order):
        self.loop = loop
        self.order = order

    def data_received(self, data):
        self.order.append("protocol")
        self.loop.call_soon(self.order.append, "after protocol")


async def put_down(loop, script):
    """Run script(order, write) as a callback and return the order of what followed.

    write() makes a reader's socket and then a transport's readable; both put themselves down, and schedule something.
    """
    order = []

    def read():
        order.append("reader")
        read_end.recv(100)
        loop.call_soon(order.append, "after reader")

    def write():
        write_end.send(b"to the reader")
        peer.send(b"to the protocol")

    with socket_pair() as (read_end, write_end), socket_pair() as (near, peer):
        transport, _protocol = await loop.connect_accepted_socket(lambda: Teller(loop, order), near)
        loop.add_reader(read_end, read)
        await several_turns()
        loop.call_soon(script, order, write)
        await several_turns(8)
        loop.remove_reader(read_end)
        transport.abort()
        await several_turns()
    return order


def test_what_was_ready_comes_before_what_the_poller_tells(same_as_asyncio):
    def script(loop, order, write):
        def second():
            order.append("second")
            loop.call_soon(order.append, "third")

        write()
        loop.call_soon(second)

    async def scenario(loop):
        return await put_down(loop, lambda order, write: script(loop, order, write))

    same_as_asyncio(scenario)


def test_timers_come_after_what_the_poller_tells(same_as_asyncio):
    def script(loop, order, write):
        def timer():
            order.append("timer")
            loop.call_soon(order.append, "after timer")

        write()
        loop.call_later(0, timer)
        loop.call_soon(order.append, "soon")

    async def scenario(loop):
        return await put_down(loop, lambda order, write: script(loop, order, write))

    same_as_asyncio(scenario)


def test_what_a_callback_causes_waits_for_the_next_poll(same_as_asyncio):
    def script(loop, order, write):
        def chain(left):
            order.append(left)
            if left == 3:
                write()
            if left:
                loop.call_soon(chain, left - 1)

        chain(5)

    async def scenario(loop):
        return await put_down(loop, lambda order, write: script(loop, order, write))

    same_as_asyncio(scenario)


def test_a_reader_set_anew_is_not_told_of_what_the_old_one_was_to_be(same_as_asyncio):
    async def scenario(loop):
        told = []
        with socket_pair() as (read_end, write_end):

            def replace():
                read_end.recv(100)
                loop.add_reader(read_end, told.append, "new")

            loop.add_reader(read_end, told.append, "old")
            await several_turns()
            write_end.send(b"x")
            loop.call_soon(replace)
            await several_turns()
            loop.remove_reader(read_end)
        return told

    same_as_asyncio(scenario)


def test_a_transport_paused_and_resumed_by_a_callback(same_as_asyncio):
    async def scenario(loop):
        with socket_pair() as (near, peer):
            transport, protocol = await loop.connect_accepted_socket(Recorder, near)
            await several_turns()
            peer.send(b"x")
            loop.call_soon(lambda: (transport.pause_reading(), transport.resume_reading()))
            await several_turns()
            transport.abort()
            await several_turns()
            return protocol.events

    same_as_asyncio(scenario)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_an_exception_that_leaves_the_loop_leaves_the_rest_queued(same_as_asyncio, exception):
    def scenario(loop):
        order = []

        def leave():
            order.append("leaving")
            raise exception

        def start():
            loop.call_later(0, order.append, "timer")
            loop.call_soon(leave)
            loop.call_soon(order.append, "next")

        loop.call_soon(start)
        with pytest.raises(exception):
            loop.run_forever()
        order.append("left")
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        return order

    same_as_asyncio(scenario)


MANY_TURNS = 300
"""After so many turns without an event, zloop does not ask the poller in every turn."""

MOST_TURNS_LATE = 64


class Reader:
    """A reader that puts down the turn in which its socket was found to be readable."""

    def __init__(self, loop, sock, turns):
        self.sock = sock
        self.turns = turns
        self.told = None
        loop.add_reader(sock, self.read)

    def read(self):
        self.sock.recv(100)
        self.told = len(self.turns)


def take_a_millisecond():
    ends = time.perf_counter() + 1e-3
    while time.perf_counter() < ends:
        pass


def test_an_event_amid_many_turns_is_told_soon(loop, run):
    async def scenario():
        turns = []
        with socket_pair() as (read_end, write_end):
            reader = Reader(loop, read_end, turns)
            for _ in range(3):
                await several_turns(MANY_TURNS)
                del turns[:]
                reader.told = None
                write_end.send(b"x")
                while reader.told is None:
                    turns.append(None)
                    await asyncio.sleep(0)
                assert reader.told <= MOST_TURNS_LATE + 2  # of which the first two are asyncio's
            loop.remove_reader(read_end)

    run(scenario())


def test_slow_callbacks_do_not_keep_an_event_waiting(same_as_asyncio):
    async def scenario(loop):
        turns = []
        with socket_pair() as (read_end, write_end):
            reader = Reader(loop, read_end, turns)
            await several_turns(MANY_TURNS)
            for _ in range(3):
                turns.append(None)
                take_a_millisecond()
                if len(turns) == 1:
                    write_end.send(b"x")
                await asyncio.sleep(0)
            loop.remove_reader(read_end)
        return reader.told

    assert same_as_asyncio(scenario).returned == 2  # callbacks that were ready come first


def test_a_new_reader_is_told_at_once_after_many_turns(same_as_asyncio):
    async def scenario(loop):
        turns = []
        with socket_pair() as (read_end, write_end), socket_pair() as (other_end, _):
            loop.add_reader(other_end, turns.append, None)
            await several_turns(MANY_TURNS)
            reader = Reader(loop, read_end, turns)
            write_end.send(b"x")
            for _ in range(3):
                turns.append(None)
                await asyncio.sleep(0)
            loop.remove_reader(read_end)
            loop.remove_reader(other_end)
        return reader.told

    same_as_asyncio(scenario)


def test_a_loop_that_begins_to_run_polls_in_its_first_turn(same_as_asyncio):
    def scenario(loop):
        with socket_pair() as (read_end, write_end):
            reader = Reader(loop, read_end, [])
            loop.run_until_complete(several_turns(MANY_TURNS))
            write_end.send(b"x")
            loop.call_soon(loop.stop)
            loop.run_forever()
            loop.remove_reader(read_end)
        return reader.told

    assert same_as_asyncio(scenario).returned == 0


MANY_EVENTS = 4
"""After so many events at once, zloop does not ask the poller in the next turn."""


async def turns_until_told(loop, events, callback=lambda: None):
    """How many turns after `events` readers one is told whose bytes are sent by the first of them.

    `callback` is called in each turn.
    """
    turns = []
    with contextlib.ExitStack() as stack:
        (first, wakes_first), *others = [stack.enter_context(socket_pair()) for _ in range(events)]
        read_end, write_end = stack.enter_context(socket_pair())
        reader = Reader(loop, read_end, turns)
        sent_in = []

        def read_and_send():
            first.recv(100)
            sent_in.append(len(turns))
            write_end.send(b"x")

        loop.add_reader(first, read_and_send)
        for end, _ in others:
            Reader(loop, end, turns)
        await several_turns()  # what is watched anew is looked for at once
        for end in [wakes_first, *(end for _, end in others)]:
            end.send(b"x")
        while reader.told is None:
            turns.append(None)
            callback()
            await asyncio.sleep(0)
        for end in [first, read_end, *(end for end, _ in others)]:
            loop.remove_reader(end)
    return reader.told - sent_in[0]


def test_an_event_behind_a_few_is_told_in_the_next_turn(same_as_asyncio):
    assert same_as_asyncio(functools.partial(turns_until_told, events=MANY_EVENTS - 1)).returned == 1


def test_an_event_behind_many_is_told_a_turn_later_at_most(loop, run):
    assert run(turns_until_told(loop, MANY_EVENTS)) <= 2


def test_an_event_behind_many_does_not_wait_for_slow_callbacks(same_as_asyncio):
    scenario = functools.partial(turns_until_told, events=MANY_EVENTS, callback=take_a_millisecond)
    assert same_as_asyncio(scenario).returned == 1
