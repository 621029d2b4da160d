"""Garbage: whatever hangs off a loop, in containers of any language, is seen and freed by the collector."""

import asyncio
import concurrent.futures
import contextvars
import gc
import socket
import sys
import warnings
import weakref

import pytest
from support import (
    FREE_THREADED,
    LOCALHOST,
    Recorder,
    alike,
    connection,
    info_of,
    new_loop,
    resource_warnings,
    run_bounded,
    run_script,
    several_turns,
    socket_pair,
    until,
)


class Owner:
    """Refers to a loop, and is referred to by what it schedules there: a cycle."""

    def __init__(self, loop, *more):
        self.loop = loop
        self.more = more

    def callback(self, *args):
        pass


def schedule_soon(owner, _sock):
    owner.handle = owner.loop.call_soon(owner.callback, owner)


def schedule_later(owner, _sock):
    owner.handle = owner.loop.call_later(3600, owner.callback, 1, 2, 3, 4, 5, owner)


def schedule_cancelled(owner, _sock):
    owner.handle = owner.loop.call_later(3600, owner.callback, owner)
    owner.handle.cancel()


def schedule_from_threads(owner, _sock):
    owner.handle = owner.loop.call_soon_threadsafe(owner.callback, owner)


def schedule_with_context(owner, _sock):
    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    context.run(variable.set, owner)
    owner.handle = owner.loop.call_soon(owner.callback, context=context)


def read_and_write(owner, sock):
    owner.loop.add_reader(sock, owner.callback, owner)
    owner.loop.add_writer(sock, owner.callback, owner)


def handle_exceptions(owner, _sock):
    owner.loop.set_exception_handler(owner.callback)


def make_tasks(owner, _sock):
    owner.loop.set_task_factory(owner.callback)


def wait_for_future(owner, _sock):
    owner.future = owner.loop.create_future()
    owner.future.add_done_callback(owner.callback)


def set_attribute(owner, _sock):
    owner.loop.owner = owner


CYCLES = [
    schedule_soon,
    schedule_later,
    schedule_cancelled,
    schedule_from_threads,
    schedule_with_context,
    read_and_write,
    handle_exceptions,
    make_tasks,
    wait_for_future,
    set_attribute,
]


@pytest.mark.parametrize("tie", CYCLES)
def test_cycle_through_a_closed_loop_is_collected(loop_kind, tie):
    with socket_pair() as (left, _right):
        loop = new_loop(loop_kind)
        owner = Owner(loop)
        tie(owner, left)
        loop.close()
        references = [weakref.ref(owner), weakref.ref(loop)]
        del owner, loop
        gc.collect()
        assert [reference() for reference in references] == [None, None]


@pytest.mark.parametrize("tie", CYCLES)
def test_cycle_through_a_loop_that_nobody_closed_is_collected(loop_kind, tie):
    with socket_pair() as (left, _right):
        loop = new_loop(loop_kind)
        owner = Owner(loop)
        tie(owner, left)
        references = [weakref.ref(owner), weakref.ref(loop)]
        with resource_warnings() as texts:
            del owner, loop
        assert any("unclosed event loop" in text for text in texts)
        assert [reference() for reference in references] == [None, None]


def test_loop_that_nobody_closed_warns_and_gives_its_descriptors_back(loop_kind):
    loop = new_loop(loop_kind)
    loop.run_until_complete(asyncio.sleep(0))
    reference = weakref.ref(loop)
    told = info_of(loop)
    with resource_warnings() as texts:
        del loop
    (text,) = [text for text in texts if "unclosed event loop" in text]
    assert alike(text).endswith(told)
    assert reference() is None


def test_closed_loop_is_freed_without_a_word(loop_kind):
    loop = new_loop(loop_kind)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    reference = weakref.ref(loop)
    with resource_warnings() as texts:
        del loop
    assert texts == []
    assert reference() is None


def test_loop_can_be_referenced_weakly(loop):
    assert weakref.ref(loop)() is loop


@pytest.mark.parametrize("register", ["add_reader", "add_writer"])
def test_removed_or_replaced_watchers_free_their_callbacks(loop, register):
    remove = loop.remove_reader if register == "add_reader" else loop.remove_writer
    with socket_pair() as (left, _right):
        first, second = Owner(loop), Owner(loop)
        references = [weakref.ref(first), weakref.ref(second)]
        getattr(loop, register)(left, first.callback, first)
        getattr(loop, register)(left, second.callback)
        del first, second
        gc.collect()
        assert references[0]() is None
        assert references[1]() is not None
        remove(left)
        gc.collect()
        assert references[1]() is None


def test_protocol_is_freed_after_connection_lost(loop, run):
    async def scenario():
        async with connection(loop) as (transport, protocol, _peer):
            return [weakref.ref(transport), weakref.ref(protocol)]

    references = run(scenario())
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_transport_that_nobody_closed_warns_when_it_is_freed(loop, run):
    async def abandon():
        with socket.create_server((LOCALHOST, 0)) as listener:
            transport, _protocol = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
            peer, _address = listener.accept()
        transport.pause_reading()  # else the loop's interest in the socket keeps it alive
        return weakref.ref(transport), peer

    with resource_warnings() as texts:
        reference, peer = run(abandon())
    with peer:
        assert any("unclosed transport <" in text for text in texts)
        assert reference() is None
        assert peer.recv(1) == b""


def test_transport_of_a_closed_loop_warns_when_it_is_freed(loop_kind):
    loop = new_loop(loop_kind)
    made = []

    async def abandon(loop):
        with socket.create_server((LOCALHOST, 0)) as listener:
            made.extend(await loop.create_connection(Recorder, *listener.getsockname()))
            made.append(listener.accept()[0])

    run_bounded(loop, abandon(loop))
    loop.close()
    peer = made.pop()
    with peer:
        with resource_warnings() as texts:
            made.clear()
            del loop
        assert any("unclosed transport <" in text for text in texts)
        assert peer.recv(1) == b""


def test_cycle_through_a_transport_that_the_loop_keeps_is_collected(loop_kind):
    """Nobody but the loop holds a transport that reads, and the loop is held by the transport's protocol."""
    loop = new_loop(loop_kind)

    async def abandon(loop):
        with socket.create_server((LOCALHOST, 0)) as listener:
            protocol = Recorder()
            protocol.owner = Owner(loop)
            transport, _protocol = await loop.create_connection(lambda: protocol, *listener.getsockname())
            return weakref.ref(transport), weakref.ref(protocol), listener.accept()[0]

    *references, peer = run_bounded(loop, abandon(loop))
    with peer:
        gc.collect()
        assert None not in [reference() for reference in references]
        with resource_warnings() as texts:
            del loop
        assert any("unclosed event loop" in text for text in texts)
        assert any("unclosed transport <" in text for text in texts)
        assert [reference() for reference in references] == [None, None]
        assert peer.recv(1) == b""


def test_transport_that_still_has_to_write_is_collected_with_its_closed_loop(loop_kind):
    loop = new_loop(loop_kind)

    async def abandon(loop):
        with socket.create_server((LOCALHOST, 0)) as listener:
            transport, _protocol = await loop.create_connection(Recorder, *listener.getsockname())
            peer, _address = listener.accept()
        transport.write(bytes(1 << 25))  # more than the kernel takes
        assert transport.get_write_buffer_size() > 0
        return transport, peer

    transport, peer = run_bounded(loop, abandon(loop))
    loop.close()
    transport.pause_reading()  # makes the loop see whether it is to keep the transport
    references = [weakref.ref(transport), weakref.ref(loop)]
    with peer, resource_warnings():
        del loop, transport
    assert [reference() for reference in references] == [None, None]


def test_transports_of_a_loop_that_cannot_be_closed_are_collected(loop_kind, monkeypatch):
    """The collector takes the two apart in an order of its own."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    loop = new_loop(loop_kind)

    async def abandon(loop):
        with socket.create_server((LOCALHOST, 0)) as listener:
            protocol = Recorder()
            protocol.owner = Owner(loop)
            transport, _protocol = await loop.create_connection(lambda: protocol, *listener.getsockname())
            return weakref.ref(transport), weakref.ref(protocol), listener.accept()[0]

    *references, peer = run_bounded(loop, abandon(loop))
    with peer:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            del loop
            gc.collect()
        assert set(told) == {ResourceWarning}
        assert [reference() for reference in references] == [None, None]
        assert peer.recv(1) == b""


@pytest.mark.parametrize("accepted", [True, False])
def test_transport_whose_warning_is_an_error_lets_go_all_the_same(loop, run, monkeypatch, accepted):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))

    async def abandon():
        made = []

        class Pausing(asyncio.Protocol):
            def connection_made(self, transport):
                transport.pause_reading()  # else the loop's interest in the socket keeps it alive
                made.append(transport)

        server = await loop.create_server(Pausing if accepted else asyncio.Protocol, LOCALHOST, 0)
        address = server.sockets[0].getsockname()
        if accepted:
            peer = socket.create_connection(address)
        else:
            server.close()
            with socket.create_server((LOCALHOST, 0)) as listener:
                await loop.create_connection(Pausing, *listener.getsockname())
                peer, _address = listener.accept()
        with peer:
            await until(lambda: made)
            await several_turns()
            with warnings.catch_warnings():
                warnings.simplefilter("error", ResourceWarning)
                made.clear()
                gc.collect()
            peer.settimeout(10)
            assert peer.recv(1) == b""
        server.close()  # asyncio's own, until 3.12, counts such a connection for ever: not waited for

    run(abandon())
    assert set(told) == {ResourceWarning}


@pytest.mark.zloop_only  # asyncio leaves the socket to whoever else has it
@pytest.mark.parametrize("method", ["connect_read_pipe", "connect_write_pipe", "create_datagram_endpoint"])
def test_pipe_or_endpoint_whose_warning_is_an_error_lets_go_all_the_same(make_loop, monkeypatch, method):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_type))
    loop = make_loop()
    kind = socket.SOCK_DGRAM if "datagram" in method else socket.SOCK_STREAM
    sock, peer = socket.socketpair(socket.AF_UNIX, kind)
    sock.setblocking(False)
    what = {"sock": sock} if "datagram" in method else {"pipe": sock}
    with sock, peer:
        transport, _protocol = run_bounded(loop, getattr(loop, method)(asyncio.BaseProtocol, **what))
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            del transport, _protocol
            gc.collect()
        assert sock.fileno() == -1
    assert told == [ResourceWarning]


def test_server_that_nobody_closed(loop_kind):
    """Neither closing the loop nor forgetting the server goes unmentioned, and the descriptors are given back."""
    loop = new_loop(loop_kind)
    server = run_bounded(loop, loop.create_server(asyncio.Protocol, LOCALHOST, 0))
    reference = weakref.ref(server)
    loop.close()
    with resource_warnings() as texts:
        del server, loop
    assert any("unclosed" in text for text in texts)
    assert reference() is None


def test_collecting_while_everything_is_in_use(loop, forever):
    """The collector walks the containers in every state, also from inside callbacks."""
    ran = []

    def collect_and_note(number):
        gc.collect()
        ran.append(number)

    with socket_pair() as (left, right):
        right.send(b"x")
        loop.add_reader(left, lambda: (gc.collect(), loop.remove_reader(left), ran.append("reader")))
        for number in range(5):
            loop.call_soon(collect_and_note, number)
            loop.call_later(0, collect_and_note, number)
            loop.call_soon_threadsafe(collect_and_note, number)
        loop.call_later(0.01, loop.stop)
        gc.collect()
        forever()
    assert sorted(map(str, ran)) == sorted([*"000111222333444", "reader"])


def test_what_hangs_off_a_loop_is_visible(loop):
    owner = Owner(loop)
    loop.call_later(3600, owner.callback)
    handles = [thing for thing in gc.get_objects() if isinstance(thing, asyncio.TimerHandle)]
    assert any(gc.is_tracked(handle) and owner.callback in gc.get_referents(handle) for handle in handles)


def schedule_here(loop, callback):
    return loop.call_soon(callback)


def schedule_thread_safely(loop, callback):
    return loop.call_soon_threadsafe(callback)


def schedule_from_another_thread(loop, callback):
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(loop.call_soon_threadsafe, callback).result()


SCHEDULE = pytest.mark.parametrize("schedule", [schedule_here, schedule_thread_safely, schedule_from_another_thread])


class Holder:
    """In a cycle with the handle of its own method."""

    def __init__(self, loop, schedule, end):
        self.end = end
        self.handle = schedule(loop, self.callback)

    def callback(self):
        if self.end is not None:
            raise self.end


@SCHEDULE
@pytest.mark.zloop_only
@pytest.mark.skipif(FREE_THREADED, reason="without a GIL they stay tracked")
def test_handles_that_wait_are_no_work_for_the_collector(loop, run, schedule):
    async def scenario():
        handle = schedule(loop, int)
        waiting = gc.is_tracked(handle)
        await several_turns()
        return waiting, gc.is_tracked(handle)

    assert run(scenario()) == (False, True)


@SCHEDULE
@pytest.mark.parametrize("end", [None, ValueError], ids=["returns", "raises"])
@pytest.mark.parametrize("cancelled", [False, True], ids=["ran", "cancelled"])
def test_cycle_through_a_handle_that_had_its_turn_is_collected(loop, run, schedule, end, cancelled):
    async def scenario():
        holder = Holder(loop, schedule, end)
        reference = weakref.ref(holder)
        if cancelled:
            holder.handle.cancel()
        await several_turns()
        del holder
        gc.collect()
        return reference()

    loop.set_exception_handler(lambda *_arguments: None)
    assert run(scenario()) is None


def stop_and_leave_one_behind(loop, schedule, references):
    loop.stop()
    references.append(weakref.ref(Holder(loop, schedule, None)))


@SCHEDULE
def test_cycle_through_a_handle_that_still_waits_when_the_loop_stops_is_collected(loop_kind, schedule):
    """The loop is never closed, nor run again."""
    loop = new_loop(loop_kind)
    references = [weakref.ref(loop)]
    loop.call_soon(stop_and_leave_one_behind, loop, schedule, references)
    loop.run_forever()
    assert references[1]() is not None
    with resource_warnings() as texts:
        del loop
    assert any("unclosed event loop" in text for text in texts)
    assert [reference() for reference in references] == [None, None]


def test_collection_at_interpreter_exit_does_not_crash(loop_kind):
    source = """
import warnings
warnings.simplefilter("ignore")
import asyncio, sys

class Owner:
    def callback(self): pass

sys.owner = Owner()
sys.owner.loop = new_event_loop()
sys.owner.loop.call_later(3600, sys.owner.callback)
sys.owner.loop.call_soon(sys.owner.callback)
sys.owner.loop.call_soon_threadsafe(sys.owner.callback)
sys.owner.future = sys.owner.loop.create_future()
print("done")
"""
    assert run_script(loop_kind, source) == ["done"]
