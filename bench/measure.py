"""Takes samples: a process for each loop, for servers a load generator beside them, on a core of its own."""

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
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

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
class RunConfig:
    """What every sample needs: directories, files, for how long to measure, in seconds, and how often in a round."""

    peers: pathlib.Path
    tools: pathlib.Path
    scratch: pathlib.Path
    certificate: pathlib.Path
    key: pathlib.Path
    warm_up: float
    window: float
    windows: int
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
    if row.topic == "threads" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return "this Python has a GIL"
    if LOOPS[loop].patch and not row.transports:
        return f"{LOOPS[loop].patch} changes nothing here"
    return None


def take_samples(row: Row, names: Sequence[str], config: RunConfig) -> dict[str, list[Sample] | Failed]:
    """Measure one round of a row: as many samples of each loop as the row wants, or why there are none."""
    watch = ForeignTime()
    found = take_turns(row, names, config)
    # Known only now that all the processes have ended, and for all the samples alike: none of them loses its partners.
    foreign = watch.share()
    return {
        name: outcome if isinstance(outcome, Failed) else [replace(sample, foreign=foreign) for sample in outcome]
        for name, outcome in found.items()
    }


class ForeignTime:
    """The processor time that other processes use: the machine's, less this process's and its children's that ended.

    What a virtual machine's host takes away is none of it: it is in no process's time, and so in no value but those of
    rows that wait. Where it disturbs all the same, values lie apart, and are noise for that.
    """

    def __init__(self) -> None:
        self.before = self.now()

    def share(self) -> float:
        """Of one core, since this object was made."""
        machine, own, clock = (after - before for after, before in zip(self.now(), self.before, strict=True))
        return max(0.0, (machine - own) / clock)

    @staticmethod
    def now() -> tuple[float, float, float]:
        user, nice, system, *_ = machine_times()
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        return user + nice + system, own, time.monotonic()


class StolenTime:
    """The processor time that a virtual machine's host took away (proc_stat(5): steal)."""

    def __init__(self) -> None:
        self.before = self.now()

    def share(self) -> float:
        """Of all cores, since this object was made."""
        stolen, clock = (after - before for after, before in zip(self.now(), self.before, strict=True))
        return stolen / clock / (os.cpu_count() or 1)

    @staticmethod
    def now() -> tuple[float, float]:
        return machine_times()[7], time.monotonic()


def machine_times() -> list[float]:
    """What the machine has done since it started, in seconds of one core (proc_stat(5))."""
    with pathlib.Path("/proc/stat").open() as file:
        return [int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in file.readline().split()[1:]]


def take_turns(row: Row, names: Sequence[str], config: RunConfig) -> dict[str, list[Sample] | Failed]:
    """A process of each loop; all live at once, and are measured for a moment in turn while the others idle.

    Machines change their pace from second to second; moments that lie close to each other can be compared.
    """
    found: dict[str, list[Sample] | Failed] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        running: dict[str, RunningLocal | RunningServer] = {}
        for name in names:
            start = (
                running_server(row, name, config) if isinstance(row, ServerRow) else running_local(row, name, config)
            )
            try:
                running[name] = stack.enter_context(start)
            except Failed as failure:
                found[name] = failure
        for _ in range(1 if row.fresh else config.windows):
            for name, contestant in list(running.items()):
                try:
                    found[name].append(contestant.measure())
                except Failed as failure:
                    found[name] = failure
                    del running[name]
    return found


@dataclass(frozen=True)
class RunningLocal:
    """A process that measures itself whenever it is asked to, and what it writes to standard error."""

    process: subprocess.Popen[str]
    errors: IO[str]

    def measure(self) -> Sample:
        """Ask once. Raises Failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: no answer comes, either
            self.process.stdin.write("again\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise Failed(f"{describe(self.process.wait(PATIENCE))}{last_words(self.errors)}")
        return Sample(float(answer))


@contextlib.contextmanager
def running_local(row: LocalRow, loop: str, config: RunConfig) -> Iterator[RunningLocal]:
    """A process that waits to be asked, until the block ends."""
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            child_command(row, loop, config),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            yield RunningLocal(process, errors)
        finally:
            end(process)


@dataclass(frozen=True)
class RunningServer:
    """A row's server: its process, its address as the load generator takes it, and what it writes to standard error."""

    row: ServerRow
    config: RunConfig
    process: subprocess.Popen[str]
    address: str
    errors: IO[str]

    def measure(self) -> Sample:
        """Load it for a warm-up and a window. Raises Failed."""
        try:
            fields = load(self.row, self.process.pid, self.address, self.config)
        except Failed as failure:
            raise self.blame(failure) from None
        return Sample(fields["cost"], rate=fields.get("rate"), p99=fields.get("p99"))

    def blame(self, failure: Failed) -> Failed:
        """The failure, with what the server has to do with it."""
        status = self.process.poll()
        how = f"; the server ended with {describe(status)}" if status is not None else ""
        return Failed(f"{failure}{how}{last_words(self.errors)}")


def load(row: ServerRow, pid: int, address: str, config: RunConfig) -> dict[str, Any]:
    """What the load generator says of a server, whose process `pid` is. Raises Failed."""
    _, core = config.cores
    command = [
        *(str(config.tools / "load"), *row.load, "--server", address, "--pid", str(pid)),
        *options("--core", core),
        *options("--warm-up", round(1000 * config.warm_up)),
        *options("--window", round(1000 * config.window)),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"the load generator was not done after {PATIENCE:g} s") from None
    if done.returncode:
        raise Failed(done.stderr.strip() or f"the load generator ended with {describe(done.returncode)}")
    return json.loads(done.stdout)


@contextlib.contextmanager
def running_server(row: ServerRow, loop: str, config: RunConfig) -> Iterator[RunningServer]:
    """A server that listens, until the block ends. Raises Failed."""
    path = config.scratch / f"{loop}.sock"
    path.unlink(missing_ok=True)
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            limit_command(row, path, config) if loop == LIMIT else server_command(row, loop, path, config),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            server = RunningServer(row, config, process, f"unix:{path}", errors)
            try:
                port = read_port(process)
            except Failed as failure:
                raise server.blame(failure) from None
            yield server if row.family == "unix" else replace(server, address=f"{row.family}:{port}")
        finally:
            end(process)


def limit_command(row: ServerRow, path: pathlib.Path, config: RunConfig) -> list[str]:
    core, _ = config.cores
    return [
        *(str(config.tools / "limit"), *row.limit),
        *("--listen", f"unix:{path}" if row.family == "unix" else f"{row.family}:0"),
        *options("--core", core),
        *(("--certificate", str(config.certificate), "--key", str(config.key)) if row.tls else ()),
    ]


def server_command(row: ServerRow, loop: str, path: pathlib.Path, config: RunConfig) -> list[str]:
    return child_command(row, loop, config, "--path", str(path))


def child_command(row: Row, loop: str, config: RunConfig, *more: str) -> list[str]:
    core, other = config.cores
    return [
        *(sys.executable, str(HERE / "child.py"), "--loop", loop, "--row", row.name),
        *("--peers", str(config.peers), "--tools", str(config.tools), "--patience", str(PATIENCE)),
        *("--budget", str(config.budget), "--certificate", str(config.certificate), "--key", str(config.key)),
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
