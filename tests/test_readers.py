"""add_reader, add_writer and their removers."""

import asyncio
import contextvars
import fcntl
import os
import socket
import time

import pytest
from support import connection, drain, fill, listening_socket, outcome_of, several_turns, socket_pair, until

MARK = contextvars.ContextVar("MARK", default="unset")


@pytest.fixture
def pair():
    """Two connected non-blocking sockets."""
    with socket_pair() as sockets:
        yield sockets


@pytest.fixture
def pipe():
    """The two ends of a pipe as unbuffered files: (to read, to write); non-blocking, closed after the test."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    with open(reading, "rb", buffering=0) as reader, open(writing, "wb", buffering=0) as writer:
        yield reader, writer


# -- what they do --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_number", [True, False], ids=["by number", "by object"])
def test_reader_is_called_with_its_arguments_once_there_is_input(loop, run, pair, by_number):
    left, right = pair
    file = left.fileno() if by_number else left
    calls = []

    async def scenario():
        assert loop.add_reader(file, lambda *args: calls.append((args, left.recv(10))), 1, "two") is None
        await several_turns()
        assert calls == []
        right.send(b"input")
        await until(lambda: calls)
        await several_turns()

    run(scenario())
    assert calls == [((1, "two"), b"input")]
    assert loop.remove_reader(file) is True
    assert loop.remove_reader(file) is False


@pytest.mark.parametrize("by_number", [True, False], ids=["by number", "by object"])
def test_writer_is_called_while_there_is_room(loop, run, pair, by_number):
    left, right = pair
    file = left.fileno() if by_number else left
    calls = []

    async def scenario():
        assert loop.add_writer(file, lambda *args: calls.append(args), 1, "two") is None
        await until(lambda: len(calls) > 2)
        fill(left)
        await several_turns()
        calls.clear()
        await several_turns()
        assert calls == []
        drain(right)
        await until(lambda: calls)

    run(scenario())
    assert calls[0] == (1, "two")
    assert loop.remove_writer(file) is True
    assert loop.remove_writer(file) is False


def test_reader_is_called_again_until_all_is_read(loop, run, pair):
    left, right = pair
    chunks = []
    right.send(b"abc")

    async def scenario():
        loop.add_reader(left, lambda: chunks.append(left.recv(1)))
        await until(lambda: len(chunks) == 3)
        loop.remove_reader(left)

    run(scenario())
    assert chunks == [b"a", b"b", b"c"]


def test_reader_and_writer_of_one_descriptor(loop, run, pair):
    left, right = pair
    calls = []

    async def scenario():
        loop.add_reader(left, calls.append, "reader")
        loop.add_writer(left, calls.append, "writer")
        await until(lambda: "writer" in calls)
        assert "reader" not in calls
        right.send(b"x")
        await until(lambda: "reader" in calls)
        assert loop.remove_writer(left) is True
        calls.clear()
        await until(lambda: len(calls) > 3)
        assert set(calls) == {"reader"}
        loop.add_writer(left, calls.append, "writer")
        assert loop.remove_reader(left) is True
        calls.clear()
        await until(lambda: len(calls) > 3)
        assert set(calls) == {"writer"}
        assert loop.remove_writer(left) is True
        calls.clear()
        await several_turns()
        assert calls == []

    run(scenario())


def test_second_reader_replaces_the_first(loop, run, pair):
    left, right = pair
    calls = []
    right.send(b"x")

    async def scenario():
        loop.add_reader(left, calls.append, "first")
        loop.add_reader(left, calls.append, "second")
        await until(lambda: calls)

    run(scenario())
    assert set(calls) == {"second"}
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


def test_reader_replaced_after_it_became_ready(loop, forever, pair):
    """The event was for the first callback; it is the second that gets it, or nobody until the next turn."""
    left, right = pair
    calls = []
    right.send(b"x")
    loop.add_reader(left, calls.append, "first")

    def replace():
        loop.add_reader(left, lambda: (calls.append("second"), loop.stop()))

    loop.call_soon(replace)
    forever()
    loop.remove_reader(left)
    assert calls == ["second"]


def test_reader_and_writer_remove_themselves(loop, run, pair):
    left, right = pair
    calls = []
    right.send(b"x")

    async def scenario():
        loop.add_reader(left, lambda: calls.append(("reader", loop.remove_reader(left))))
        loop.add_writer(left, lambda: calls.append(("writer", loop.remove_writer(left))))
        await until(lambda: len(calls) == 2)
        await several_turns()

    run(scenario())
    assert sorted(calls) == [("reader", True), ("writer", True)]


def test_removed_in_the_same_turn_means_not_called(loop, run):
    """Two descriptors are ready; whichever callback comes first removes the other."""
    calls = []

    async def scenario(left, right):
        def read(own, other):
            calls.append(own)
            loop.remove_reader(own)
            loop.remove_reader(other)

        loop.add_reader(left, read, left, right)
        loop.add_reader(right, read, right, left)
        await until(lambda: calls)
        await several_turns()

    with socket_pair() as (left, right):
        left.send(b"x")
        right.send(b"x")
        run(scenario(left, right))
    assert len(calls) == 1


def test_own_writer_removed_by_the_reader_in_the_same_turn(loop, run, pair):
    left, right = pair
    calls = []
    right.send(b"x")

    async def scenario():
        def read():
            calls.append("reader")
            loop.remove_reader(left)
            loop.remove_writer(left)

        loop.add_reader(left, read)
        loop.add_writer(left, calls.append, "writer")
        await until(lambda: calls)
        await several_turns()

    run(scenario())
    assert calls == ["reader"]


def test_duplicated_descriptors_are_watched_separately(loop, run, pair):
    left, right = pair
    calls = set()
    duplicate = os.dup(left.fileno())
    right.send(b"x")

    async def scenario():
        loop.add_reader(left, calls.add, "original")
        loop.add_reader(duplicate, calls.add, "duplicate")
        await until(lambda: len(calls) == 2)
        assert loop.remove_reader(left) is True
        calls.clear()
        await until(lambda: calls)
        assert calls == {"duplicate"}
        assert loop.remove_reader(duplicate) is True

    try:
        run(scenario())
    finally:
        os.close(duplicate)


def test_many_descriptors_at_once(loop, run):
    ready = set()
    pairs = [socket.socketpair() for _ in range(200)]

    async def scenario():
        for number, (left, right) in enumerate(pairs):
            loop.add_reader(left, lambda left=left, number=number: (left.recv(1), ready.add(number)))
            if number % 2:
                right.send(b"x")
        await until(lambda: len(ready) == 100)
        await several_turns()
        for left, _right in pairs:
            assert loop.remove_reader(left) is True

    try:
        run(scenario())
    finally:
        for left, right in pairs:
            left.close()
            right.close()
    assert ready == set(range(1, 200, 2))


def test_callback_runs_in_the_context_of_its_registration(loop, run, pair):
    left, right = pair
    marks = []
    right.send(b"x")

    async def scenario():
        token = MARK.set("registered")
        loop.add_reader(left, lambda: (marks.append(MARK.get()), MARK.set("changed inside"), loop.remove_reader(left)))
        loop.add_writer(left, lambda: (marks.append(MARK.get()), loop.remove_writer(left)))
        MARK.reset(token)
        await until(lambda: len(marks) == 2)
        return MARK.get()

    assert run(scenario()) == "unset"
    assert marks == ["registered", "registered"]


def test_failing_reader_is_reported_and_stays(loop, run, pair, unhandled):
    left, right = pair
    right.send(b"x")

    def fail():
        raise LookupError("in the reader")

    async def scenario():
        loop.add_reader(left, fail)
        await until(lambda: len(unhandled) > 1)
        assert loop.remove_reader(left) is True

    run(scenario())
    assert isinstance(unhandled[0]["exception"], LookupError)
    assert "fail" in unhandled[0]["message"]


def test_blocking_mode_is_left_alone(loop):
    blocking, non_blocking = socket.socketpair()
    with blocking, non_blocking:
        non_blocking.setblocking(False)
        for sock, expected in ((blocking, True), (non_blocking, False)):
            loop.add_reader(sock, print)
            loop.add_writer(sock, print)
            assert os.get_blocking(sock.fileno()) is expected
            loop.remove_reader(sock)
            loop.remove_writer(sock)
            assert os.get_blocking(sock.fileno()) is expected


def test_readers_registered_from_other_callbacks_and_while_stopped(loop, forever, pair):
    left, right = pair
    told = []

    def on_readable(when):
        told.append(when)
        loop.remove_reader(left)
        loop.stop()

    right.send(b"x")
    loop.call_soon(loop.add_reader, left, on_readable, "from a callback")
    forever()
    loop.add_reader(left, on_readable, "while stopped")
    forever()
    assert told == ["from a callback", "while stopped"]


# -- ends and errors -----------------------------------------------------------------------------------------------


def test_end_of_the_stream_is_input(loop, forever, pair):
    left, right = pair
    right.close()
    chunks = []
    loop.add_reader(left, lambda: (chunks.append(left.recv(1)), loop.stop()))
    forever()
    loop.remove_reader(left)
    assert chunks == [b""]


def test_closed_writing_end_of_a_pipe_is_input(loop, forever, pipe):
    reading, writing = pipe
    writing.close()
    loop.add_reader(reading, loop.stop)
    forever()
    assert loop.remove_reader(reading) is True


def test_closed_reading_end_of_a_pipe_wakes_the_writer_every_time(loop, run, pipe):
    """An error condition neither goes unnoticed nor ends the watching."""
    reading, writing = pipe
    while writing.write(b"\0" * 65536):  # None once it is full
        pass
    reading.close()
    calls = []

    async def scenario():
        loop.add_writer(writing, calls.append, True)
        await until(lambda: len(calls) > 2)
        assert loop.remove_writer(writing) is True

    run(scenario())


def test_refused_connection_wakes_the_writer(loop, run):
    with listening_socket() as listener:
        address = listener.getsockname()
    results = []

    async def scenario():
        with socket.socket() as sock:
            sock.setblocking(False)
            if sock.connect_ex(address) not in (0, 111):
                loop.add_writer(sock, lambda: results.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
                await until(lambda: results)
                loop.remove_writer(sock)
            else:
                results.append(111)

    run(scenario())
    assert results[0] == 111  # ECONNREFUSED


METHODS = ["add_reader", "add_writer", "remove_reader", "remove_writer"]


class BrokenFile:
    def fileno(self):
        return "not a number"


NO_DESCRIPTORS = {
    "text": "text",
    "None": None,
    "float": 1.5,
    "object without fileno": object(),
    "fileno that is no number": BrokenFile(),
    "negative": -1,
    "very negative": -1000,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", NO_DESCRIPTORS)
def test_what_is_no_descriptor(same_as_asyncio, method, case):
    def scenario(loop):
        arguments = [print] if method.startswith("add") else []
        return outcome_of(getattr(loop, method), NO_DESCRIPTORS[case], *arguments)

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.parametrize("method", METHODS)
def test_descriptor_that_is_closed(same_as_asyncio, method):
    def scenario(loop):
        arguments = [print] if method.startswith("add") else []
        left, right = socket.socketpair()
        number = left.fileno()
        left.close()
        right.close()
        outcomes = [outcome_of(getattr(loop, method), left, *arguments)[:2]]
        outcomes += [outcome_of(getattr(loop, method), number, *arguments)]
        return outcomes, outcome_of(loop.remove_reader, number), outcome_of(loop.remove_writer, number)

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_object_that_was_closed_while_it_is_watched_can_be_removed(same_as_asyncio, direction):
    """By its identity, which is all that is left of it."""

    def scenario(loop):
        add, remove = getattr(loop, f"add_{direction}"), getattr(loop, f"remove_{direction}")
        with socket_pair() as (left, right):
            number = left.fileno()
            add(left, print)
            left.close()
            return remove(left), outcome_of(remove, left)[:2], remove(number), remove(right)

    assert same_as_asyncio(scenario).returned == (True, ("raised", ValueError), False, False)


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_regular_files_are_refused(same_as_asyncio, method, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")

    def scenario(loop):
        with path.open("rb") as file:
            outcome = outcome_of(getattr(loop, method), file, print)
            return outcome, loop.remove_reader(file), loop.remove_writer(file)

    outcome, *removed = same_as_asyncio(scenario).returned
    assert outcome[1] is PermissionError
    assert removed == [False, False]


def test_callback_is_required(same_as_asyncio):
    def scenario(loop):
        with socket_pair() as (left, _right):
            return outcome_of(loop.add_reader, left)[:2], outcome_of(loop.add_writer, left)[:2]

    assert set(same_as_asyncio(scenario).returned) == {("raised", TypeError)}


@pytest.mark.parametrize("method", METHODS)
def test_descriptor_of_a_transport_is_refused(same_as_asyncio, method):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            sock = transport.get_extra_info("socket")
            arguments = [print] if method.startswith("add") else []
            return [outcome_of(getattr(loop, method), file, *arguments) for file in (sock.fileno(), sock)]

    outcomes = same_as_asyncio(scenario).returned
    assert {outcome[1] for outcome in outcomes} == {RuntimeError}
    assert "is used by transport" in outcomes[0][2]


def test_descriptor_number_is_free_again_after_its_transport(loop, run):
    async def scenario():
        calls = []
        with socket_pair() as (left, right):
            async with connection(loop) as (transport, _protocol, _peer):
                number = transport.get_extra_info("socket").fileno()
            assert fcntl.fcntl(left, fcntl.F_DUPFD, number) == number
            right.send(b"x")
            loop.add_reader(number, calls.append, True)
            await until(lambda: calls)
            loop.remove_reader(number)
            os.close(number)

    run(asyncio.sleep(0.001))  # descriptors of its own the loop may take when it first waits: not this one's number
    run(scenario())


# -- descriptor numbers that are used again ------------------------------------------------------------------------


def test_number_used_again_gets_only_its_own_events(loop, run):
    calls = []

    async def scenario():
        for generation in range(20):
            with socket_pair() as (left, right):
                loop.add_reader(left, lambda left=left, generation=generation: calls.append((generation, left.recv(9))))
                right.send(b"%d" % generation)
                if generation % 2:  # else the reader goes with its event pending
                    await until(lambda generation=generation: len(calls) > generation // 2)
                loop.remove_reader(left)

    run(scenario())
    assert calls == [(generation, b"%d" % generation) for generation in range(1, 20, 2)]


def test_pending_event_is_not_delivered_to_the_next_owner_of_the_number(loop, run):
    """Two descriptors are ready; whichever callback comes first puts an idle socket in the other one's place."""
    calls = []

    async def scenario(left, right, idle):
        def replace(own, other):
            loop.remove_reader(own)
            loop.remove_reader(other)
            os.dup2(idle.fileno(), other.fileno())
            loop.add_reader(other, calls.append, "new owner")
            calls.append(other)

        loop.add_reader(left, replace, left, right)
        loop.add_reader(right, replace, right, left)
        await until(lambda: calls)
        await several_turns()
        loop.remove_reader(calls[0])

    with socket_pair() as (left, left_peer), socket_pair() as (right, right_peer), socket_pair() as (idle, _idle_peer):
        left_peer.send(b"x")
        right_peer.send(b"x")
        run(scenario(left, right, idle))
    assert len(calls) == 1
    assert "new owner" not in calls


def test_file_that_is_closed_under_its_reader_and_open_under_another_number(loop, run):
    """The kernel goes on telling of it. No removal fails, and what is told of it afterwards reaches nobody."""

    async def scenario():
        with socket_pair() as (near, peer):
            fd, duplicate = near.fileno(), os.dup(near.fileno())
            loop.add_reader(fd, calls.append, "read")
            near.close()
            assert loop.remove_reader(fd)
            assert not loop.remove_reader(fd)
            peer.send(b"readable")
            await several_turns()
            os.close(duplicate)

    calls = []
    run(scenario())
    assert calls == []


@pytest.mark.zloop_only  # asyncio's selector runs the loop's thread at full speed
def test_loop_sleeps_beside_a_file_that_nobody_can_stop_watching(loop, run):
    """It is closed under its reader, ready, open under another number, and another file has its number."""

    async def scenario():
        with socket_pair() as (near, peer), socket_pair() as (other, other_peer):
            fd, duplicate = near.fileno(), os.dup(near.fileno())
            loop.add_reader(fd, calls.append, "stale")
            os.dup2(other.fileno(), fd)
            peer.send(b"readable")
            loop.add_reader(fd, calls.append, "fresh")
            await several_turns()
            before = time.process_time()
            await asyncio.sleep(0.2)
            assert time.process_time() - before < 0.1
            other_peer.send(b"readable")
            await until(lambda: calls)
            loop.remove_reader(fd)
            os.close(duplicate)

    calls = []
    run(scenario())
    assert set(calls) == {"fresh"}
