"""HTTP and websockets: a parser straight on a Protocol, and the servers that people run."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from typing import Any

from rows.declare import Bench, Place, operation, run_behind, server

BODY = b"Hello, world!"
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY
HTTP = {"topic": "http", "load": "http", "limit": "http"}


async def serve_httptools(place: Place) -> object:
    import httptools

    class Http(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            self.parser = httptools.HttpRequestParser(self)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_message_complete(self) -> None:
            self.transport.write(RESPONSE)

    return await place.serve(Http)


async def serve_uvicorn(place: Place) -> object:
    import uvicorn

    async def application(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(BODY))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": BODY})

    config = uvicorn.Config(
        application, http="httptools", loop="none", lifespan="off", access_log=False, log_level="warning"
    )
    server_ = uvicorn.Server(config)
    serving = run_behind(server_.serve(sockets=[place.socket]))
    # Its answers have no date before, and are shorter.
    while not server_.started:
        await asyncio.sleep(0.01)
    return serving


async def serve_aiohttp(place: Place) -> object:
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=BODY, content_type="text/plain", charset="utf-8")

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.SockSite(runner, place.socket)
    await site.start()
    return site


async def serve_websockets(place: Place) -> object:
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    return await serve(echo, sock=place.socket, compression=None)


server("http-httptools", "httptools on a Protocol", serve_httptools, **HTTP)
server("http-uvicorn", "uvicorn with httptools", serve_uvicorn, **HTTP)
server("http-aiohttp", "aiohttp server", serve_aiohttp, **HTTP)
server(
    "websockets-1k", "websockets echo, 1 KiB", serve_websockets, topic="http", load="websocket --size 1024", limit=""
)


@contextlib.asynccontextmanager
async def client_session(bench: Bench) -> AsyncIterator[tuple[Any, str]]:
    """An aiohttp client, and the URL of the limit server, which is no bottleneck."""
    import aiohttp

    command = [str(bench.tools / "limit"), "http", "--listen", "tcp:0"]
    if bench.core is not None:
        command += ["--core", str(bench.core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as limit:
        try:
            assert limit.stdout is not None
            url = f"http://127.0.0.1:{int(limit.stdout.readline())}/"
            async with aiohttp.ClientSession() as session:
                yield session, url
        finally:
            limit.kill()


@operation(
    "http-client",
    "aiohttp client, 16 requests at once",
    topic="http",
    transports=True,
    setup=client_session,
    waits=True,
)
async def http_client(count: int, client: tuple[Any, str]) -> None:
    session, url = client

    async def worker(requests: int) -> None:
        for _ in range(requests):
            async with session.get(url) as response:
                assert await response.read() == BODY

    await asyncio.gather(*(worker((count + number) // 16) for number in range(16)))
