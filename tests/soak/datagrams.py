"""Datagrams and names: each datagram arrives as it was sent, in order; names resolve to what they are."""

import asyncio
import contextlib
import socket
import sys

import keyed

SIZES = (0, 1, 100, 1400, 9000, 60_000)
if sys.version_info < (3, 13):  # which sends no empty datagrams
    SIZES = SIZES[1:]
AT_ONCE = 2
HOST = "127.0.0.1"


async def run(world):
    await asyncio.gather(exchange(world), resolve(world))


class Echo(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)


class Asker(asyncio.DatagramProtocol):
    """Keeps what arrives."""

    def __init__(self):
        self.received = asyncio.Queue()
        self.lost = asyncio.Event()

    def datagram_received(self, data, address):
        self.received.put_nowait(data)

    def error_received(self, exc):
        self.received.put_nowait(exc)

    def connection_lost(self, exc):
        self.lost.set()


async def exchange(world):
    random = world.random("datagrams")
    server, _ = await world.loop.create_datagram_endpoint(Echo, (HOST, 0))
    address = server.get_extra_info("sockname")

    async def step():
        transport, asker = await world.loop.create_datagram_endpoint(Asker, remote_addr=address)
        with contextlib.closing(transport):
            for _ in range(random.randrange(1, 20)):
                # No more at once than a socket's buffer holds: the kernel drops the others.
                sent = [(random.getrandbits(48), random.choice(SIZES)) for _ in range(AT_ONCE)]
                for key, size in sent:
                    transport.sendto(keyed.stream(key, 0, size) if size else b"")
                for key, size in sent:
                    data = await asker.received.get()
                    assert isinstance(data, bytes), f"a datagram of {size} bytes: {data!r}"
                    assert len(data) == size, f"a datagram of {size} bytes came back with {len(data)}"
                    keyed.check(key, 0, data)
        await asker.lost.wait()

    try:
        await world.repeat("exchanges of datagrams", step, 0.05)
    finally:
        server.close()


async def resolve(world):
    async def step():
        for host, flags in (("localhost", 0), (HOST, socket.AI_NUMERICHOST)):
            found = await world.loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=flags)
            assert all(entry[4][1] == 80 for entry in found), f"{host}: {found}"
        name = await world.loop.getnameinfo((HOST, 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
        assert name == (HOST, "80"), f"{HOST} is named {name}"

    await world.repeat("names", step, 0.2)
