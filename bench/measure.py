"""Takes samples: a process for the loop, for a server a load generator beside it, each on a core of its own."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from loops import LIMIT, LOOPS
from rows import LocalRow, Row, ServerRow
from stats import Sample

HERE = pathlib.Path(__file__).parent
PATIENCE = 60.0
"""Seconds that any process may live."""
START_PATIENCE = 20.0
"""Seconds that a server may take to listen."""


class Failed(Exception):
    """A sample could not be taken; the message says why."""


@dataclass(frozen=True)
class Workshop:
    """What every sample needs: directories, files, and for how long to measure, in seconds."""

    peers: pathlib.Path
    tools: pathlib.Path
    scratch: pathlib.Path
    certificate: pathlib.Path
    key: pathlib.Path
    warm_up: float
    window: float
    budget: float

    @property
    def cores(self) -> tuple[int | None, int | None]:
        """One for what is measured, and one for the load; (None, None) on a machine with one core."""
        cores = sorted(os.sched_getaffinity(0))
        return (cores[0], cores[1]) if len(cores) > 1 else (None, None)


def applies(row: Row, loop: str) -> str | None:
    """Why a loop is no contestant on a row, or None if it is one."""
    if loop == LIMIT:
        return None if isinstance(row, ServerRow) and row.limit else "there is no such server without Python"
    if LOOPS[loop].patch and not row.transports:
        return f"{LOOPS[loop].patch} changes nothing here"
    return None


def take_sample(row: Row, loop: str, shop: Workshop) -> Sample:
    """Measure once. Raises Failed."""
    watch = ForeignTime()
    if isinstance(row, ServerRow):
        fields = measure_server(row, loop, shop)
        return Sample(fields["cost"], watch.share(), fields.get("rate"), fields.get("p99"))
    assert isinstance(row, LocalRow)
    return Sample(measure_local(row, loop, shop), watch.share())


class ForeignTime:
    """The processor time that others use: the machine's, less this process's and its children's that have ended."""

    def __init__(self) -> None:
        self.before = self.now()

    def share(self) -> float:
        """Of one core, since this object was made."""
        machine, own, clock = (after - before for after, before in zip(self.now(), self.before, strict=True))
        return max(0.0, (machine - own) / clock)

    @staticmethod
    def now() -> tuple[float, float, float]:
        with pathlib.Path("/proc/stat").open() as file:
            user, nice, system, _, _, _, _, steal = map(int, file.readline().split()[1:9])
        machine = (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return machine, sum(usage.ru_utime + usage.ru_stime for usage in usages), time.monotonic()


def measure_local(row: LocalRow, loop: str, shop: Workshop) -> float:
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            child_command(row, loop, shop, *options("--budget", shop.budget)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"not done after {PATIENCE:g} s{last_words(errors)}") from None
        finally:
            end(process)
        if process.returncode:
            raise Failed(f"{describe(process.returncode)}{last_words(errors)}")
        return float(output)


def measure_server(row: ServerRow, loop: str, shop: Workshop) -> dict[str, float | None]:
    with running_server(row, loop, shop) as (process, address):
        _, core = shop.cores
        command = [
            *(str(shop.tools / "load"), *row.load, "--server", address, "--pid", str(process.pid)),
            *options("--core", core),
            *options("--warm-up", round(1000 * shop.warm_up)),
            *options("--window", round(1000 * shop.window)),
        ]
        try:
            load = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"the load generator was not done after {PATIENCE:g} s") from None
        if load.returncode:
            raise Failed(load.stderr.strip() or f"the load generator ended with {describe(load.returncode)}")
        return json.loads(load.stdout)


@contextlib.contextmanager
def running_server(row: ServerRow, loop: str, shop: Workshop) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server's process while the block runs, and its address as the load generator takes it."""
    path = shop.scratch / "server.sock"
    path.unlink(missing_ok=True)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            limit_command(row, path, shop) if loop == LIMIT else server_command(row, loop, path, shop),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            port = read_port(process)
            yield process, f"unix:{path}" if row.family == "unix" else f"{row.family}:{port}"
        except Failed as failure:
            status = process.poll()
            how = f"; the server ended with {describe(status)}" if status is not None else ""
            raise Failed(f"{failure}{how}{last_words(errors)}") from None
        finally:
            end(process)


def limit_command(row: ServerRow, path: pathlib.Path, shop: Workshop) -> list[str]:
    core, _ = shop.cores
    return [
        *(str(shop.tools / "limit"), *row.limit),
        *("--listen", f"unix:{path}" if row.family == "unix" else f"{row.family}:0"),
        *options("--core", core),
        *(("--certificate", str(shop.certificate), "--key", str(shop.key)) if row.tls else ()),
    ]


def server_command(row: ServerRow, loop: str, path: pathlib.Path, shop: Workshop) -> list[str]:
    tls = ("--certificate", str(shop.certificate), "--key", str(shop.key)) if row.tls else ()
    return child_command(row, loop, shop, "--path", str(path), *tls)


def child_command(row: Row, loop: str, shop: Workshop, *more: str) -> list[str]:
    core, other = shop.cores
    return [
        *(sys.executable, str(HERE / "child.py"), "--loop", loop, "--row", row.name),
        *("--peers", str(shop.peers), "--tools", str(shop.tools), "--patience", str(PATIENCE)),
        *options("--core", core),
        *options("--other-core", other),
        *more,
    ]


def options(name: str, value: object) -> tuple[str, ...]:
    return () if value is None else (name, str(value))


def read_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], START_PATIENCE)[0]:
        raise Failed(f"the server did not listen within {START_PATIENCE:g} s")
    line = process.stdout.readline()
    if not line:
        process.wait(PATIENCE)
        raise Failed("the server did not start")
    return int(line)


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process that leads a session, with all that it has started, and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def describe(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def last_words(errors: IO[str]) -> str:
    """The last line that a process wrote to standard error, as an appendix."""
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    return f": {lines[-1]}" if lines else ""
