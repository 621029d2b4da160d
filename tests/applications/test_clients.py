"""httpx, aiohttp's client, websockets and grpc.aio, on zloop and on asyncio, with servers that the tests start."""

import asyncio
import io
import os
import random
import ssl
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from serving import DOCS, Process, Server, environment, issue_certificate, sections
from support import LOCALHOST, port_of

httpx = pytest.importorskip("httpx", reason="it comes with nox -s applications")
aiohttp = pytest.importorskip("aiohttp", reason="it comes with nox -s applications")
websockets = pytest.importorskip("websockets", reason="it comes with nox -s applications")

LARGE = random.Random("large").randbytes(8 << 20)
PIECES = [LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000)]
LINES = {"http": "--loop zloop:new_event_loop", "https": "--ssl-keyfile key.pem --ssl-certfile cert.pem"}
"""What the line for uvicorn in docs/servers.md has for each scheme."""


@pytest.fixture(scope="module", params=LINES)
def server(request, tmp_path_factory):
    """The server of docs/servers.md, which sends bodies back, and its address."""
    [uvicorn] = [section for section in sections("servers.md") if section.title == "uvicorn"]
    command = next(command for command in uvicorn.commands if command.endswith(LINES[request.param]))
    with Server(uvicorn, command, tmp_path_factory.mktemp("server")) as server:
        server.wait_until_ready()
        server.url = f"{request.param}://{LOCALHOST}:{server.port}/"
        yield server


async def pieces():
    for piece in PIECES:
        yield piece
        await asyncio.sleep(0)


@pytest.fixture
def silent(loop, run):
    """The address of a server that never answers."""

    async def handle(reader, writer):
        await reader.read()
        writer.close()

    server = run(asyncio.start_server(handle, LOCALHOST, 0))
    yield f"http://{LOCALHOST}:{port_of(server)}/"
    server.close()
    run(server.wait_closed())


def test_httpx(run, server):
    """Requests at once, large bodies both ways, in one piece and in a stream."""

    async def scenario():
        verify = server.client.context or False
        async with httpx.AsyncClient(base_url=server.url, verify=verify, trust_env=False) as client:
            answers = await asyncio.gather(*(client.post("/", content=b"%d" % number) for number in range(50)))
            assert [answer.content for answer in answers] == [b"%d" % number for number in range(50)]
            assert {answer.headers["x-loop"] for answer in answers} == {"zloop.loop"}
            assert (await client.post("/", content=LARGE)).content == LARGE
            async with client.stream("POST", "/", content=pieces()) as answer:
                assert b"".join([piece async for piece in answer.aiter_raw()]) == LARGE

    run(scenario())


def test_httpx_gives_up(run, silent):
    async def scenario():
        async with httpx.AsyncClient(trust_env=False) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(silent, timeout=0.05)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(silent, timeout=None), 0.05)

    run(scenario())


def test_aiohttp(run, server):
    """Requests at once, large bodies both ways, in one piece and in a stream."""

    async def scenario():
        connector = aiohttp.TCPConnector(ssl=server.client.context or True)
        async with aiohttp.ClientSession(server.url, connector=connector) as client:

            async def ask(body):
                async with client.post("/", data=body) as answer:
                    assert answer.headers["x-loop"] == "zloop.loop"
                    return await answer.read()

            bodies = [b"%d" % number for number in range(50)]
            assert await asyncio.gather(*map(ask, bodies)) == bodies
            assert await ask(io.BytesIO(LARGE)) == LARGE
            async with client.post("/", data=pieces()) as answer:
                assert b"".join([piece async for piece in answer.content.iter_any()]) == LARGE

    run(scenario())


def test_aiohttp_gives_up(run, silent):
    async def scenario():
        async with aiohttp.ClientSession() as client:
            with pytest.raises(TimeoutError):
                await client.get(silent, timeout=aiohttp.ClientTimeout(sock_read=0.05))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(silent), 0.05)

    run(scenario())


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])
def test_websockets(run, kind, tmp_path):
    """Clients at once, small messages and a large one, pings, and a close that both sides agree upon."""
    context = issue_certificate(tmp_path) if kind == "tls" else None
    path = str(tmp_path / "socket")

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    def serve():
        if kind == "unix":
            return websockets.unix_serve(echo, path, max_size=None)
        return websockets.serve(echo, LOCALHOST, 0, ssl=server_context(tmp_path) if context else None, max_size=None)

    def connect(server):
        if kind == "unix":
            return websockets.unix_connect(path, "ws://localhost/", max_size=None)
        scheme = "wss" if context else "ws"
        return websockets.connect(f"{scheme}://{LOCALHOST}:{port_of(server)}/", ssl=context, max_size=None, proxy=None)

    async def talk(server, number):
        async with connect(server) as client:
            for message in [f"{number} {count}" for count in range(50)]:
                await client.send(message)
                assert await client.recv() == message
            await (await client.ping())
            return client

    async def scenario():
        async with serve() as server:
            clients = await asyncio.gather(*(talk(server, number) for number in range(10)))
            assert [client.close_code for client in clients] == [1000] * 10
            async with connect(server) as client:
                await client.send(LARGE)
                assert await client.recv() == LARGE

    run(scenario())


def server_context(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def test_table_on_the_page():
    """docs/clients.md names packages, in versions that there are, and tests that are there."""
    rows = [row.strip("| ").split(" | ") for row in (DOCS / "clients.md").read_text().splitlines() if "`test_" in row]
    assert len(rows) == 7
    for package, tried, *_, tests in rows:
        assert [int(part) for part in tried.split(".")] <= [int(part) for part in version(package).split(".")[:3]]
        assert Path(__file__).with_name(tests.strip("`")).exists()


@pytest.mark.parametrize("kind", ["zloop", "asyncio"])
def test_grpc(kind, tmp_path):
    """A server and clients of grpc.aio, in a process of their own, where gRPC's threads end with it."""
    pytest.importorskip("grpc", reason="it comes with nox -s applications")
    program = Path(__file__).with_name("grpc_program.py")
    settings = environment(PYTHONPATH=os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH")])))
    with Process([sys.executable, "-P", str(program), kind], tmp_path, env=settings) as process:
        assert process.process.wait(30) == 0, process.log()
        assert process.log() == f"{kind}: unary, streams, cancelled, late, refused\n"
