"""Runs CPython's own `test.test_asyncio`, of the Python that this is started with, on another event loop.

    python tests/conformance [--loop LOOP] [-k PATTERN] [-j N] [--timeout SECONDS] [MODULE ...]

Each test runs in a process of its own (`child.py`). It fails if CPython would say so, if it exceeds the time limit, if
its process dies, and if it leaves anything behind: a ResourceWarning, an exception that could only be printed, a
descriptor, a thread, a child process. What fails is run once more on stock asyncio, and whatever fails there in the
same way says nothing about the loop and is excluded. Exits with 0 only if nothing is left.

This process needs nothing but the standard library.
"""

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

import report
from report import Outcome
from selection import MODULES, PACKAGE

CHILD = Path(__file__).with_name("child.py")
STOCK = "asyncio:SelectorEventLoop"
LOOPS = {"zloop": "zloop:new_event_loop", "uvloop": "uvloop:new_event_loop", "asyncio": STOCK}


def main() -> int:
    options = parse_options()
    if importlib.util.find_spec("test") is None or importlib.util.find_spec(PACKAGE) is None:
        sys.exit(f"{sys.executable} comes without {PACKAGE} (on Debian: apt-get install libpython3-testsuite)")
    [collected] = ask(loop=options.loop, modules=options.modules)
    absent = {module: why for module, why in collected.items() if isinstance(why, str)}
    outcomes = select({module: tests for module, tests in collected.items() if module not in absent}, options)
    run_selected(outcomes, options)

    heading = {"python": platform.python_version(), "loop": options.loop, "absent": absent}
    report.show(heading, outcomes, verbose=options.verbose)
    if options.json:
        options.json.write_text(json.dumps(heading | {"tests": outcomes}, indent=1))
    return int(any(outcome["verdict"] == "failed" for outcome in outcomes))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="conformance", description="Run CPython's own asyncio tests on another event loop."
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as test_locks (default: all)")
    parser.add_argument("--loop", default="zloop", help=f"{', '.join(LOOPS)} or MODULE:FACTORY (default: %(default)s)")
    parser.add_argument(
        "-k",
        dest="patterns",
        action="append",
        metavar="PATTERN",
        help="only tests whose name holds this; * matches anything",
    )
    parser.add_argument(
        "-j", dest="jobs", type=int, default=os.cpu_count(), metavar="N", help="tests at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=float, default=60, metavar="SECONDS", help="limit for each test (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found to this file")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the whole output of the tests that fail")
    options = parser.parse_args()
    options.loop = LOOPS.get(options.loop, options.loop)
    if ":" not in options.loop:
        parser.error(f"--loop {options.loop}: neither {', '.join(LOOPS)} nor MODULE:FACTORY")
    options.modules = options.modules or list(MODULES)
    if unknown := set(options.modules) - MODULES.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(MODULES)}")
    options.patterns = [p if "*" in p else f"*{p}*" for p in options.patterns or ["*"]]
    return options


def select(collected: dict[str, dict[str, str | None]], options: argparse.Namespace) -> list[Outcome]:
    """Return an outcome for each test that was asked for; those that are not to be run have their verdict already."""
    outcomes = []
    for module, tests in collected.items():
        for test, listed in tests.items():
            outcome = {"test": test, "module": module}
            if listed and options.loop != STOCK:
                outcome |= {"verdict": "listed", "reason": listed}
            if any(fnmatchcase(test, pattern) for pattern in options.patterns):
                outcomes.append(outcome)
    return outcomes


def run_selected(outcomes: list[Outcome], options: argparse.Namespace) -> None:
    """Run the tests that have no verdict yet and complete their outcomes."""
    selected = {outcome["test"]: outcome for outcome in outcomes if "verdict" not in outcome}
    if not selected:
        sys.exit("no test is selected")
    for found in run(list(selected), options.loop, options):
        verdict = "failed" if found["faults"] else "skipped" if found["skipped"] else "passed"
        selected[found["test"]].update(found, verdict=verdict, reason=found["skipped"])
    failed = {test: outcome for test, outcome in selected.items() if outcome["verdict"] == "failed"}
    for found in run(list(failed), STOCK, options) if failed else ():
        outcome = failed[found["test"]]
        outcome["stock_faults"] = found["faults"]
        if outcome["faults"].keys() <= found["faults"].keys():
            outcome["verdict"] = "excluded"


def run(tests: list[str], loop: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Run tests on a loop, with a progress line, and yield the finding of each as it ends."""
    modules = sorted({test.partition(".")[0] for test in tests})
    limits = {"jobs": options.jobs, "time_limit": options.timeout}
    with tempfile.TemporaryDirectory(prefix="conformance-") as scratch, report.Progress(len(tests), loop) as progress:
        for found in ask(loop=loop, modules=modules, tests=tests, scratch=scratch, **limits):
            progress.advance(found["test"], failed=bool(found["faults"]))
            yield found


def ask(**request: Any) -> Iterator[dict[str, Any]]:
    """Start `child.py` with a request and yield its answers. Exits if it fails."""
    with subprocess.Popen([sys.executable, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            json.dump(request, process.stdin)
            process.stdin.close()
            yield from map(json.loads, process.stdout)
        except BaseException:
            process.terminate()
            raise
    if process.returncode < 0:
        sys.exit(f"{CHILD.name} died of {signal.Signals(-process.returncode).name}")
    if process.returncode:
        sys.exit(process.returncode)  # it has said why


def leave(signum: int, frame: object) -> NoReturn:
    """Exit by an exception, so that nothing stays behind."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    sys.exit(main())
