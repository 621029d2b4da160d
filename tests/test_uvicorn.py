"""uvicorn serves a FastAPI application on the loop, in a process of its own, and httpx and raw sockets use it.

The servers run on zloop and on asyncio, the reference, with both of uvicorn's HTTP implementations. All their tests
together have one server of each sort, except those that end it.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import TIME_LIMIT, close_loop, new_loop, reset, run_bounded

pytest.importorskip("fastapi")
pytest.importorskip("httptools")
pytest.importorskip("httpx")
pytest.importorskip("python_multipart")
pytest.importorskip("uvicorn")

import httpx
from uvicorn_app import BLOCK_SIZE, PARTY, block

LOOP_ARGUMENT = {"zloop": "zloop:new_event_loop", "asyncio": "asyncio"}
"""What uvicorn's --loop is given, by kind of loop."""

HTTP_IMPLEMENTATIONS = ("httptools", "h11")

PLAIN_HTTP = {"verify": False, "trust_env": False}
"""What keeps httpx from looking for proxies, and from loading certificates, which would take most of the time."""

MANY_BLOCKS = 512
"""A download of 32 MiB: far more than any socket buffers hold, so that it stands still while nobody receives."""

SMALL_BUFFER = 1 << 16
"""Bytes that a slow client's socket takes in while nobody receives."""

MEMORY_MARGIN = 8 << 20
"""Bytes that a server may grow by while it serves MANY_BLOCKS to a slow client."""

EXIT_STATUS = {signal.SIGINT: 0, signal.SIGTERM: -signal.SIGTERM}
"""uvicorn sends itself the signal again once it has shut down, for whoever waits for the process to see it."""


def pytest_generate_tests(metafunc):
    if "shared_server" in metafunc.fixturenames:
        only = metafunc.config.getoption("--loop-kind")
        sorts = list(itertools.product([only] if only else LOOP_ARGUMENT, HTTP_IMPLEMENTATIONS))
        names = ["-".join(sort) for sort in sorts]
        metafunc.parametrize("shared_server", sorts, ids=names, indirect=True, scope="module")


# -- the server ----------------------------------------------------------------------------------------------------


def eventually(probe, awaited):
    """Call probe() until it gives something true, and return that; fail after TIME_LIMIT seconds."""
    deadline = time.monotonic() + TIME_LIMIT
    while not (result := probe()):
        assert time.monotonic() < deadline, f"waited in vain for {awaited}"
        time.sleep(0.005)
    return result


class Server:
    """A uvicorn process: its kind of loop, and the url where it can be reached once it is ready."""

    def __init__(self, kind, http, log_path):
        self.kind = kind
        self.url = None
        self._log_path = log_path
        with open(log_path, "wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-W", "default", "-m", "uvicorn", "uvicorn_app:app"),
                    *("--app-dir", str(Path(__file__).parent), "--port", "0", "--no-access-log"),
                    *("--loop", LOOP_ARGUMENT[kind], "--http", http),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self):
        """Wait until the server listens, and take its url from the log."""
        address = re.compile(r"running on (http://\S+)")
        eventually(lambda: address.search(self.log()) or self._process.poll() is not None, "the server to listen")
        assert self._process.poll() is None, f"the server ended: {self.log()}"
        self.url = address.search(self.log())[1]

    def client(self, *, receive_buffer=None):
        """A new httpx.Client, which has connections of its own, with receive buffers of that many bytes."""
        options = [] if receive_buffer is None else [(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)]
        transport = httpx.HTTPTransport(socket_options=options, **PLAIN_HTTP)
        return httpx.Client(base_url=self.url, timeout=TIME_LIMIT, transport=transport)

    def connect(self):
        """A socket connected to the server."""
        url = httpx.URL(self.url)
        return socket.create_connection((url.host, url.port), TIME_LIMIT)

    def log(self):
        """All that the process has written."""
        return self._log_path.read_text()

    def wait_for_log(self, text):
        eventually(lambda: text in self.log(), text)

    def complaints(self):
        """The lines in the log that are not uvicorn's information: warnings, errors, tracebacks."""
        return [line for line in self.log().splitlines() if not line.startswith("INFO: ")]

    def resident_size(self):
        """Bytes of memory that the process occupies."""
        self._look_up()
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def sockets(self):
        """How many sockets the process has open."""
        self._look_up()
        count = 0
        for link in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                count += os.readlink(link).startswith("socket:")
        return count

    def _look_up(self):
        if sys.platform != "linux":
            pytest.skip("looks the server up in /proc")

    def send_signal(self, number):
        self._process.send_signal(number)

    def finish(self):
        """Wait for the process to end, and return its status."""
        return self._process.wait(TIME_LIMIT)

    def kill(self):
        """End the process if it still runs."""
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def running_server(kind, http, directory):
    """A Server that must not have complained by the end of the block."""
    server = Server(kind, http, directory / f"{kind}-{http}.log")
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()
    assert server.complaints() == []


@pytest.fixture(scope="module")
def shared_server(request, tmp_path_factory):
    """The server of one sort that the tests share; in the end it is interrupted, and shuts down without a fuss."""
    with running_server(*request.param, tmp_path_factory.mktemp("uvicorn")) as server:
        yield server
        server.send_signal(signal.SIGINT)
        assert server.finish() == EXIT_STATUS[signal.SIGINT]
        assert "Finished server process" in server.log()


@pytest.fixture
def server(shared_server):
    """A server that by the end of the test has not complained, and has closed every connection that the test made."""
    complaints, sockets = len(shared_server.complaints()), shared_server.sockets()
    yield shared_server
    eventually(lambda: shared_server.sockets() <= sockets, "the server to close its connections")
    assert shared_server.complaints()[complaints:] == []


@pytest.fixture
def client(server):
    """An httpx.Client of the server."""
    with server.client() as client:
        yield client


# -- requests ------------------------------------------------------------------------------------------------------


def get(client, path):
    """What the server answers to a GET request, decoded from JSON."""
    return client.get(path).raise_for_status().json()


def wait_for_transfer(client, name, **wanted):
    """Wait until what the server says of the upload or download by that name includes all of wanted."""
    eventually(lambda: wanted.items() <= (get(client, f"/transfers/{name}") or {}).items(), f"{name} to be {wanted}")


def settled_transfer(client, name):
    """Return what the server says of an upload or download, once it says the same twice in a row."""
    path = f"/transfers/{name}"
    return eventually(lambda: (first := get(client, path)) == get(client, path) and first, f"{name} to stand still")


def download_path(name, blocks):
    return f"/download/{name}?blocks={blocks}"


def sha256(chunks):
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def blocks(count):
    """The blocks that a download consists of; they make a good upload, too."""
    return map(block, range(count))


def request_head(method, path, *headers):
    """The bytes of an HTTP request up to the empty line."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode()


# -- the tests -----------------------------------------------------------------------------------------------------


def test_server_runs_on_that_loop(server, client):
    module = get(client, "/loop")
    assert module.partition(".")[0] == server.kind
    assert f"The application starts on {module}.\n" in server.log()


def test_keep_alive(server, client):
    ports = {get(client, "/client") for _ in range(20)}
    assert len(ports) == 1
    with server.client() as other:
        assert get(other, "/client") not in ports


def test_pipelined_requests(server):
    """Many requests sent at once, one with a body among them, are answered in their order."""
    body = bytes(1000)
    requests = [request_head("GET", f"/number/{number}") for number in range(50)]
    requests.append(request_head("POST", "/upload/pipelined", f"Content-Length: {len(body)}") + body)
    requests += [request_head("GET", f"/number/{number}") for number in range(50, 100)]
    requests.append(request_head("GET", "/number/100", "Connection: close"))
    with server.connect() as sock:
        sock.sendall(b"".join(requests))
        received = b"".join(iter(lambda: sock.recv(65536), b""))
    answers = [answer.partition(b"\r\n\r\n")[2].decode() for answer in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert answers == [*map(str, range(50)), f'"{sha256([body])}"', *map(str, range(50, 101))]


def test_large_upload(client):
    answer = client.post("/upload/large", content=blocks(MANY_BLOCKS)).raise_for_status()
    assert answer.json() == sha256(blocks(MANY_BLOCKS))
    wait_for_transfer(client, "large", size=MANY_BLOCKS * BLOCK_SIZE, state="complete")


def test_large_download(client):
    with client.stream("GET", download_path("large", MANY_BLOCKS)) as answer:
        assert sha256(answer.iter_raw()) == sha256(blocks(MANY_BLOCKS))
    wait_for_transfer(client, "large", size=MANY_BLOCKS * BLOCK_SIZE, state="complete")


def test_form_upload(client):
    """The server writes and reads the file in threads, which hand their results to the loop."""
    content = random.Random("form").randbytes(5 << 20)
    answer = client.post("/form", files={"file": ("a name", content)}).raise_for_status()
    assert answer.json() == ["a name", sha256([content])]


def test_endpoints_in_threads(server):
    """They wait for one another, which must not keep the loop from starting the next one."""
    with ThreadPoolExecutor(PARTY) as pool, server.client() as client:
        answers = pool.map(lambda _: get(client, "/together"), range(PARTY))
        assert sorted(answers) == list(range(PARTY))


def test_many_connections_at_once(server):
    """The client's side is on the loop under test as well."""

    async def numbers():
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.url, timeout=TIME_LIMIT, limits=limits, **PLAIN_HTTP) as client:
            answers = await asyncio.gather(*(client.get(f"/number/{number}") for number in range(100)))
        return [answer.raise_for_status().json() for answer in answers]

    loop = new_loop(server.kind)
    try:
        assert run_bounded(loop, numbers()) == list(range(100))
    finally:
        close_loop(loop)


def test_slow_client(server, client):
    """The server stops producing what a client is slow to receive, instead of keeping it, and serves others."""
    with server.client(receive_buffer=SMALL_BUFFER) as slow:
        get(slow, "/loop")
        size_before = server.resident_size()
        with slow.stream("GET", download_path("slow", MANY_BLOCKS)) as answer:
            pieces = answer.iter_raw()
            received = []
            for _ in range(10):
                received += itertools.islice(pieces, 10)
                assert settled_transfer(client, "slow")["state"] == "running"
                assert server.resident_size() < size_before + MEMORY_MARGIN
            assert sha256([*received, *pieces]) == sha256(blocks(MANY_BLOCKS))


def test_client_leaves_during_download(server, client):
    path = download_path("left", MANY_BLOCKS)
    with server.client(receive_buffer=SMALL_BUFFER) as leaving, leaving.stream("GET", path):
        assert settled_transfer(client, "left")["state"] == "running"
    wait_for_transfer(client, "left", state="cut off")


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["close", "reset"])
def test_client_leaves_during_upload(server, client, leave):
    name = f"left-by-{leave.__name__}"
    with server.connect() as sock:
        sock.sendall(request_head("POST", f"/upload/{name}", f"Content-Length: {2 * BLOCK_SIZE}") + block(0))
        wait_for_transfer(client, name, size=BLOCK_SIZE, state="running")
        leave(sock)
    wait_for_transfer(client, name, size=BLOCK_SIZE, state="cut off")


@pytest.mark.parametrize("http", HTTP_IMPLEMENTATIONS)
@pytest.mark.parametrize("number", EXIT_STATUS, ids=lambda number: number.name)
def test_signal_lets_requests_finish(loop_kind, http, number, tmp_path):
    """An upload and a download are under way: both are brought to their ends, new connections are refused."""
    with (
        running_server(loop_kind, http, tmp_path) as server,
        server.client(receive_buffer=SMALL_BUFFER) as client,
        server.client() as newcomer,
    ):

        def body():
            yield block(0)
            wait_for_transfer(client, "upload", size=BLOCK_SIZE, state="running")
            assert settled_transfer(client, "download")["state"] == "running"
            server.send_signal(number)
            server.wait_for_log("Waiting for connections to close.")
            with pytest.raises(httpx.ConnectError):
                newcomer.get("/loop")
            yield block(1)

        with client.stream("GET", download_path("download", MANY_BLOCKS)) as download:
            upload = client.post("/upload/upload", content=body()).raise_for_status()
            assert sha256(download.iter_raw()) == sha256(blocks(MANY_BLOCKS))
        assert upload.json() == sha256(blocks(2))
        assert server.finish() == EXIT_STATUS[number]
        stages = ["Shutting down", "Waiting for connections", "The application ends", "Finished server process"]
        assert re.findall("|".join(stages), server.log()) == stages
