"""The sock_* coroutines: a program's own sockets, read, written, connected and accepted through the loop."""

import asyncio
import contextlib
import contextvars
import gc
import inspect
import io
import os
import socket
import ssl
import sys
import weakref

import pytest
from support import (
    LOCALHOST,
    NEW_EVENT_LOOP,
    Recorder,
    awaited_outcome,
    connection,
    enable_debug,
    fill,
    full_listener,
    listening_socket,
    outcome_of,
    pattern,
    receive_all,
    receive_exactly,
    refusing_port,
    reset,
    run_bounded,
    run_script,
    several_turns,
    socket_pair,
    tcp_pair,
    until,
)

MARK = contextvars.ContextVar("MARK", default="unset")

BIG = 4 << 20
"""More bytes than the buffers of any socket here hold."""


def udp_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((LOCALHOST, 0))
    return sock


async def started(loop, coroutine):
    """Start a coroutine as a task and let it get to where it waits."""
    task = loop.create_task(coroutine)
    await several_turns()
    assert not task.done()
    return task


# -- receiving -----------------------------------------------------------------------------------------------------


def receive_into(method):
    """Make a call of that sock_*_into method look like one of sock_recv."""

    async def receive(loop, sock, count):
        buffer = bytearray(count)
        result = await getattr(loop, method)(sock, buffer)
        return bytes(buffer[: result if method == "sock_recv_into" else result[0]])

    return receive


async def receive(loop, sock, count):
    return await loop.sock_recv(sock, count)


async def receive_from(loop, sock, count):
    return (await loop.sock_recvfrom(sock, count))[0]


RECEIVERS = {
    "sock_recv": receive,
    "sock_recv_into": receive_into("sock_recv_into"),
    "sock_recvfrom": receive_from,
    "sock_recvfrom_into": receive_into("sock_recvfrom_into"),
}


@pytest.fixture(params=RECEIVERS)
def receiver(request):
    """Each of the four ways to receive, as a coroutine function of (loop, socket, count)."""
    return RECEIVERS[request.param]


def test_receiving_what_is_there_already(loop, run, receiver):
    with socket_pair() as (left, right):
        right.send(b"abcdef")
        assert run(receiver(loop, left, 4)) == b"abcd"
        assert run(receiver(loop, left, 100)) == b"ef"


def test_receiving_what_comes_later(loop, run, receiver):
    async def scenario(left, right):
        task = await started(loop, receiver(loop, left, 100))
        right.send(b"late")
        return await task

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"late"
        assert loop.remove_reader(left) is False


def test_receiving_the_end_of_the_stream(loop, run, receiver):
    async def scenario(left, right):
        task = await started(loop, receiver(loop, left, 100))
        right.close()
        return await task, await receiver(loop, left, 100)

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == (b"", b"")


def test_receiving_from_a_reset_connection(loop, run, receiver):
    async def scenario(left, right):
        task = await started(loop, receiver(loop, left, 100))
        reset(right)
        with pytest.raises(ConnectionResetError):
            await task

    with tcp_pair() as (left, right):
        run(scenario(left, right))


def test_cancelled_receive_takes_nothing(loop, run, receiver):
    async def scenario(left, right):
        task = await started(loop, receiver(loop, left, 100))
        task.cancel()
        right.send(b"for the next")
        with pytest.raises(asyncio.CancelledError):
            await task
        return await receiver(loop, left, 100)

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"for the next"


def test_cancelled_receive_leaves_the_next_one_alone(loop, run, receiver):
    """The second operation registers itself before the first one's cancellation has been seen by its future."""

    async def scenario(left, right):
        first = await started(loop, receiver(loop, left, 100))
        first.cancel()
        second = loop.create_task(receiver(loop, left, 100))
        await several_turns()
        assert first.cancelled()
        right.send(b"for the second")
        return await second

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"for the second"


def test_receive_with_a_timeout_and_again(loop, run, receiver):
    async def scenario(left, right):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receiver(loop, left, 100), 0.001)
        right.send(b"at last")
        return await asyncio.wait_for(receiver(loop, left, 100), 10)

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"at last"


def test_receive_replaces_a_reader_and_removes_itself(loop, run):
    async def scenario(left, right):
        task = await started(loop, loop.sock_recv(left, 10))
        right.send(b"x")
        assert await task == b"x"
        calls = []
        loop.add_reader(left, calls.append, True)
        right.send(b"y")
        await until(lambda: calls)
        assert loop.remove_reader(left) is True

    with socket_pair() as (left, right):
        run(scenario(left, right))


def test_zero_length_buffers(same_as_asyncio):
    async def scenario(loop):
        with socket_pair() as (left, right):
            right.send(b"stays")
            return [
                await loop.sock_recv(left, 0),
                await loop.sock_recv_into(left, bytearray()),
                await loop.sock_recv(left, 10),
            ]

    assert same_as_asyncio(scenario).returned == [b"", 0, b"stays"]


@pytest.mark.parametrize("buffer", [b"read-only", "text", None, 42], ids=repr)
def test_receiving_into_what_is_no_buffer(same_as_asyncio, buffer):
    async def scenario(loop):
        with socket_pair() as (left, _right):
            return [
                (await awaited_outcome(loop.sock_recv_into(left, buffer)))[:2],
                (await awaited_outcome(loop.sock_recvfrom_into(left, buffer)))[:2],
            ]

    assert {outcome[0] for outcome in same_as_asyncio(scenario).returned} == {"raised"}


def test_receiving_into_a_slice_and_a_count(loop, run):
    async def scenario(left, right):
        buffer = bytearray(b"..........")
        right.send(b"abc")
        assert await loop.sock_recv_into(left, memoryview(buffer)[2:4]) == 2
        assert (await loop.sock_recvfrom_into(left, buffer, 1))[0] == 1
        return bytes(buffer)

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"c.ab......"


# -- sending -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
def test_sending_more_than_fits(loop, run, kind):
    content = pattern(BIG)

    async def scenario(left, right):
        sender = loop.create_task(loop.sock_sendall(left, kind(content)))
        received = await receive_exactly(loop, right, BIG)
        assert await sender is None
        return received

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == content


def test_both_directions_at_once_on_the_same_socket(loop, run):
    content = pattern(BIG)

    async def scenario(left, right):
        results = await asyncio.gather(
            loop.sock_sendall(left, content),
            loop.sock_sendall(right, content[::-1]),
            receive_exactly(loop, left, BIG),
            receive_exactly(loop, right, BIG),
        )
        return results[2:]

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == [content[::-1], content]


def test_sending_nothing(loop, run):
    with socket_pair() as (left, _right):
        assert run(loop.sock_sendall(left, b"")) is None


def test_sending_to_a_closed_peer(loop, run):
    async def scenario(left, right):
        fill(left)
        task = await started(loop, loop.sock_sendall(left, b"x" * BIG))
        right.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await task
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(left, b"x")

    with socket_pair() as (left, right):
        run(scenario(left, right))


def test_cancelled_send_leaves_the_next_one_alone(loop, run):
    async def scenario(left, right):
        filled = fill(left)
        first = await started(loop, loop.sock_sendall(left, b"first"))
        first.cancel()
        second = loop.create_task(loop.sock_sendall(left, b"second"))
        await several_turns()
        assert first.cancelled()
        received = await receive_exactly(loop, right, filled + 6)
        await second
        return received[-6:]

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"second"


def test_what_was_sent_is_what_the_buffer_held(loop, run):
    """As in asyncio the buffer is the caller's until the end: it is neither copied nor freed too early."""

    async def scenario(left, right):
        content = pattern(BIG)
        sender = loop.create_task(loop.sock_sendall(left, memoryview(bytearray(content))))
        received = await receive_exactly(loop, right, BIG)
        await sender
        return received == content

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) is True


@pytest.mark.parametrize("data", ["text", None, 42, [1, 2]], ids=repr)
def test_sending_what_is_no_buffer(same_as_asyncio, data):
    async def scenario(loop):
        with socket_pair() as (left, _right):
            return (await awaited_outcome(loop.sock_sendall(left, data)))[:2]

    assert same_as_asyncio(scenario).returned == ("raised", TypeError)


# -- datagrams -----------------------------------------------------------------------------------------------------


def test_datagrams_and_their_addresses(loop, run):
    async def scenario(first, second):
        waiting = await started(loop, loop.sock_recvfrom(second, 100))
        assert await loop.sock_sendto(first, b"one", second.getsockname()) == 3
        assert await waiting == (b"one", first.getsockname())
        buffer = bytearray(100)
        waiting = await started(loop, loop.sock_recvfrom_into(first, buffer))
        assert await loop.sock_sendto(second, b"", first.getsockname()) == 0
        assert await waiting == (0, second.getsockname())
        await loop.sock_sendto(second, b"longer", first.getsockname())
        assert await loop.sock_recvfrom_into(first, buffer, 3) == (3, second.getsockname())
        return bytes(buffer[:4])

    with udp_socket() as first, udp_socket() as second:
        assert run(scenario(first, second)) == b"lon\0"


def test_datagram_waits_for_room(loop, run, tmp_path):
    """Unix datagram sockets, unlike those of UDP, tell the sender when the receiver's queue is full."""
    path = os.fspath(tmp_path / "socket")

    async def scenario(sender, receiver):
        sent = 0
        try:
            while True:
                sender.sendto(b"x", path)
                sent += 1
        except BlockingIOError:
            pass
        cancelled = await started(loop, loop.sock_sendto(sender, b"cancelled", path))
        cancelled.cancel()
        waiting = await started(loop, loop.sock_sendto(sender, b"waited", path))
        assert cancelled.cancelled()
        received = [await loop.sock_recv(receiver, 100) for _ in range(sent)]
        assert await waiting == 6
        assert received == [b"x"] * sent
        return await loop.sock_recv(receiver, 100)

    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(path)
        sender.setblocking(False)
        receiver.setblocking(False)
        assert run(scenario(sender, receiver)) == b"waited"


def test_datagram_that_is_too_long(same_as_asyncio):
    async def scenario(loop):
        with udp_socket() as sock:
            return await awaited_outcome(loop.sock_sendto(sock, b"x" * 100_000, sock.getsockname()))

    assert same_as_asyncio(scenario).returned[1] is OSError


# -- connecting and accepting --------------------------------------------------------------------------------------


def test_connecting_and_accepting(loop, run):
    async def scenario(listener, sock):
        waiting = await started(loop, loop.sock_accept(listener))
        assert await loop.sock_connect(sock, listener.getsockname()) is None
        accepted, address = await waiting
        with accepted:
            assert address == sock.getsockname()
            assert accepted.gettimeout() == 0
            assert type(accepted) is socket.socket
            assert (accepted.family, accepted.type, accepted.proto) == (listener.family, listener.type, listener.proto)
            assert sock.getpeername() == accepted.getsockname()
            await loop.sock_sendall(sock, b"hello")
            return await loop.sock_recv(accepted, 100)

    with listening_socket() as listener, socket.socket() as sock:
        sock.setblocking(False)
        assert run(scenario(listener, sock)) == b"hello"


def test_accepting_what_is_there_already(loop, run):
    with listening_socket() as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        for client in clients:
            accepted, address = run(loop.sock_accept(listener))
            assert address == client.getsockname()
            accepted.close()
            client.close()


def test_connecting_by_name(loop, run):
    async def scenario(listener, sock):
        await loop.sock_connect(sock, ("localhost", listener.getsockname()[1]))
        return sock.getpeername()

    with listening_socket() as listener, socket.socket() as sock:
        sock.setblocking(False)
        assert run(scenario(listener, sock)) == listener.getsockname()


def test_connecting_where_nobody_listens(same_as_asyncio):
    async def scenario(loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            return await awaited_outcome(loop.sock_connect(sock, (LOCALHOST, refusing_port())))

    assert same_as_asyncio(scenario).returned[1] is ConnectionRefusedError


@pytest.mark.parametrize("listening", [True, False])
def test_connecting_takes_a_turn(loop, run, listening):
    """So that whoever tries again and again lets others run, the one among them that will listen at last."""

    async def scenario(sock, address):
        others = []
        loop.call_soon(others.append, "ran")
        outcome = await awaited_outcome(loop.sock_connect(sock, address))
        return outcome[0], others

    with listening_socket() as listener, socket.socket() as sock:
        sock.setblocking(False)
        address = listener.getsockname() if listening else (LOCALHOST, refusing_port())
        assert run(scenario(sock, address)) == ("returned" if listening else "raised", ["ran"])


@pytest.mark.zloop_only  # asyncio waits for ever
def test_socket_that_is_closed_while_it_connects(loop, run, pending_address):
    async def scenario(sock):
        task = loop.create_task(loop.sock_connect(sock, pending_address))
        await asyncio.sleep(0)
        sock.close()
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            await task

    with socket.socket() as sock:
        sock.setblocking(False)
        run(scenario(sock))


def test_exception_of_a_failed_connect_is_in_no_cycle(loop, run):
    """It is gone with its last reference, and not when the garbage collector comes."""

    class Failure(OSError):
        pass

    class FailingSocket(socket.socket):
        def getsockopt(self, *args):
            raise Failure

    async def scenario():
        with FailingSocket() as sock, listening_socket() as listener:
            sock.setblocking(False)
            try:
                await loop.sock_connect(sock, listener.getsockname())
            except Failure as failure:
                return weakref.ref(failure)

    gc.disable()
    try:
        assert run(scenario())() is None
    finally:
        gc.enable()


def test_connecting_unix_sockets(loop, run, tmp_path):
    path = os.fspath(tmp_path / "socket")

    async def scenario(listener, sock):
        await loop.sock_connect(sock, path)
        accepted, _address = await loop.sock_accept(listener)
        accepted.close()

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as sock:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        sock.setblocking(False)
        run(scenario(listener, sock))


def test_connecting_to_a_path_that_is_not_there(same_as_asyncio):
    async def scenario(loop):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            return await awaited_outcome(loop.sock_connect(sock, "/no/such/socket"))

    assert same_as_asyncio(scenario).returned[1] is FileNotFoundError


@pytest.mark.parametrize(
    "address", [None, 42, (), (LOCALHOST,), (LOCALHOST, 70_000), (LOCALHOST, "no such service")], ids=repr
)
def test_connecting_to_what_is_no_address(same_as_asyncio, address):
    async def scenario(loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            return (await awaited_outcome(loop.sock_connect(sock, address)))[:2]

    assert same_as_asyncio(scenario).returned[0] == "raised"


@pytest.fixture
def pending_address():
    """An address that a connect waits for: a unix socket could not, so a listener with a full backlog."""
    with full_listener() as listener:
        yield listener.getsockname()


def test_connect_put_in_place_of_the_class_s_is_called(same_as_asyncio, monkeypatch):
    def refuse(*_args):
        raise PermissionError("no connections here")

    async def scenario(loop):
        with listening_socket() as listener, socket.socket() as sock:
            sock.setblocking(False)
            with monkeypatch.context() as patch:
                patch.setattr(socket.socket, "connect", refuse)
                return await awaited_outcome(loop.sock_connect(sock, listener.getsockname()))

    assert same_as_asyncio(scenario).returned[1] is PermissionError


def test_cancelled_connect_removes_its_watcher(loop, run, pending_address):
    async def scenario(sock):
        task = await started(loop, loop.sock_connect(sock, pending_address))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.remove_writer(sock) is False

    with socket.socket() as sock:
        sock.setblocking(False)
        run(scenario(sock))


def test_cancelled_accept_takes_no_connection(loop, run):
    async def scenario(listener):
        first = await started(loop, loop.sock_accept(listener))
        first.cancel()
        with socket.create_connection(listener.getsockname()) as client:
            second = loop.create_task(loop.sock_accept(listener))
            accepted, address = await second
            accepted.close()
            assert address == client.getsockname()
        assert first.cancelled()
        assert loop.remove_reader(listener) is False

    with listening_socket() as listener:
        run(scenario(listener))


# -- sockets that will not do --------------------------------------------------------------------------------------

OPERATIONS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", (LOCALHOST, 9)),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, (LOCALHOST, 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sock_sendfile": lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(b"x")),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_are_coroutines(loop, name):
    with socket_pair() as (left, _right):
        coroutine = OPERATIONS[name](loop, left)
        assert asyncio.iscoroutine(coroutine)
        assert inspect.iscoroutinefunction(getattr(loop, name))
        coroutine.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_blocking_sockets_are_refused_in_debug_mode(same_as_asyncio, name):
    async def scenario(loop):
        enable_debug(loop)
        with socket.socket() as sock:
            return await awaited_outcome(OPERATIONS[name](loop, sock))

    assert same_as_asyncio(scenario).returned == ("raised", ValueError, "the socket must be non-blocking")


@pytest.mark.parametrize("name", OPERATIONS)
def test_tls_sockets_are_refused(same_as_asyncio, name):
    async def scenario(loop):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with context.wrap_socket(socket.socket(), server_hostname="example.org") as sock:
            sock.setblocking(False)
            return await awaited_outcome(OPERATIONS[name](loop, sock))

    assert same_as_asyncio(scenario).returned[1] is TypeError


@pytest.mark.parametrize("name", OPERATIONS)
def test_closed_sockets(same_as_asyncio, name):
    async def scenario(loop):
        sock = socket.socket()
        sock.setblocking(False)
        sock.close()
        return (await awaited_outcome(OPERATIONS[name](loop, sock)))[:2]

    assert same_as_asyncio(scenario).returned[0] == "raised"


@pytest.mark.parametrize("name", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"])
def test_sockets_of_transports_are_refused(same_as_asyncio, name):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            same = socket.socket(fileno=transport.get_extra_info("socket").fileno())
            try:
                same.setblocking(False)
                return await awaited_outcome(OPERATIONS[name](loop, same))
            finally:
                same.detach()

    assert same_as_asyncio(scenario).returned[1] is RuntimeError


@pytest.mark.parametrize("name", ["sock_recv", "sock_accept", "sock_connect", "sock_sendall"])
def test_socket_closed_by_its_owner_while_the_loop_waits(loop, name, pending_address):
    """The waiting task may go on waiting or fail; nothing crashes, and the loop goes on."""

    async def scenario():
        if name == "sock_accept":
            sock = socket.create_server((LOCALHOST, 0))
        elif name == "sock_connect":
            sock = socket.socket()
        else:
            sock, other = socket.socketpair()
            others.append(other)
        sock.setblocking(False)
        if name == "sock_sendall":
            fill(sock)
        operation = {"sock_connect": lambda: loop.sock_connect(sock, pending_address)}
        task = await started(loop, operation.get(name, lambda: OPERATIONS[name](loop, sock))())
        sock.close()
        await several_turns()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.done()
        return await asyncio.sleep(0.001, "still running")

    others = []
    try:
        assert run_bounded(loop, scenario()) == "still running"
    finally:
        for other in others:
            other.close()


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


# -- other objects than plain sockets ------------------------------------------------------------------------------


class CountingSocket(socket.socket):
    """Counts the calls of its methods, with the value of MARK that they see."""

    def recv(self, *args):
        self.calls.append(MARK.get())
        return super().recv(*args)


def test_methods_of_a_subclass_are_used_in_the_callers_context(same_as_asyncio):
    async def scenario(loop):
        with socket_pair() as (left, right):
            sock = CountingSocket(fileno=left.detach())
            sock.calls = []
            sock.setblocking(False)
            with sock:
                MARK.set("caller")
                task = await started(loop, loop.sock_recv(sock, 10))
                right.send(b"x")
                return await task, sock.calls

    assert same_as_asyncio(scenario).returned == (b"x", ["caller", "caller"])


def test_class_put_in_place_of_the_plain_one_before_the_loop_is_imported(loop_kind):
    script = f"""
import asyncio, socket
made = []
class Replaced(socket.socket):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        made.append(self)
    def recv(self, *args):
        print("recv")
        return super().recv(*args)
socket.socket = Replaced
{NEW_EVENT_LOOP[loop_kind]}
async def main(loop):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        right.send(b"x")
        print(await loop.sock_recv(left, 10))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made.clear()
        transport, _protocol = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        print([transport.get_extra_info("socket")._sock is sock for sock in made])
        transport.abort()
loop = new_event_loop()
loop.run_until_complete(main(loop))
loop.close()
"""
    assert run_script("asyncio", script) == ["recv", "b'x'", "[True]"]


def test_senders_are_told_apart(loop, run):
    async def scenario(receiver, first, second):
        for sender in (first, second, second, first):
            sender.sendto(b"x", receiver.getsockname())
            _data, address = await loop.sock_recvfrom(receiver, 10)
            assert address == sender.getsockname()
            for answered in (address, (*address,), second.getsockname()):
                await loop.sock_sendto(receiver, b"answer", answered)
            assert sender.recv(10) == b"answer"
            assert sender.recv(10) == b"answer"
            assert second.recv(10) == b"answer"

    with udp_socket() as receiver, udp_socket() as first, udp_socket() as second:
        run(scenario(receiver, first, second))


def test_nameless_sender(same_as_asyncio, tmp_path):
    path = os.fspath(tmp_path / "socket")

    async def scenario(loop):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
            udp_socket() as other,
            socket_pair() as (left, right),
        ):
            receiver.bind(path)
            receiver.setblocking(False)
            other.sendto(b"named", other.getsockname())
            await loop.sock_recvfrom(other, 10)
            sender.sendto(b"nameless", path)
            right.send(b"of a stream")
            return [
                await loop.sock_recvfrom(receiver, 10),
                await loop.sock_recvfrom(left, 20),
                (await awaited_outcome(loop.sock_sendto(other, b"x", None)))[:2],
            ]

    assert same_as_asyncio(scenario).returned[:2] == [(b"nameless", None), (b"of a stream", None)]


def test_auditors_are_told(loop_kind):
    script = """
import asyncio, socket, sys
async def main(loop):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    for _ in range(2):
        await loop.sock_sendto(sock, b"x", sock.getsockname())
        data, address = await loop.sock_recvfrom(sock, 10)
        await loop.sock_sendto(sock, data, address)
    sock.close()
loop = new_event_loop()
def tell(event, arguments):
    if event == "socket.sendto":
        print(event, arguments[0].type.name, arguments[1][0])
sys.addaudithook(tell)
loop.run_until_complete(main(loop))
loop.close()
"""
    assert run_script(loop_kind, script) == ["socket.sendto SOCK_DGRAM 127.0.0.1"] * 4


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


def test_operations_on_what_is_no_socket(same_as_asyncio):
    def scenario(loop):
        return [outcome_of(lambda call=call: run_bounded(loop, call(loop, None)))[:2] for call in OPERATIONS.values()]

    assert {outcome[0] for outcome in same_as_asyncio(scenario).returned} == {"raised"}
