"""sock_recv() and its like while they wait: driven by hand, interrupted, refused by the kernel, left by their loop."""

import asyncio
import contextlib
import os
import socket

import pytest
from support import (
    LOCALHOST,
    alike,
    close_loop,
    listening_socket,
    outcome_of,
    refusing_port,
    run_script,
    several_turns,
    socket_pair,
    started,
    until,
)


class Moody(socket.socket):
    """Its recv() would block as often as `waits` says, and then raises what `failure` says."""

    waits = 1
    failure = None

    def recv(self, *args):
        if self.waits:
            self.waits -= 1
            raise BlockingIOError
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return super().recv(*args)


@contextlib.contextmanager
def moody_pair(failure=None):
    with socket_pair() as (left, right), Moody(left.family, left.type, left.proto, fileno=left.detach()) as ours:
        ours.setblocking(False)
        ours.failure = failure
        yield ours, right


@pytest.mark.parametrize("sent", [None, "anything"])
def test_is_resumed_with_whatever_is_sent(same_as_asyncio, sent):
    """As a future is: what wakes a coroutine does not say anything to it."""

    def scenario(loop):
        with socket_pair() as (left, right):
            coroutine = loop.sock_recv(left, 10)
            waiting = coroutine.send(None)
            loop.call_soon(right.send, b"bytes")
            loop.run_until_complete(waiting)
            with pytest.raises(StopIteration) as result:
                coroutine.send(sent)
            return result.value.value

    assert same_as_asyncio(scenario).returned == b"bytes"


def test_is_resumed_too_early(same_as_asyncio):
    def scenario(loop):
        with socket_pair() as (left, _right):
            coroutine = loop.sock_recv(left, 10)
            coroutine.send(None)
            outcome = outcome_of(lambda: coroutine.send(None))
            return outcome, loop.remove_reader(left)

    outcome, _was_watched = same_as_asyncio(scenario).returned
    assert outcome == ("raised", RuntimeError, "await wasn't used with future")


@pytest.mark.zloop_only
def test_says_what_it_waits_for(loop, run):
    async def scenario():
        with socket_pair() as (left, right):
            receiving = loop.sock_recv(left, 10)
            waiting = await started(loop, receiving)
            operation = receiving.cr_await
            assert iter(operation) is operation
            assert f"for {left!r}" in repr(operation)
            right.send(b"bytes")
            assert await waiting == b"bytes"

    run(scenario())


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_socket_that_leaves_the_loop(same_as_asyncio, exception):
    """The coroutine goes on waiting, and gets the bytes in the next run."""

    def scenario(loop):
        with moody_pair(exception("meant for the program")) as (ours, peer):
            receiving = loop.create_task(loop.sock_recv(ours, 10))
            peer.send(b"bytes")
            with pytest.raises(exception):
                loop.run_until_complete(receiving)
            assert not receiving.done()
            return loop.run_until_complete(receiving)

    assert same_as_asyncio(scenario).returned == b"bytes"


def test_socket_that_fails_after_a_wait(same_as_asyncio):
    def scenario(loop):
        with moody_pair(ValueError("of the socket's own")) as (ours, peer):
            peer.send(b"bytes")
            return loop.run_until_complete(loop.sock_recv(ours, 10))

    assert same_as_asyncio(scenario).raised is ValueError


def test_socket_that_is_ready_in_vain(same_as_asyncio):
    def scenario(loop):
        with moody_pair() as (ours, peer):
            ours.waits = 3
            peer.send(b"bytes")
            return loop.run_until_complete(loop.sock_recv(ours, 10))

    assert same_as_asyncio(scenario).returned == b"bytes"


def test_connecting_in_vain_with_a_class_of_ones_own(same_as_asyncio):
    """The attempt takes a wait to fail."""

    class Own(socket.socket):
        def connect(self, address):
            super().connect(address)

    def scenario(loop):
        with Own() as sock:
            sock.setblocking(False)
            loop.run_until_complete(loop.sock_connect(sock, (LOCALHOST, refusing_port())))

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is ConnectionRefusedError
    assert outcome.message == alike(f"[Errno 111] Connect call failed ('{LOCALHOST}', 40000)")


def test_cancelled_after_the_loop_is_closed(same_as_asyncio):
    """The coroutine is closed, with the operation that it waits for."""

    def scenario(loop):
        with socket_pair() as (left, _right):
            coroutine = loop.sock_recv(left, 10)
            coroutine.send(None)
            close_loop(loop)
            coroutine.close()
            return coroutine.cr_await

    assert same_as_asyncio(scenario).returned is None


@pytest.mark.zloop_only  # asyncio leaves the descriptor to the collector
def test_connection_that_cannot_be_made_an_object_is_closed(loop, run, monkeypatch):
    """sock_accept() with a class in socket.socket's place that refuses."""

    class Refusing(socket.socket):
        def setblocking(self, _flag):
            raise OSError("not this one")

    async def scenario():
        with listening_socket() as listening, socket.create_connection(listening.getsockname()) as client:
            monkeypatch.setattr(socket, "socket", Refusing)
            with pytest.raises(OSError, match="not this one"):
                await loop.sock_accept(listening)
            monkeypatch.undo()
            client.settimeout(5)
            assert client.recv(1) == b""

    run(scenario())


def test_cancelled_reader_is_removed_when_it_is_ready(same_as_asyncio):
    """By its handle, which does not unregister it, as libraries do that call asyncio's private methods."""

    async def scenario(loop):
        seen = []
        with socket_pair() as (left, right):
            handle = loop._add_reader(left, seen.append, "called")
            handle.cancel()
            right.send(b"bytes")
            await several_turns()
            return seen, loop.remove_reader(left)

    assert same_as_asyncio(scenario).returned == ([], False)


def test_writer_cancelled_by_its_handle_is_removed_when_it_is_ready(same_as_asyncio):
    async def scenario(loop):
        seen = []
        with socket_pair() as (left, _right):
            loop._add_writer(left, seen.append, "called").cancel()
            await several_turns()
            return seen, loop.remove_writer(left)

    assert same_as_asyncio(scenario).returned == ([], False)


def test_accepting_by_a_class_of_ones_own(same_as_asyncio):
    class Own(socket.socket):
        def accept(self):
            return super().accept()

    async def scenario(loop):
        with Own() as listening:
            listening.bind((LOCALHOST, 0))
            listening.listen()
            listening.setblocking(False)
            accepting = await started(loop, loop.sock_accept(listening))
            with socket.create_connection(listening.getsockname()) as client:
                accepted, address = await accepting
                with accepted:
                    return address == client.getsockname(), accepted.gettimeout()

    assert same_as_asyncio(scenario).returned == (True, 0.0)


def test_writes_of_all_kinds_after_the_loop_is_closed(loop_kind):
    """What the kernel takes is sent."""
    assert run_script(
        loop_kind,
        """
import asyncio, socket, warnings
warnings.simplefilter("ignore", ResourceWarning)
left, right = socket.socketpair()
left.setblocking(False)
loop = new_event_loop()
transport, protocol = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=left))
loop.close()
transport.write(b"bytes ")
transport.write(bytearray(b"array "))
transport.writelines([b"of ", bytearray(b"lines ")])
transport.writelines([memoryview(bytes(20000))])
print(len(right.recv(100000)))
left.close()
""",
    ) == ["20021"]


def test_due_timers_of_a_loop_that_one_of_them_closes(loop_kind):
    """Where _run_once() runs the loop, by hand. The others are dropped."""
    if loop_kind == "asyncio":
        pytest.skip("IndexError: pop from an empty deque")
    assert run_script(
        loop_kind,
        """
import time
loop = new_event_loop()
ran = []
def close():
    ran.append("close")
    loop.close()
loop.call_later(0, close)
for _ in range(3):
    loop.call_later(0, ran.append, "later")
time.sleep(0.01)
loop._run_once()
print(ran, loop.is_closed(), len(loop._scheduled))
""",
    ) == ["['close'] True 0"]


class CallingBack(socket.socket):
    """Its next recv() calls a function, and would block."""

    action = None

    def recv(self, *args):
        action, self.action = self.action, None
        if action is None:
            return super().recv(*args)
        action()
        raise BlockingIOError


@contextlib.contextmanager
def calling_back():
    """Two connected sockets, the first one of that class."""
    left, right = socket.socketpair()
    with CallingBack(fileno=left.detach()) as odd, right:
        odd.setblocking(False)
        yield odd, right


def test_reader_that_is_replaced_while_its_operation_tries_again(same_as_asyncio):
    """The operation waits for good, as any reader that is replaced."""

    async def scenario(loop):
        with calling_back() as (odd, peer):
            calls = []
            receiving = await started(loop, loop.sock_recv(odd, 10))
            odd.action = lambda: loop.add_reader(odd, calls.append, "called")
            peer.send(b"x")
            await until(lambda: calls)
            loop.remove_reader(odd)
            waits = not receiving.done()
            receiving.cancel()
            await several_turns()
            return waits, set(calls), receiving.cancelled(), odd.recv(10)

    assert same_as_asyncio(scenario).returned == (True, {"called"}, True, b"x")


@pytest.mark.zloop_only  # asyncio's waits for good
def test_descriptor_that_is_closed_while_an_operation_tries_again(loop, run):
    async def scenario():
        with calling_back() as (odd, peer):
            receiving = await started(loop, loop.sock_recv(odd, 10))
            odd.action = lambda: os.close(odd.fileno())
            peer.send(b"x")
            with pytest.raises(OSError, match="Bad file descriptor"):
                await receiving
            odd.detach()

    run(scenario())


def test_future_that_refuses_to_be_awaited(same_as_asyncio):
    class Refusing(asyncio.futures._PyFuture):
        @property
        def _asyncio_future_blocking(self):
            return False

        @_asyncio_future_blocking.setter
        def _asyncio_future_blocking(self, _value):
            raise ValueError("not this one")

    async def scenario(loop):
        with socket_pair() as (left, _right):
            loop.create_future = lambda: Refusing(loop=loop)
            try:
                await loop.sock_recv(left, 10)
            finally:
                loop.remove_reader(left)

    outcome = same_as_asyncio(scenario)
    assert (outcome.raised, outcome.message) == (ValueError, "not this one")


def test_socket_that_blocks_and_has_something(same_as_asyncio):
    """Outside of debug mode it is taken."""

    async def scenario(loop):
        left, right = socket.socketpair()
        with left, right:
            right.send(b"data")
            return await loop.sock_recv(left, 10), await loop.sock_sendall(left, b"answer"), right.recv(10)

    assert same_as_asyncio(scenario).returned == (b"data", None, b"answer")
