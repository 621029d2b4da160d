"""Runs a project's tests on one event loop and returns what came out, whatever the loop does to them.

pytest runs in a process group of its own. When it dies or goes silent in the middle of a test, that test has failed and
another pytest goes on with those after it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suites import Suite

INSIDE = Path(__file__).with_name("inside")
STOCK, ZLOOP = "asyncio:SelectorEventLoop", "zloop:Loop"
LINE_EVERY_SECONDS = 10
ABORT_SECONDS = 5  # between SIGABRT, at which faulthandler prints where everything hangs, and SIGKILL
OUTSIDE = "(outside of the tests)"
PYTEST_OPTIONS = (
    *("-o", "addopts=", "-p", "downstream_verdicts", "-p", "no:cacheprovider", "--continue-on-collection-errors"),
    # pytest looks at what its plugins come with, and zloop, which comes with one, is there before pytest.
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
)
PYTEST_RAN = {0, 1, 5}  # pytest's exit statuses: all passed, some failed, none was selected


@dataclass
class Outcome:
    """What one test did on one loop."""

    verdict: str  # passed, failed, skipped or xfailed
    why: str = ""
    text: str = ""
    seconds: float = 0.0
    loops: dict[str, bool] = field(default_factory=dict)  # the classes it ran, each with: is it what it was given?


@dataclass(frozen=True)
class Run:
    """How tests are run."""

    suite: Suite
    source: Path  # the unpacked source distribution
    time_limit: float = 120  # seconds for each test
    arguments: tuple[str, ...] = ()  # for pytest, beside the suite's own
    log: Path | None = None

    def on(self, loop: str, only: Iterable[str] | None = None) -> dict[str, Outcome]:
        """Run the tests, or only some, on the loop "module:class" and return their outcomes by their ids."""
        outcomes: dict[str, Outcome] = {}
        left = None if only is None else set(only)
        with tempfile.TemporaryDirectory(prefix="downstream-") as scratch_name:
            scratch = Path(scratch_name)
            while left is None or left:
                status = self._start(loop, scratch, left)
                collected = self._read_verdicts(scratch, outcomes, status)
                before, left = left, collected - outcomes.keys()
                if status not in PYTEST_RAN and left in (before, collected):
                    sys.exit(f"pytest ran no test on {loop}: status {status}\n{self._end_of_log()}")
                if status in PYTEST_RAN:
                    break
            if status not in PYTEST_RAN and not left:
                outcomes.setdefault(OUTSIDE, Outcome("failed", f"pytest left with status {status} after the last test"))
            read_runs(scratch / "runs", outcomes)
        return outcomes

    def _start(self, loop: str, scratch: Path, only: set[str] | None) -> int:
        """Run pytest once, on all tests or only some, and return its status."""
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {
            "PYTHONPATH": str(INSIDE),
            "DOWNSTREAM_LOOP": loop,
            "DOWNSTREAM_RUNS": str(scratch / "runs"),
            "DOWNSTREAM_VERDICTS": str(scratch / "verdicts"),
            **self.suite.environment,
        }
        if only is not None:
            (scratch / "only").write_text("\n".join(sorted(only)))
            environment["DOWNSTREAM_ONLY"] = str(scratch / "only")
        command = [sys.executable, "-m", "pytest", *PYTEST_OPTIONS, f"--timeout={self.time_limit:g}"]
        (scratch / "verdicts").write_text("")
        with open(self.log or os.devnull, "a") as log:
            process = subprocess.Popen(
                [*command, *self.suite.arguments, *self.arguments],
                cwd=self.source,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                return self._watch(process, loop, scratch / "verdicts")
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what the tests have left behind
                process.wait()

    def _watch(self, process: subprocess.Popen[bytes], loop: str, verdicts: Path) -> int:
        """Wait for pytest to end, with a line about its progress now and then; abort it if no test ends any more."""
        size, last_news = 0, time.monotonic()
        last_line = last_news
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(timeout=1)
            now = time.monotonic()
            if (new_size := verdicts.stat().st_size) != size:
                size, last_news = new_size, now
            if now - last_line >= LINE_EVERY_SECONDS:
                last_line = now
                print(f"    {progress(verdicts, loop)}", file=sys.stderr, flush=True)
            if now - last_news > 2 * self.time_limit:  # pytest-timeout had its chance
                process.send_signal(signal.SIGABRT)
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=ABORT_SECONDS)
                process.kill()

    def _read_verdicts(self, scratch: Path, outcomes: dict[str, Outcome], status: int) -> set[str]:
        """Add the outcomes of one pytest and return the ids that it collected."""
        collected: set[str] = set()
        started = None
        for line in read_lines(scratch / "verdicts"):
            if "collected" in line:
                collected = set(line["collected"])
            elif "started" in line:
                started = line["started"]
            else:
                test = line.pop("test")
                outcomes[test] = Outcome(**line)
                started = None
        if started:
            what = f"died of {signal.Signals(-status).name}" if status < 0 else f"left with status {status}"
            outcomes[started] = Outcome("failed", f"the process {what}", self._end_of_log())
        return collected

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-5_000:] if self.log else ""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file; the last may be unfinished, or the file not be there."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def progress(verdicts: Path, loop: str) -> str:
    lines = read_lines(verdicts)
    total = sum(len(line.get("collected", ())) for line in lines)
    done = [line["verdict"] for line in lines if "verdict" in line]
    return f"{loop}: {len(done)} of {total} tests, {done.count('failed')} failed"


def read_runs(path: Path, outcomes: dict[str, Outcome]) -> None:
    """Add to the outcomes which loops ran. What no test of theirs has run (a pytest in a test, say) is set apart."""
    for run in read_lines(path):
        test = run["test"] if run["test"] in outcomes else OUTSIDE
        outcomes.setdefault(test, Outcome("passed")).loops[run["loop"]] = run["given"]
