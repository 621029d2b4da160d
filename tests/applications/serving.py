"""What the tests of applications share: the pages of docs/ that they hold, servers in processes of their own, ports."""

import contextlib
import http.client
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import trustme
from support import LOCALHOST, TIME_LIMIT

DOCS = Path(__file__).parents[2] / "docs"

COMPLAINT = re.compile(r"error|critical|warning|traceback|exception|fatal|never (awaited|retrieved)", re.IGNORECASE)
"""What the log of a server that is well does not have."""


LISTENING = {
    "uvicorn": "--port {port}",
    "gunicorn": "--bind 127.0.0.1:{port}",
    "hypercorn": "--bind 127.0.0.1:{port}",
    "granian": "--port {port}",
    "sanic": "--port {port}",
    "aiohttp.web": "--hostname 127.0.0.1 --port {port}",
    "aiosmtpd": "--listen 127.0.0.1:{port}",
}
"""How each program is told its port; those of docs/servers.md take PORT from the environment."""

NOT_ZLOOPS = {
    ("uvicorn", "--workers"): "unclosed <socket.socket|Enable tracemalloc",  # what the parent process listens on
    ("uvicorn", "--reload"): r"WARNING: +\w+ detected changes in .*app\.py.* Reloading",
    ("sanic",): r"/sanic/\S+ DeprecationWarning: 'asyncio\.\w+' is deprecated",  # policies, from CPython 3.14 on
}
"""What a server's log may say on any loop, by words of its command."""


class Section(NamedTuple):
    """A section of a page: the programs in it by file name, and the command lines."""

    title: str
    files: dict[str, str]
    commands: list[str]


def sections(page):
    """The sections of a page of docs/, the first of which is what comes before the first heading."""
    first, *parts = re.split(r"^## (.+)\n", (DOCS / page).read_text(), flags=re.MULTILINE)
    found = []
    for title, text in [("", first), *zip(parts[::2], parts[1::2], strict=True)]:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        programs = [content for language, content in blocks if language == "python"]
        files = {re.match(r"# (\S+)\n", content)[1]: content for content in programs}
        commands = [line for language, content in blocks if not language for line in content.splitlines()]
        found.append(Section(title, files, commands))
    return found


def free_port():
    """A port of this machine that nobody listens on."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        return listener.getsockname()[1]


def eventually(probe, awaited, alive=lambda: True, limit=TIME_LIMIT):
    """Call probe() until it gives something true, and return that; fail after so many seconds, or when all is lost."""
    deadline = time.monotonic() + limit
    while not (result := probe()):
        assert alive(), f"it ended while the test waited for {awaited()}"
        assert time.monotonic() < deadline, f"waited in vain for {awaited()}"
        time.sleep(0.02)
    return result


def issue_certificate(folder):
    """Put the key and the certificate of a server here into a folder; return a client's context that trusts it."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", LOCALHOST)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for number, pem in enumerate(issued.cert_chain_pems):
        pem.write_to_path(folder / "cert.pem", append=number > 0)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def environment(**more):
    """What a program here is started with: this Python's programs first, and warnings of what is left open."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {"PATH": programs, "PYTHONWARNINGS": "default::ResourceWarning", "PYTHONFAULTHANDLER": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return inherited | settings | more


class Process:
    """A program in a session of its own, whose end is the end of all that it has started."""

    def __init__(self, command, folder, *, log="log", **options):
        self.command = command
        self._log_path = folder / log
        options.setdefault("env", environment())
        with self._log_path.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                **options,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_exc_info):
        with contextlib.suppress(ProcessLookupError):  # it or what it has started may be left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log(self):
        return self._log_path.read_text(errors="replace")

    def eventually(self, probe, awaited):
        running = lambda: self.process.poll() is None  # noqa: E731
        return eventually(probe, lambda: f"{awaited}, of {shlex.join(self.command)}:\n{self.log()}", running)

    def stop(self, number=signal.SIGTERM):
        """Tell it to end, and return its status."""
        self.process.send_signal(number)
        try:
            return self.process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{shlex.join(self.command)} does not end:\n{self.log()}") from None

    def complaints(self):
        return [line for line in self.log().splitlines() if COMPLAINT.search(line)]


class Answer(NamedTuple):
    loop: str
    process: int
    body: bytes


class Client:
    """Makes requests of the programs in docs/servers.md, which send back the body."""

    def __init__(self, port, context=None):
        self._port = port
        self.context = context

    def connect(self):
        if self.context is None:
            connection = http.client.HTTPConnection(LOCALHOST, self._port, timeout=TIME_LIMIT)
        else:
            connection = http.client.HTTPSConnection(LOCALHOST, self._port, timeout=TIME_LIMIT, context=self.context)
        return contextlib.closing(connection)

    def ask(self, connection, body=b""):
        headers = {"Content-Type": "application/octet-stream"}
        connection.request("POST" if body else "GET", "/", body or None, headers)
        response = connection.getresponse()
        assert response.status == http.client.OK, response.read()
        return Answer(response.headers["x-loop"], int(response.headers["x-process"]), response.read())

    def ask_once(self, body=b""):
        """The answer on a connection of its own; None where nobody listens."""
        with self.connect() as connection:
            try:
                return self.ask(connection, body)
            except (ConnectionError, http.client.RemoteDisconnected, ssl.SSLEOFError):
                return None

    def ask_together(self, count, body=b""):
        """The answers on so many connections at once."""
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.ask_once(body), range(count)))


class Server(Process):
    """A server that is started by a line of docs/servers.md."""

    def __init__(self, section, command, folder):
        for name, content in (sections("servers.md")[0].files | section.files).items():
            (folder / name).write_text(content)
        context = issue_certificate(folder) if "key.pem" in command else None
        port = free_port()
        self.words = shlex.split(command)
        listening = [LISTENING[word].format(port=port) for word in self.words if word in LISTENING][-1:]
        settings = {"XDG_RUNTIME_DIR": str(folder)}  # where gunicorn puts a socket of its own
        if not listening:
            settings["PORT"] = str(port)
        super().__init__([*self.words, *shlex.split(" ".join(listening))], folder, env=environment(**settings))
        self.folder, self.port, self.title = folder, port, section.title
        self.client = Client(port, context)

    def wait_until_ready(self):
        self.eventually(self.client.ask_once, "an answer")

    def processes(self, count, but=()):
        """Wait for answers of so many processes, all but those."""
        seen = set()

        def all_seen():
            seen.update(answer.process for answer in self.client.ask_together(4) if answer is not None)
            return len(seen - set(but)) == count

        self.eventually(all_seen, f"{count} processes to answer")
        return seen - set(but)

    def exit_status(self):
        """What it ends with when it is told to: uvicorn sends itself the signal again after shutting down."""
        alone = self.title == "uvicorn" and not {"--workers", "--reload"} & set(self.words)
        return -signal.SIGTERM if alone else 0

    def own_complaints(self):
        """The complaints in its log, but for those that are known not to be the loop's."""
        known = [pattern for words, pattern in NOT_ZLOOPS.items() if set(words) <= set(self.words)]
        return [line for line in self.complaints() if not any(re.search(pattern, line) for pattern in known)]
