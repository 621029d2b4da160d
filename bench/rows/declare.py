"""What a row of the comparison is, and how the files beside this one declare theirs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KIB = 1024
BACKLOG = 1024

Factory = Callable[[], asyncio.AbstractEventLoop]


@dataclass(frozen=True)
class Row:
    """One line of the tables. `unit` belongs to its values, of which the lower or the higher are the better."""

    name: str
    topic: str
    title: str
    unit: str
    lower_is_better: bool
    transports: bool
    """Whether it makes connections or uses sockets, which is where loops differ that share their scheduling."""


@dataclass(frozen=True)
class ServerRow(Row):
    """A server on the loop, loaded from outside; its value is the processor time of a request."""

    serve: Callable[[Place], Awaitable[Any]]
    """Starts serving; what it returns is kept for as long as the process serves."""
    load: tuple[str, ...]
    """The load generator's mode and options."""
    limit: tuple[str, ...]
    """The limit server's kind and options; empty where there is no such server."""
    family: str = "tcp"
    """tcp, unix or udp"""
    tls: bool = False
    fresh: bool = False
    """Whether a server can be measured only once: whatever it did before would show."""


@dataclass(frozen=True)
class LocalRow(Row):
    """Something that a process measures of itself."""

    measure: Callable[[Bench], float]
    fresh: bool = False
    """Whether a process can measure it only once."""


def listening_socket(family: str, path: str) -> socket.socket:
    if family == "udp":
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
    elif family == "unix":
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(path)
        bound.listen(BACKLOG)
    else:
        bound = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    bound.setblocking(False)
    return bound


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@dataclass
class Place:
    """Where a row's server is to be: a socket, bound and listening, and TLS if the row has it."""

    socket: socket.socket
    tls: ssl.SSLContext | None

    async def serve(self, protocol: Callable[[], asyncio.BaseProtocol]) -> asyncio.AbstractServer:
        """A server with a protocol for each connection."""
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if self.socket.family == socket.AF_UNIX else loop.create_server
        return await create(protocol, sock=self.socket, backlog=BACKLOG, ssl=self.tls)

    async def start(self, handler: Callable[..., Awaitable[None]], limit: int = 64 * KIB) -> asyncio.AbstractServer:
        """A server with a pair of streams for each connection; `limit` is the reader's, in bytes."""
        start = asyncio.start_unix_server if self.socket.family == socket.AF_UNIX else asyncio.start_server
        return await start(handler, sock=self.socket, backlog=BACKLOG, limit=limit, ssl=self.tls)


@dataclass
class Bench:
    """What a row that measures itself may need: the loop, and how much time it should take, in seconds."""

    loop: str
    find_factory: Callable[[], Factory]
    """Imports the loop."""
    budget: float
    tools: Path
    """The directory of the load generator and the limit server."""
    core: int | None
    """The core to leave to others, where processes are pinned."""
    certificate: str = ""
    key: str = ""
    """Files."""


ROWS: dict[str, Row] = {}


def add(row: Row) -> None:
    """Put a row into the comparison."""
    assert row.name not in ROWS, f"two rows are called {row.name}"
    ROWS[row.name] = row


Operation = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Operations:
    """Measures how often something can be done in a second: `body(count)` does it `count` times.

    `setup`, an asynchronous context manager, is entered before the clock runs; what it gives is the body's second
    argument.  The count grows until it takes a fair part of the budget, unless `count` fixes it.

    The second is one of the process's own processor time, so that what others take of the core does not count; `waits`
    is for what takes time without it, because another process or thread has to do its part: then it is the clock's.
    """

    body: Operation
    setup: Callable[[Bench], contextlib.AbstractAsyncContextManager[Any]] | None = None
    count: int | None = None
    waits: bool = False
    shortest: float = field(default=0.4, repr=False)  # of the budget, for one repetition

    def __call__(self, bench: Bench) -> float:
        with asyncio.Runner(loop_factory=bench.find_factory()) as runner:
            return runner.run(self.measure(bench))

    async def measure(self, bench: Bench) -> float:
        async with contextlib.AsyncExitStack() as stack:
            extra = (await stack.enter_async_context(self.setup(bench)),) if self.setup else ()
            count, elapsed = self.count or 1, 0.0
            ends = time.perf_counter() + bench.budget
            best = 0.0
            while not best or time.perf_counter() < ends:
                elapsed = await self.repeat(count, *extra)
                if self.count is None and elapsed < self.shortest * bench.budget:
                    count *= 2
                else:
                    best = max(best, count / elapsed)
            return best

    async def repeat(self, count: int, *extra: Any) -> float:
        clock = time.perf_counter if self.waits else time.process_time
        gc.collect()
        began = clock()
        await self.body(count, *extra)
        return clock() - began


def operation(name: str, title: str, *, topic: str, unit: str = "/s", transports: bool = False, **settings: Any) -> Any:
    """Declare a row by the coroutine function that does the operation; `settings` are those of Operations."""

    def declare(body: Operation) -> Operation:
        add(LocalRow(name, topic, title, unit, False, transports, Operations(body, **settings)))
        return body

    return declare


def measurement(name: str, title: str, *, topic: str, unit: str, lower_is_better: bool, fresh: bool = False) -> Any:
    """Declare a row by a function that measures by itself, and returns the value."""

    def declare(measure: Callable[[Bench], float]) -> Callable[[Bench], float]:
        add(LocalRow(name, topic, title, unit, lower_is_better, False, measure, fresh))
        return measure

    return declare


def server(
    name: str,
    title: str,
    serve: Callable[[Place], Awaitable[Any]],
    *,
    topic: str,
    load: str,
    limit: str,
    unit: str = "µs",
    family: str = "tcp",
    tls: bool = False,
    fresh: bool = False,
) -> None:
    """Declare a row by what serves, and by the command lines of the load generator and the limit server."""
    load_words, limit_words = tuple(load.split()), tuple(limit.split())
    add(ServerRow(name, topic, title, unit, True, True, serve, load_words, limit_words, family, tls, fresh))


def run_behind(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that serves; what ends it is logged at once, for whoever wonders why nothing answers."""
    task = asyncio.get_running_loop().create_task(coroutine)
    task.add_done_callback(asyncio.Task.result)
    return task


def batches(count: int, size: int) -> Iterator[int]:
    """`count` split into parts of `size`, and the rest."""
    for begin in range(0, count, size):
        yield min(size, count - begin)


@contextlib.asynccontextmanager
async def idle_connections(number: int) -> AsyncIterator[None]:
    """Connections of the running loop on which nothing happens."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    accepted: list[asyncio.BaseTransport] = []

    class Idle(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport)

    address = listener.getsockname()
    server_ = await loop.create_server(Idle, sock=listener, backlog=BACKLOG)
    clients = [socket.create_connection(address) for _ in range(number)]
    while len(accepted) < number:
        await asyncio.sleep(0.001)
    yield
    for client in clients:
        client.close()
    server_.close()
