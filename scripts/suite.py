"""Runs every test: the sessions of noxfile.py as stages, one Python for each core at a time.

First lint and the packaging, and beside them the engine's tests (with each line counted, under sanitizers, for other
systems); then, for each CPython from 3.11 to 3.15 on this machine, the behaviour tests and CPython's own asyncio tests.
The Python that runs this also does what one is enough for: servers and drivers, the tests of TLS under sanitizers, the
instruction counts, and PyInstaller. What a stage prints is in build/log/test. A Python that is not to be found as it is
may have a launcher: ZLOOP_TEST_LAUNCHER_3_14='COMMAND' is put before each of its commands, and finds python3.14.

Ends with a table, and "N passed, N failed, N skipped" on the last line; the exit status is 0 only if nothing failed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import rich.box
from rich.console import Console
from rich.table import Table
from tooling import BUILD, ROOT, VERSIONS, machine
from tooling.reports import Counts, count

LOGS = BUILD / "log" / "test"
HERE = str(getattr(sys, "_base_executable", sys.executable))
"""The Python that the tools' environment was made with."""
SIGN_OF_LIFE = 10.0
"""Seconds between two lines of what a stage is doing."""
GRACE = 5.0
"""Seconds that a stage has to end when it is told to."""
MOST_LINES = 100
"""Of what a stage that failed has printed last."""
SYSTEMS = ("aarch64-macos", "x86_64-freebsd")
"""Of those that nox -s cross knows; macOS on another processor compiles the same code."""
EMULATED = ("aarch64-linux-musl",)
PROJECTS = ("uvicorn", "anyio", "aiohttp")


@dataclass
class Stage:
    """A session of noxfile.py, and what became of it."""

    name: str
    session: str
    arguments: tuple[str, ...] = ()
    result: str = ""
    remark: str = ""
    seconds: float = 0.0
    counts: Counts = field(default_factory=Counts)

    @property
    def failed(self) -> bool:
        return self.result == "failed"

    @property
    def stem(self) -> str:
        """For the names of its files."""
        return re.sub(r"[^\w.]+", "-", self.name)

    def skip(self, reason: str) -> None:
        self.result, self.remark = "skipped", reason
        say(f"{self.name}: skipped, {reason}")


@dataclass
class Group:
    """Stages that follow one another, and the command that starts their Python."""

    python: list[str]
    stages: list[Stage]
    needs_first: bool = False
    """Whether none of the others runs after the first has failed."""


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


# ---- what is run


@dataclass
class Pythons:
    """The Pythons of a run: how each version is started, and why others are not."""

    commands: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def find(self, version: str) -> None:
        """Look for a version: by its launcher, or on this machine."""
        if launcher := machine.launcher(version):
            say(f"{version}: by {' '.join(launcher)}")
            command = [*launcher, f"python{version}"]
            if reason := machine.lacking(command):
                self.missing[version] = f"what its launcher starts {reason}"
            else:
                self.commands[version] = command
        elif found := machine.find_python(version):
            self.commands[version] = [str(found)]
        else:
            self.missing[version] = "not on this machine, or without what building extensions takes"

    def add(self, command: str) -> None:
        """The Python that a command starts."""
        if reason := machine.lacking([command]):
            raise SystemExit(f"error: {command} {reason}")
        found = machine.executable(command)
        self.commands[machine.version_of(found)] = [str(found)]


def find_pythons(options: argparse.Namespace) -> Pythons:
    pythons = Pythons()
    for wanted in options.python or ([HERE] if options.quick else VERSIONS):
        if re.fullmatch(r"3\.\d+", wanted):
            pythons.find(wanted)
        else:
            pythons.add(wanted)
    if not pythons.commands:
        raise SystemExit(f"error: none of the Pythons asked for is on this machine: {', '.join(options.python)}")
    return pythons


def plan_first(options: argparse.Namespace) -> list[Group]:
    """What is the same for every Python: two rows of stages that have no file in common, and take equally long."""
    sources = [] if options.no_lint else [Stage("lint", "lint")]
    engine = [Stage("engine: coverage", "engine", ("coverage",))]
    if not options.quick:
        sources.append(Stage("packaging", "packaging"))
        engine += [
            Stage("engine: asan", "sanitizers", ("asan",)),
            Stage("engine: tsan", "sanitizers", ("tsan",)),
            Stage("engine: other systems", "cross", SYSTEMS),
            Stage("engine: aarch64, musl", "cross", EMULATED),
        ]
    return [Group([HERE], stages) for stages in (sources, engine) if stages]


def plan_python(version: str, options: argparse.Namespace) -> list[Stage]:
    stages = [
        Stage(f"{version}: build", f"build-{version}"),
        Stage(f"{version}: pytest", f"tests-{version}"),
        Stage(f"{version}: conformance", f"conformance-{version}"),
    ]
    if options.all:
        stages += [Stage(f"{version}: {name}", f"downstream-{version}({name})") for name in PROJECTS]
    return stages


def plan_last(version: str, options: argparse.Namespace) -> list[Stage]:
    """What takes one Python, and what has been built for it."""
    if options.quick:
        return []
    return [
        Stage(f"{version}: applications", f"applications-{version}"),
        Stage(f"{version}: asan", f"sanitizers-{version}", ("python", "-q")),
        Stage(f"{version}: instructions", f"instructions-{version}"),
        Stage(f"{version}: freezing", f"freezing-{version}"),
    ]


# ---- running it


async def run_groups(groups: Iterable[Group], jobs: int) -> None:
    """Run groups beside one another, as many at a time as there are jobs, which they share."""
    groups = list(groups)
    at_once = min(jobs, len(groups)) or 1
    turn = asyncio.Semaphore(at_once)

    async def take_turn(group: Group) -> None:
        async with turn:
            await run_group(group, jobs // at_once)

    async with asyncio.TaskGroup() as tasks:
        for group in groups:
            tasks.create_task(take_turn(group))


async def run_group(group: Group, jobs: int) -> None:
    for stage in group.stages:
        if group.needs_first and group.stages[0].failed:
            stage.skip(f"{group.stages[0].name} failed")
        elif not stage.result:
            await run_stage(stage, group.python, jobs)


async def run_stage(stage: Stage, python: list[str], jobs: int) -> None:
    """Run a session in a process group of its own, which ends with this coroutine."""
    log, outcome, reports = (LOGS / f"{stage.stem}{suffix}" for suffix in (".log", ".json", ".reports"))
    reports.mkdir(parents=True)
    say(stage.name)
    began = time.monotonic()
    nox = ["-m", "nox", "--report", str(outcome), "-s", stage.session]
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(*python, str(ROOT / "scripts" / "bootstrap.py"), *nox, "--", *stage.arguments),
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"ZLOOP_REPORTS": str(reports), "JOBS": str(jobs)},
        )
    try:
        status = await watch(process, stage, log)
    finally:
        await end(process)
    stage.seconds = time.monotonic() - began
    record_result(stage, status, outcome, reports)
    if stage.failed:
        print(last_lines(log), flush=True)
        say(f"{stage.name}: the whole output is in {log}")
    reason = f" ({stage.remark})" if stage.remark else ""
    say(f"{stage.name}: {stage.result} after {stage.seconds:.0f} s{reason}")


async def watch(process: asyncio.subprocess.Process, stage: Stage, log: pathlib.Path) -> int:
    """Wait for a process, with a sign of life now and then. Its exit status."""
    began = time.monotonic()
    waiting = asyncio.ensure_future(process.wait())
    while not (await asyncio.wait([waiting], timeout=SIGN_OF_LIFE))[0]:
        print(f"    {stage.name}, {time.monotonic() - began:.0f} s: {last_line(log)}", flush=True)
    return waiting.result()


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process, if it has not, with all that it has started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)


def record_result(stage: Stage, status: int, outcome: pathlib.Path, reports: pathlib.Path) -> None:
    """Say what became of a stage: by its exit status, nox's report, and the reports of its tests."""
    stage.result = "failed" if status else "passed"
    try:
        stage.counts = count(reports)
        [session] = json.loads(outcome.read_text())["sessions"]
    except (OSError, ValueError, LookupError) as error:
        stage.result, stage.remark = "failed", f"no report: {error}"
    else:
        stage.remark = session.get("reason") or ""
        if session["result"] == "skipped" and not status:
            stage.result = "skipped"
    # What failed without a test to show for it counts as one, and a test that failed is never outdone by a status.
    if stage.counts.failed:
        stage.result = "failed"
    elif stage.failed:
        stage.counts = stage.counts._replace(failed=1)


def last_line(log: pathlib.Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 1000))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip()[:110] for line in reversed(lines) if line.strip()), "")


def last_lines(log: pathlib.Path) -> str:
    """The end of a log: from pytest's summary on, where it has one."""
    text = log.read_text(errors="replace")
    summary = text.rfind("short test summary")
    return "\n".join(text[max(summary, 0) :].splitlines()[-MOST_LINES:])


# ---- what is said in the end


def show(stages: list[Stage], seconds: float) -> Counts:
    """Print the table, and return what all the tests together came to."""
    table = Table(box=rich.box.SIMPLE)
    for heading in ("stage", "result"):
        table.add_column(heading)
    for heading in ("seconds", *Counts._fields):
        table.add_column(heading, justify="right")
    table.add_column("remark", overflow="fold")
    for stage in stages:
        numbers = ["", "", "", ""] if stage.result == "skipped" else [f"{stage.seconds:.0f}", *map(str, stage.counts)]
        table.add_row(stage.name, stage.result, *numbers, stage.remark)
    table.add_row("together", "", f"{seconds:.0f}")
    Console(width=120, highlight=False, markup=False).print(table)
    total = Counts()
    for stage in stages:
        total = total.plus(stage.counts)
    return total


def parse_arguments() -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="scripts/test",
        description=summary,
        epilog=rest.strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--all", action="store_true", help="also the tests of projects that live on asyncio")
    parser.add_argument("--quick", action="store_true", help="one Python; the engine's tests plain alone, no packaging")
    parser.add_argument("--no-lint", action="store_true", help="all but lint")
    parser.add_argument(
        "--python", action="append", default=[], metavar="X", help="only this Python: 3.12, or a command; several times"
    )
    return parser.parse_args()


async def run_all(*rounds: list[Group]) -> None:
    """Run one list of groups after the other. SIGTERM ends it as Ctrl-C does."""
    me = asyncio.current_task()
    assert me is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
    for groups in rounds:
        await run_groups(groups, machine.jobs())


def plan(options: argparse.Namespace) -> tuple[list[Group], list[Group], list[Stage]]:
    """What runs before the Pythons, the Pythons, and what is skipped."""
    pythons = find_pythons(options)
    skipped = [Stage(version, "") for version in pythons.missing]
    for stage in skipped:
        stage.skip(pythons.missing[stage.name])
    beside = [
        Group(command, plan_python(version, options), needs_first=True)
        for version, command in sorted(pythons.commands.items(), key=lambda item: int(item[0].partition(".")[2]))
    ]
    # What one Python is enough for follows its own tests: it uses the same build.
    default = machine.version_of(HERE)
    last = plan_last(default, options)
    for group in beside:
        if group.stages[0].name == f"{default}: build" and not machine.launcher(default):
            group.stages += last
            break
    else:
        for stage in last:
            stage.skip(f"{default} is not among the Pythons tested here")
        skipped += last
    return plan_first(options), beside, skipped


def main() -> int:
    options = parse_arguments()
    began = time.monotonic()
    try:
        compiler = machine.compiler()
    except machine.Missing as reason:
        raise SystemExit(f"error: {reason}") from None
    say(f"CPython {sys.version.split()[0]} ({HERE}) and {machine.compiler_version(compiler)}")
    shutil.rmtree(LOGS, ignore_errors=True)
    before, beside, skipped = plan(options)
    try:
        asyncio.run(run_all(before, beside))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("interrupted")
        return 130
    stages = [*(stage for group in (*before, *beside) for stage in group.stages), *skipped]
    total = show(stages, time.monotonic() - began)
    print("{} passed, {} failed, {} skipped".format(*total))
    return int(any(stage.failed for stage in stages))


if __name__ == "__main__":
    sys.exit(main())
