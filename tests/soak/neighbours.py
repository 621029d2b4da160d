"""Loops in several threads: what each does to the others by what is made for that, and what they share.

Calls keep their order, handles that others cancel run once or not at all, coroutines return what they do; transports
that another thread drops leave nothing; loops come and go on a listening socket that all serve, and no connection is
lost; children of a fork run loops of their own, whatever other threads were at.
"""

import asyncio
import gc
import os
import signal
import socket
import threading

CALLS = 300
HANDLES = 50
CLIENTS = 10
FOR_GOOD = 100_000
"""Seconds that no soak lasts."""
CHILD_PATIENCE = 60
"""Seconds until a child of a fork that hangs is ended by a signal."""


async def run(world):
    if world.company.count == 1:
        await world.stopping.wait()
        return
    await asyncio.gather(
        call(world), cancel(world), submit(world), drop(world), share(world), come_and_go(world), fork(world)
    )


async def call(world):
    """Calls of another loop arrive in order, and so do its answers."""
    random, company = world.random("calls"), world.company
    neighbour = company.neighbour_of(world)

    async def step():
        received, answered = [], []
        count, done = random.randrange(1, CALLS), asyncio.Event()

        def receive(number):  # in the neighbour's thread
            received.append(number)
            company.call(world.number, answer, number)

        def answer(number):
            answered.append(number)
            if number == count - 1:
                done.set()

        for number in range(count):
            company.call(neighbour, receive, number)
        await done.wait()
        assert received == list(range(count)), "calls of another loop were lost or out of order"
        assert answered == list(range(count)), "answers of another loop were lost or out of order"

    await world.repeat("rounds of calls between loops", step, 0.05)


async def cancel(world):
    """Timers and callbacks are cancelled by whichever thread comes across them."""
    random, company = world.random("cancels"), world.company

    async def step():
        ran, ended = [], asyncio.Event()
        lasting = [world.loop.call_later(FOR_GOOD, ran.append, "a timer for good") for _ in range(HANDLES)]
        short = [world.loop.call_later(random.uniform(0, 0.01), ran.append, number) for number in range(HANDLES)]
        soon = [world.loop.call_soon(ran.append, -number) for number in range(1, HANDLES)]
        company.timers.extend(random.sample([*lasting, *short, *soon], 3 * HANDLES - 1))
        for _ in range(2 * HANDLES):  # of others', as far as there are any
            try:
                handle = company.timers.popleft()
            except IndexError:
                break
            handle.cancel()
            assert handle.cancelled(), f"{handle!r} is not cancelled"
        world.loop.call_later(0.02, ended.set)
        await ended.wait()
        assert len(ran) == len(set(ran)), "a callback ran twice"
        assert "a timer for good" not in ran, "a timer ran before its time"
        for handle in (*lasting, *short, *soon):
            handle.cancel()

    await world.repeat("rounds of cancels between loops", step, 0.05)


async def submit(world):
    random, company = world.random("coroutines"), world.company
    neighbour = company.neighbour_of(world)

    async def square(value):
        await asyncio.sleep(random.uniform(0, 0.005))
        assert threading.get_ident() != home, "a coroutine ran in the wrong thread"
        return value * value

    async def step():
        values = [random.randrange(1000) for _ in range(5)]
        futures = [asyncio.wrap_future(company.submit(neighbour, square(value))) for value in values]
        assert await asyncio.gather(*futures) == [value * value for value in values], "a coroutine returned another's"

    home = threading.get_ident()
    await world.repeat("coroutines between loops", step, 0.05)


async def drop(world):
    """The last reference to a transport is another thread's: its loop ends it, and its peer sees the end."""
    random, company = world.random("drops"), world.company

    async def step():
        peers = []
        for number in range(10):
            near, far = socket.socketpair()
            near.setblocking(False)
            far.setblocking(False)
            transport, _ = await world.loop.create_connection(asyncio.Protocol, sock=near)
            transport.pause_reading()
            if number % 3 == 0:
                transport.itself = transport
            peers.append(far)
            company.transports.append(transport)
            del transport, _, near
        for _ in range(12):  # of others'
            try:
                company.transports.popleft().get_extra_info("peername")
            except IndexError:
                break
        if random.random() < 0.2:
            gc.collect()
        world.kept_peers.extend(peers)
        for peer in world.kept_peers[:-200]:
            peer.close()
        del world.kept_peers[:-200]

    world.kept_peers = []
    await world.repeat("rounds of drops", step, 0.05)
    for peer in world.kept_peers:
        peer.close()


class Greeting(asyncio.Protocol):
    """Says one byte, and closes."""

    def __init__(self, connected):
        self.connected = connected

    def connection_made(self, transport):
        self.connected.add(self)
        transport.write(b"x")
        transport.close()

    def connection_lost(self, exc):
        self.connected.discard(self)


async def greet(loop, company, until):
    """Serve the socket that all share, until it is time; nothing that was accepted is left unanswered."""
    connected = set()
    server = await loop.create_server(lambda: Greeting(connected), sock=company.listening.dup())
    try:
        await until()
    finally:
        server.close()
        while connected:
            await asyncio.sleep(0.001)


async def share(world):
    """Each loop serves the socket; each of its clients is greeted, by whichever loop."""
    address = world.company.listening.getsockname()

    async def client():
        reader, writer = await asyncio.open_connection(*address)
        greeting = await reader.read()
        assert greeting == b"x", f"a client was greeted with {greeting!r}"
        writer.close()
        await writer.wait_closed()

    async def step():
        await asyncio.gather(*[client() for _ in range(CLIENTS)])

    async def ask():
        await world.repeat("rounds of clients of all loops", step, 0.02)

    await greet(world.loop, world.company, ask)


async def come_and_go(world):
    """Loops of short life, in threads of their own, serve it, too."""
    random = world.random("loops")

    def live(seconds):
        loop = type(world.loop)()
        try:
            loop.run_until_complete(greet(loop, world.company, lambda: asyncio.sleep(seconds)))
        finally:
            loop.close()

    async def step():
        times = [random.uniform(0, 0.05) for _ in range(2)]
        await asyncio.gather(*[world.loop.run_in_executor(None, live, seconds) for seconds in times])

    await world.repeat("loops that came and went", step, 0.02)


async def fork(world):
    """A child of a fork runs a loop, though it has but one of the threads."""

    def child():
        status = 1
        try:
            signal.alarm(CHILD_PATIENCE)
            loop = type(world.loop)()
            near, far = socket.socketpair()
            near.setblocking(False)
            far.setblocking(False)

            async def talk():
                await loop.sock_sendall(near, b"said")
                return await loop.sock_recv(far, 10)

            asyncio.events._set_running_loop(None)  # the parent's, whose thread this was
            status = 0 if loop.run_until_complete(talk()) == b"said" else 2
            loop.close()
        finally:
            os._exit(status)

    def wait(number):
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

    async def step():
        number = os.fork()
        if number == 0:
            child()
        status = await world.loop.run_in_executor(None, wait, number)
        assert status == 0, f"the child of a fork ended with {status}"

    if world.forks:
        await world.repeat("forks", step, 0.7)
