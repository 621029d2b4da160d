"""What a coroutine waits for: asyncio's streams, and the loop's sock_* calls, each with an echo of every byte."""

import asyncio
import socket

import keyed

HOST = "127.0.0.1"
PIECE = 65_536


async def run(world):
    await asyncio.gather(use_streams(world), use_sockets(world))


async def use_streams(world):
    random = world.random("streams")

    async def answer(reader, writer):
        while data := await reader.read(random.randrange(1, PIECE)):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, HOST, 0)
    port = server.sockets[0].getsockname()[1]

    async def step():
        key, count = random.getrandbits(48), random.randrange(1, 200_000)
        reader, writer = await asyncio.open_connection(HOST, port)

        async def send():
            for start in range(0, count, PIECE):
                writer.write(keyed.stream(key, start, min(PIECE, count - start)))
                await writer.drain()
            writer.write_eof()

        sending = asyncio.ensure_future(send())
        keyed.check(key, 0, await reader.readexactly(count))
        assert await reader.read() == b"", "more came back than was sent"
        await sending
        writer.close()
        await writer.wait_closed()

    await world.repeat("echoes by streams", step, 0.05)
    server.close()
    await server.wait_closed()


async def use_sockets(world):
    random, loop = world.random("sockets"), world.loop

    async def answer(listener):
        sock, _ = await loop.sock_accept(listener)
        with sock:
            while data := await loop.sock_recv(sock, random.randrange(1, PIECE)):
                await loop.sock_sendall(sock, data)

    async def step():
        key, count = random.getrandbits(48), random.randrange(1, 200_000)
        with socket.create_server((HOST, 0)) as listener, socket.socket() as sock:
            listener.setblocking(False)
            sock.setblocking(False)
            answering = asyncio.ensure_future(answer(listener))
            await loop.sock_connect(sock, listener.getsockname())
            sending = asyncio.ensure_future(loop.sock_sendall(sock, keyed.stream(key, 0, count)))
            memory, received = bytearray(PIECE), 0
            while received < count:
                length = await loop.sock_recv_into(sock, memory)
                assert length, f"{received} of {count} bytes came back"
                keyed.check(key, received, memory[:length])
                received += length
            await sending
            sock.shutdown(socket.SHUT_WR)
            await answering

    await world.repeat("echoes by sockets", step, 0.05)
