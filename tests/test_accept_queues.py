"""One listening socket that several loops of a process serve, each in a thread of its own."""

import asyncio
import concurrent.futures
import contextlib
import os
import pathlib
import socket
import threading

import pytest
from support import LOCALHOST, TIME_LIMIT, close_loop, new_loop

pytestmark = pytest.mark.zloop_only


class Serving(threading.Thread):
    """A loop that serves a socket: each client gets a byte, and the end. It ends with close(), or a `with` block."""

    def __init__(self, sock):
        super().__init__()
        self.sock = sock
        self.accepted = 0
        self.connected = set()
        self.begun = threading.Event()
        self.start()

    def run(self):
        self.loop = new_loop("zloop")
        try:
            self.loop.run_until_complete(self.serve())
        finally:
            close_loop(self.loop)

    async def serve(self):
        self.ending, self.ended = asyncio.Event(), asyncio.Event()
        server = await self.loop.create_server(lambda: Greeting(self), sock=self.sock)
        self.begun.set()
        await self.ending.wait()
        server.close()
        if self.connected:
            await self.ended.wait()

    def close(self):
        self.loop.call_soon_threadsafe(self.ending.set)
        self.join(TIME_LIMIT)
        assert not self.is_alive()

    def is_idle(self):
        """Whether its thread sleeps, so that the kernel may choose it to be woken."""
        stat = pathlib.Path(f"/proc/self/task/{self.native_id}/stat").read_text()
        return stat[stat.rindex(")") :].split()[1] == "S"

    def __enter__(self):
        assert self.begun.wait(TIME_LIMIT)
        return self

    def __exit__(self, *_):
        self.close()


class Greeting(asyncio.Protocol):
    """What a client gets."""

    def __init__(self, serving):
        self.serving = serving

    def connection_made(self, transport):
        self.serving.accepted += 1
        self.serving.connected.add(self)
        transport.write(b"x")
        transport.close()

    def connection_lost(self, error):
        self.serving.connected.discard(self)
        if self.serving.ending.is_set() and not self.serving.connected:
            self.serving.ended.set()


@pytest.fixture
def listening():
    with socket.create_server((LOCALHOST, 0), backlog=1000) as sock:
        sock.setblocking(False)
        yield sock


def greeted(address):
    """Connect; whether there is a greeting and nothing else."""
    with socket.create_connection(address, timeout=TIME_LIMIT) as client:
        return client.recv(2, socket.MSG_WAITALL) == b"x"


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="only Linux chooses whom it wakes")
@pytest.mark.parametrize("duplicates", [False, True])
def test_connections_go_round_the_loops_that_are_idle(listening, duplicates):
    address = listening.getsockname()
    with contextlib.ExitStack() as stack:
        loops = [Serving(listening.dup() if duplicates else listening) for _ in range(4)]
        for serving in loops:
            stack.enter_context(serving)
        for _ in range(200):
            while not all(serving.is_idle() for serving in loops):
                pass
            assert greeted(address)
    shares = [serving.accepted for serving in loops]
    assert sum(shares) == 200
    assert max(shares) <= 70, shares


@pytest.mark.parametrize("duplicates", [False, True])
def test_those_that_are_left_serve_when_others_have_closed(listening, duplicates):
    address = listening.getsockname()
    loops = [Serving(listening.dup() if duplicates else listening) for _ in range(4)]
    for serving in loops:
        serving.begun.wait(TIME_LIMIT)
    listening.close()
    for serving in loops:
        assert all(greeted(address) for _ in range(5))
        serving.close()
    with pytest.raises(ConnectionRefusedError):
        greeted(address)


def test_loop_that_is_alone_again_takes_all_that_wait(listening, loop, run):
    async def scenario():
        clients = [socket.create_connection(listening.getsockname()) for _ in range(10)]
        while len(accepted) < 10:
            await asyncio.sleep(0)
            turns.append(len(accepted))
        for client in clients:
            client.close()

    def accept():
        accepted.append(None)
        return asyncio.Protocol()

    accepted, turns = [], [0]
    with Serving(listening.dup()):
        server = run(loop.create_server(accept, sock=listening.dup(), backlog=100))
    run(scenario())
    server.close()
    run(server.wait_closed())
    assert turns[-1] - turns[-2] > 1, turns


def test_no_connection_is_lost_while_loops_come_and_go(listening):
    """Neither refused, nor reset, nor left waiting."""

    def come_and_go(index):
        while not ended.is_set():
            with Serving(listening.dup()) as serving:
                while serving.accepted < 20 * (index + 1) and not ended.is_set():
                    idle.wait(0.001)

    address = listening.getsockname()
    ended, idle = threading.Event(), threading.Event()
    with concurrent.futures.ThreadPoolExecutor(8) as pool, Serving(listening.dup()):
        going = [pool.submit(come_and_go, index) for index in range(3)]
        try:
            assert all(pool.map(greeted, [address] * 10_000))
        finally:
            ended.set()
        for one in going:
            one.result(TIME_LIMIT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # which is what is tested
def test_child_of_a_fork_can_serve_though_another_thread_held_the_table(listening):
    from zloop.transports import accept_queues

    taken, ended = threading.Event(), threading.Event()

    def hold():
        with accept_queues.lock:
            taken.set()
            ended.wait(TIME_LIMIT)

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(TIME_LIMIT)
    child = os.fork()
    if child == 0:
        with Serving(listening):
            greeted_one = greeted(listening.getsockname())
        os._exit(7 if greeted_one else 1)
    ended.set()
    holder.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
