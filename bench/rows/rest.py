"""Floods of datagrams, names, descriptors, processes; loops themselves, and what they weigh."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator

from rows.declare import KIB, Bench, Place, measurement, operation, server
from rows.echo import serve_protocol

BURST = 32
"""Datagrams in a row: as many as the kernel's default buffers hold from all the senders together."""

FLOOD = {"topic": "rest", "family": "udp"}
LITERAL = ("192.0.2.1", 443)


class Flooded(asyncio.DatagramProtocol):
    """Answers the last datagram of a burst."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received: dict[tuple[str, int], int] = {}

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        received = self.received.get(addr, 0) + 1
        if received == BURST:
            self.transport.sendto(data, addr)
            received = 0
        self.received[addr] = received


class Flooding(asyncio.DatagramProtocol):
    """Answers a datagram with a burst."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for _ in range(BURST):
            self.transport.sendto(data, addr)


async def serve_flooded(place: Place) -> object:
    return await asyncio.get_running_loop().create_datagram_endpoint(Flooded, sock=place.socket)


async def serve_flooding(place: Place) -> object:
    return await asyncio.get_running_loop().create_datagram_endpoint(Flooding, sock=place.socket)


server(
    "udp-flood-in",
    f"a datagram received, {BURST} in a row",
    serve_flooded,
    load=f"datagrams --connections 4 --size 64 --burst {BURST}",
    limit=f"datagrams --burst {BURST}",
    **FLOOD,
)
server(
    "udp-flood-out",
    f"a datagram sent, {BURST} in a row",
    serve_flooding,
    load=f"datagrams --connections 4 --size 64 --answers {BURST}",
    limit=f"datagrams --answers {BURST}",
    **FLOOD,
)
server(
    "memory",
    "memory of an idle connection, Protocol",
    serve_protocol,
    topic="rest",
    load="idle --connections 1000 --size 1024",
    limit="echo",
    unit="bytes",
    fresh=True,
)


@operation("getaddrinfo", "getaddrinfo() of a literal", topic="rest")
async def getaddrinfo(count: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.getaddrinfo(*LITERAL, type=socket.SOCK_STREAM)


@contextlib.asynccontextmanager
async def socket_pair(bench: Bench) -> AsyncIterator[socket.socket]:
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        yield here


@operation("add-reader", "add_reader(), remove_reader()", topic="rest", setup=socket_pair)
async def add_reader(count: int, here: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    fd = here.fileno()
    for number in range(count):
        loop.add_reader(fd, int)
        loop.remove_reader(fd)
        if not number % 1000:
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def sink(bench: Bench) -> AsyncIterator[int]:
    """The port of a server that drops all that it gets, in a process of its own."""
    command = [str(bench.tools / "limit"), "sink", "--listen", "tcp:0"]
    if bench.core is not None:
        command += ["--core", str(bench.core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as limit:
        try:
            assert limit.stdout is not None
            yield int(limit.stdout.readline())
        finally:
            limit.kill()


@operation("connect-abort", "create_connection(), abort()", topic="rest", transports=True, setup=sink)
async def connect_abort(count: int, port: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(count):
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
        transport.abort()


async def spawn(count: int, *ballast: bytearray) -> None:
    for _ in range(count):
        process = await asyncio.create_subprocess_exec("/bin/true", stdin=subprocess.DEVNULL)
        assert await process.wait() == 0


@contextlib.asynccontextmanager
async def ballast(bench: Bench) -> AsyncIterator[bytearray]:
    """1 GiB of memory, all of it in use."""
    block = bytearray(1 << 30)
    block[:: 4 * KIB] = b"\1" * (len(block) // (4 * KIB))
    yield block


operation("spawn", "a process started and waited for", topic="rest", waits=True)(spawn)
operation("spawn-1-gib", "a process started by one of 1 GiB", topic="rest", setup=ballast, waits=True)(spawn)


@operation("pipe", "MiB through a subprocess's stdout", topic="rest", unit="MiB/s", transports=True, waits=True)
async def pipe(count: int) -> None:
    process = await asyncio.create_subprocess_exec(
        "/usr/bin/head", "-c", f"{count}M", "/dev/zero", stdout=subprocess.PIPE, limit=1024 * KIB
    )
    assert process.stdout is not None
    received = 0
    while data := await process.stdout.read(1024 * KIB):
        received += len(data)
    assert received == count * 1024 * KIB
    await process.wait()


@measurement("new-loop", "a loop made, run once and closed", topic="rest", unit="/s", lower_is_better=False)
def new_loop(bench: Bench) -> float:
    async def main() -> None:
        pass

    new_event_loop = bench.find_factory()
    best = 0.0
    ends = time.perf_counter() + bench.budget
    while not best or time.perf_counter() < ends:
        began = time.process_time()
        for _ in range(20):
            loop = new_event_loop()
            loop.run_until_complete(main())
            loop.close()
        best = max(best, 20 / (time.process_time() - began))
    return best


@measurement("import", "import, asyncio being there already", topic="rest", unit="ms", lower_is_better=True, fresh=True)
def import_time(bench: Bench) -> float:
    if bench.loop == "asyncio":
        raise SystemExit("it is there already")
    began = time.perf_counter()
    bench.find_factory()
    return 1e3 * (time.perf_counter() - began)
