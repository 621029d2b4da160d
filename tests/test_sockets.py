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
import weakref

import pytest
from support import (
    LOCALHOST,
    NEW_EVENT_LOOP,
    awaited_outcome,
    connection,
    enable_debug,
    fill,
    full_listener,
    listening_socket,
    outcome_of,
    pattern,
    receive_exactly,
    refusing_port,
    reset,
    run_bounded,
    run_script,
    several_turns,
    socket_pair,
    started,
    tcp_pair,
    udp_socket,
    until,
)

MARK = contextvars.ContextVar("MARK", default="unset")


BIG = 4 << 20
"""More bytes than the buffers of any socket here hold."""


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
        with accepted:
            return sock.getpeername(), accepted.getsockname()

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as sock:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        sock.setblocking(False)
        assert run(scenario(listener, sock)) == (path, path)


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


def test_operations_on_what_is_no_socket(same_as_asyncio):
    def scenario(loop):
        return [outcome_of(lambda call=call: run_bounded(loop, call(loop, None)))[:2] for call in OPERATIONS.values()]

    assert {outcome[0] for outcome in same_as_asyncio(scenario).returned} == {"raised"}


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
