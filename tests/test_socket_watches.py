"""The sock_* coroutines beside readers, writers and transports of the same descriptor."""

import asyncio
import contextlib
import os
import socket
import weakref

import pytest
from support import (
    Recorder,
    listening_socket,
    pattern,
    receive_exactly,
    several_turns,
    socket_pair,
    started,
    until,
)

BIG = 4 << 20
"""More bytes than the buffers of any socket here hold."""


# -- who watches a number ------------------------------------------------------------------------------------------


async def receive_later(loop, sock, peer, data):
    """Receive data that is sent once the loop waits for it."""
    task = await started(loop, loop.sock_recv(sock, 100))
    peer.send(data)
    assert await task == data


@pytest.mark.parametrize("first_is_kept", [False, True], ids=["closed", "closed, and a duplicate open"])
def test_number_of_the_next_socket(loop, run, first_is_kept):
    """It is watched for its own events, whatever the loop remembers of the number; and for no others'."""

    async def scenario():
        with socket_pair() as (first, firsts_peer), socket_pair() as (second, seconds_peer):
            await receive_later(loop, first, firsts_peer, b"first")
            number, duplicate = first.fileno(), first.dup()
            with duplicate:
                if not first_is_kept:
                    duplicate.close()
                first.close()
                os.dup2(second.fileno(), number)
                with socket.socket(fileno=number) as successor:
                    successor.setblocking(False)
                    task = await started(loop, loop.sock_recv(successor, 100))
                    if first_is_kept:
                        firsts_peer.send(b"for nobody")
                        await several_turns()
                        assert not task.done()
                    seconds_peer.send(b"second")
                    assert await task == b"second"

    run(scenario())


def test_file_that_is_put_under_a_sockets_number(loop, run):
    """Without a word to the socket object."""

    async def scenario():
        with socket_pair() as (sock, before), socket_pair() as (other, after):
            await receive_later(loop, sock, before, b"before")
            os.dup2(other.fileno(), sock.fileno())
            await receive_later(loop, sock, after, b"after")

    run(scenario())


def test_number_of_an_accepted_connection(loop, run):
    """The loop knows the number from a socket that is closed, whose duplicate goes on."""

    async def scenario():
        with listening_socket() as listener:
            waiting = await started(loop, loop.sock_accept(listener))
            for content in (b"first", b"second", b"third"):
                with socket.create_connection(listener.getsockname()) as client:
                    accepted, _address = await waiting
                    with accepted:
                        await receive_later(loop, accepted, client, content)
                        waiting = await started(loop, loop.sock_accept(listener))
            waiting.cancel()

    run(scenario())


@pytest.mark.parametrize("heir", ["connection", "server", "reader", "pipe"])
def test_socket_that_is_put_to_another_use(loop, run, heir):
    async def scenario():
        with contextlib.ExitStack() as stack:
            if heir == "server":
                sock = stack.enter_context(listening_socket())
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(loop.sock_accept(sock), 0.001)
                async with await loop.create_server(Recorder, sock=sock):
                    _reader, writer = await asyncio.open_connection(*sock.getsockname())
                    writer.close()
                return
            sock, peer = stack.enter_context(socket_pair())
            await receive_later(loop, sock, peer, b"before")
            peer.send(b"after")
            if heir == "reader":
                received = loop.create_future()
                loop.add_reader(sock, lambda: received.set_result(sock.recv(10)) if not received.done() else None)
                assert await received == b"after"
                assert loop.remove_reader(sock) is True
                return
            if heir == "connection":
                transport, protocol = await loop.create_connection(Recorder, sock=sock)
            else:
                transport, protocol = await loop.connect_read_pipe(Recorder, sock)
            await protocol.until(lambda: protocol.received == b"after")
            transport.close()
            await protocol.until_called("connection_lost")

    run(scenario())


def test_reader_beside_a_waiting_send(loop, run):
    """The reader is called for as long as there is input; the send goes on by itself."""
    content = pattern(BIG)

    async def scenario(left, right):
        sender = loop.create_task(loop.sock_sendall(left, content))
        await several_turns()
        calls = []
        loop.add_reader(left, calls.append, True)
        right.send(b"stays")
        await until(lambda: len(calls) > 3)
        assert await receive_exactly(loop, right, BIG) == content
        await sender
        calls.clear()
        await until(lambda: len(calls) > 3)
        assert loop.remove_reader(left) is True
        assert loop.remove_writer(left) is False
        return await loop.sock_recv(left, 10)

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"stays"


def test_receive_is_displaced_by_a_reader(same_as_asyncio):
    async def scenario(loop):
        with socket_pair() as (left, right):
            task = await started(loop, loop.sock_recv(left, 10))
            received = loop.create_future()
            loop.add_reader(left, lambda: received.done() or received.set_result(left.recv(10)))
            right.send(b"for the reader")
            outcome = await received, task.done()
            task.cancel()
            await asyncio.wait([task])
            return *outcome, loop.remove_reader(left)

    assert same_as_asyncio(scenario).returned == (b"for the re", False, True)


def test_operations_survive_a_turn_that_ends_early(loop, forever):
    """Events of that turn were fetched, and are told again."""
    ended = []

    async def receive(sock):
        ended.append(await loop.sock_recv(sock, 10))

    def interrupt():
        raise KeyboardInterrupt

    with socket_pair() as (left, right), socket_pair() as (other, others_peer):
        tasks = [loop.create_task(receive(sock)) for sock in (left, other)]
        loop.call_soon(loop.stop)
        forever()
        right.send(b"one")
        others_peer.send(b"two")
        loop.call_soon(interrupt)
        with pytest.raises(KeyboardInterrupt):
            forever()
        assert ended == []
        loop.run_until_complete(asyncio.wait_for(asyncio.gather(*tasks), 10))
    assert sorted(ended) == [b"one", b"two"]


@pytest.mark.zloop_only  # asyncio goes on watching
def test_coroutine_that_is_closed_while_it_waits(loop, run):
    async def scenario(left, right):
        coroutine = loop.sock_recv(left, 10)
        coroutine.send(None)
        coroutine.close()
        assert loop.remove_reader(left) is False
        right.send(b"for the next")
        return await loop.sock_recv(left, 100)

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"for the next"


def test_socket_is_let_go_with_its_operation(loop, run):
    async def scenario():
        with socket_pair() as (left, right):
            await receive_later(loop, left, right, b"x")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(left, 10), 0.001)
            return weakref.ref(left)

    assert run(scenario())() is None
