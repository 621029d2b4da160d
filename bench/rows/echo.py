"""Echo servers: each way to write one, on each kind of socket."""

from __future__ import annotations

import asyncio
import socket

from rows.declare import KIB, Place, run_behind, server

SIZES = {"1k": 1 * KIB, "10k": 10 * KIB, "100k": 100 * KIB}
CONNECTIONS = (16, 1000)
BUFFER_SIZE = 256 * KIB


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Reads into one buffer, shared by all connections as nothing of it outlives the read, and writes a copy."""

    buffer = memoryview(bytearray(BUFFER_SIZE))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def serve_protocol(place: Place) -> object:
    return await place.serve(Echo)


async def serve_buffered(place: Place) -> object:
    return await place.serve(BufferedEcho)


async def serve_read(place: Place) -> object:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(BUFFER_SIZE):
            writer.write(data)
            await writer.drain()
        writer.close()

    return await place.start(echo)


def serve_readexactly(size: int):
    async def serve(place: Place) -> object:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                try:
                    data = await reader.readexactly(size)
                except asyncio.IncompleteReadError:
                    break
                writer.write(data)
                await writer.drain()
            writer.close()

        return await place.start(echo)

    return serve


async def serve_readline(place: Place) -> object:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    return await place.start(echo, limit=BUFFER_SIZE)


async def serve_readuntil(place: Place) -> object:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                break
            writer.write(line)
            await writer.drain()
        writer.close()

    return await place.start(echo, limit=BUFFER_SIZE)


async def serve_sockets(place: Place) -> object:
    loop = asyncio.get_running_loop()
    tasks = set()

    async def echo(connection: socket.socket) -> None:
        with connection:
            while data := await loop.sock_recv(connection, BUFFER_SIZE):
                await loop.sock_sendall(connection, data)

    async def accept() -> None:
        while True:
            connection, _ = await loop.sock_accept(place.socket)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(echo(connection))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    return run_behind(accept())


async def serve_datagrams(place: Place) -> object:
    return await asyncio.get_running_loop().create_datagram_endpoint(DatagramEcho, sock=place.socket)


async def serve_datagram_socket(place: Place) -> object:
    loop = asyncio.get_running_loop()

    async def echo() -> None:
        while True:
            data, address = await loop.sock_recvfrom(place.socket, 64 * KIB)
            await loop.sock_sendto(place.socket, data, address)

    return run_behind(echo())


WAYS = {
    "protocol": ("Protocol", serve_protocol),
    "buffered": ("BufferedProtocol", serve_buffered),
    "streams": ("streams, read()", serve_read),
    "sock": ("sock_recv(), sock_sendall()", serve_sockets),
}
FURTHER_WAYS = {
    "readline": ("streams, readline()", serve_readline),
    "readuntil": ("streams, readuntil()", serve_readuntil),
}

for connections in CONNECTIONS:
    suffix = "" if connections == CONNECTIONS[0] else f"-{connections}"
    for label, size in SIZES.items():
        common = {"topic": "echo", "load": f"echo --size {size} --connections {connections}", "limit": "echo"}
        about = f"{size // KIB} KiB, {connections} connections"
        exactly = ("streams, readexactly()", serve_readexactly(size))
        for way, (what, serve) in {**WAYS, "readexactly": exactly, **FURTHER_WAYS}.items():
            server(f"echo-{label}-{way}{suffix}", f"{what}, {about}", serve, **common)
        for way in ("protocol", "streams"):
            what, serve = WAYS[way]
            server(f"unix-{label}-{way}{suffix}", f"{what}, unix socket, {about}", serve, family="unix", **common)

for label, size in list(SIZES.items())[:2]:
    common = {"topic": "echo", "load": f"datagrams --size {size}", "limit": "datagrams", "family": "udp"}
    server(f"udp-{label}-endpoint", f"DatagramProtocol, {size // KIB} KiB", serve_datagrams, **common)
    server(f"udp-{label}-sock", f"sock_recvfrom(), sock_sendto(), {size // KIB} KiB", serve_datagram_socket, **common)
