"""gunicorn serves on the loop, with uvicorn's and aiohttp's workers, on a TCP and a Unix socket at a time.

The real thing in processes of its own, on zloop and on asyncio: gunicorn binds the sockets, forks, and hands its
workers objects that wrap a socket.
"""

import contextlib
import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import TIME_LIMIT

WORKERS = 2

BODY = 300_000
"""Bytes of a request that does not come in one piece."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=TIME_LIMIT)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Gunicorn:
    """A gunicorn with its workers, and where it can be reached."""

    def __init__(self, folder, worker, kind, preload):
        self.path = str(folder / "socket")
        self._log_path = folder / "log"
        self._port = None
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-W", "default", "-m", "gunicorn", "gunicorn_app:app"),
                    *("--worker-class", f"gunicorn_app.{kind.capitalize()}Worker", "--workers", str(WORKERS)),
                    *("--bind", "127.0.0.1:0", "--bind", f"unix:{self.path}", "--graceful-timeout", "5"),
                    *(["--preload"] if preload else []),
                ],
                cwd=folder,
                env=os.environ
                | {"GUNICORN_WORKER": worker, "PYTHONPATH": python_path(), "XDG_RUNTIME_DIR": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_exc_info):
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def log(self):
        return self._log_path.read_text()

    def eventually(self, probe, awaited):
        """Call probe() until it gives something true, and return that; fail after TIME_LIMIT seconds."""
        deadline = time.monotonic() + TIME_LIMIT
        while not (result := probe()):
            assert self._process.poll() is None, f"gunicorn ended: {self.log()}"
            assert time.monotonic() < deadline, f"waited in vain for {awaited}: {self.log()}"
            time.sleep(0.01)
        return result

    def wait_until_ready(self):
        listening = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
        self._port = int(self.eventually(lambda: listening.search(self.log()), "gunicorn to listen")[1])

    def request(self, transport, body=b""):
        """Who has answered on a new connection, as gunicorn_app has it; None while nobody can be reached there."""
        if transport == "tcp":
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIME_LIMIT)
        else:
            connection = UnixConnection(self.path)
        with contextlib.closing(connection):
            try:
                connection.request("POST", "/", body)
                response = connection.getresponse()
                assert (response.status, response.headers["x-received"]) == (200, str(len(body)))
                return json.load(response)
            except (ConnectionError, http.client.RemoteDisconnected, FileNotFoundError):
                return None

    def workers(self, but=()):
        """The numbers of all the workers' processes, once each has answered and none of `but` is among them."""
        seen = set()

        def all_seen():
            told = self.request("tcp") or {}
            if told.get("pid") in but:
                seen.clear()
            elif told:
                seen.add(told["pid"])
            return len(seen) == WORKERS

        self.eventually(all_seen, "every worker to answer")
        return seen

    def reload(self):
        self._process.send_signal(signal.SIGHUP)

    def stop(self):
        """End it in good order, and return the complaints in its log."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(TIME_LIMIT) == 0, self.log()
        complaint = re.compile(r"ERROR|CRITICAL|WARNING|ResourceWarning|RuntimeWarning|Traceback")
        return [line for line in self.log().splitlines() if complaint.search(line)]


def python_path():
    """What this process imports from: the applications beside this file, and wherever zloop is."""
    return os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.mark.parametrize(
    ("worker", "preload"),
    [("uvicorn", False), ("uvicorn", True), ("aiohttp", True)],
    ids=["uvicorn", "uvicorn-preload", "aiohttp-preload"],
)
def test_gunicorn_serves(loop_kind, worker, preload, tmp_path):
    """Two workers answer on both sockets, new ones take over at a reload, and all end in good order."""
    for package in ("gunicorn", worker):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not to be had for this Python")
    with Gunicorn(tmp_path, worker, loop_kind, preload) as server:
        server.wait_until_ready()
        first = server.workers()
        for transport in ("tcp", "unix"):
            told = server.eventually(lambda: server.request(transport, b"x" * BODY), f"an answer by {transport}")
            assert told["loop"].partition(".")[0] == loop_kind
        server.reload()
        second = server.workers(but=first)
        server.eventually(lambda: (server.request("unix") or {}).get("pid") in second, "a new worker by unix")
        assert server.stop() == []
        assert not os.path.exists(server.path)


REASONS = {
    "sys.modules['gunicorn'] = None": "needs (gunicorn|uvicorn), which is not installed: pip install gunicorn uvicorn-",
    "sys.modules['uvicorn'] = None": "needs uvicorn, which is not installed: pip install gunicorn uvicorn-worker",
    "import uvicorn.config as c; del c.Config.get_loop_factory": "needs uvicorn 0.36 or later: pip install -U uvicorn",
}
"""What is said where something is missing; without uvicorn either, that comes first."""


@pytest.mark.parametrize("lack", REASONS, ids=["gunicorn", "uvicorn", "older-uvicorn"])
def test_worker_class_says_what_to_install(lack):
    """A Python that lacks this or that is a process of its own."""
    if "import uvicorn" in lack and importlib.util.find_spec("uvicorn") is None:
        pytest.skip("uvicorn is not to be had for this Python")
    script = f"import sys, zloop.gunicorn\n{lack}\nzloop.gunicorn.UvicornWorker"
    done = subprocess.run([sys.executable, "-P", "-c", script], check=False, capture_output=True, text=True)
    assert re.search(rf"^ImportError: zloop\.gunicorn\.UvicornWorker {REASONS[lack]}", done.stderr, re.MULTILINE)
    assert done.returncode == 1


def test_module_of_workers_has_no_others():
    import zloop.gunicorn

    with pytest.raises(AttributeError, match=r"module 'zloop\.gunicorn' has no attribute 'Worker'"):
        zloop.gunicorn.Worker  # noqa: B018  (made when it is asked for)


@pytest.mark.zloop_only
def test_worker_package_that_lacks_something_itself(tmp_path, monkeypatch):
    (tmp_path / "uvicorn_worker.py").write_text("import nowhere.to.be.found")
    monkeypatch.syspath_prepend(tmp_path)
    pytest.importorskip("uvicorn")
    pytest.importorskip("gunicorn")
    workers = pytest.importorskip("zloop.gunicorn")
    with pytest.raises(ImportError, match=r"needs nowhere, which is not installed"):
        workers.UvicornWorker  # noqa: B018  # it is looked for now
