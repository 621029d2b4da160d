"""Runs the tests of a project that lives on asyncio on zloop and on asyncio's own loop, and tells what differs.

    python tests/downstream PROJECT SOURCE [-k EXPRESSION] [--timeout SECONDS] [--reruns N] [--json FILE] [-v]

SOURCE is the project's unpacked source distribution; the project, what its tests need, and zloop are installed beside
the Python that this is started with. nox -s downstream does all that.

Both runs get their loop in the same way (inside/sitecustomize.py), which also writes down which loops really ran. The
files that hold a test which failed, or whose verdicts are unlike, are run some times more on both sides: a difference
is what comes again, and what fails on asyncio as well says nothing about zloop. Exits with 0 only if nothing differs.
"""

import argparse
import json
import platform
import signal
import sys
from pathlib import Path
from typing import NoReturn

from differences import NOTHING, Judgement, differing, judge, show
from sides import OUTSIDE, STOCK, ZLOOP, Outcome, Run
from suites import SUITES


def main() -> int:
    options = parse_options()
    suite = SUITES[options.project]
    arguments = ("-k", options.k) if options.k else ()
    run = Run(suite, options.source.resolve(), options.timeout, arguments, options.log)
    if options.log:
        options.log.write_text("")
    judgements = compare(run, options.reruns)
    heading = f"{options.source.resolve().name}, CPython {platform.python_version()}: its tests on zloop"
    show(heading, judgements, options.verbose)
    if options.json:
        report = {"heading": heading, "tests": [judgement.as_json() for judgement in judgements]}
        options.json.write_text(json.dumps(report, indent=1))
    return int(any(judgement.verdict == "failed" for judgement in judgements))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="downstream", description="Run a project's tests on zloop and on asyncio, and tell what differs."
    )
    parser.add_argument("project", choices=SUITES, metavar="PROJECT", help=", ".join(SUITES))
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the unpacked source distribution")
    parser.add_argument("-k", metavar="EXPRESSION", help="only the tests that pytest selects by it")
    parser.add_argument(
        "--timeout", type=float, default=120, metavar="SECONDS", help="limit for each test (default: %(default)s)"
    )
    parser.add_argument(
        "--reruns", type=int, default=3, metavar="N", help="how often what differs is run again (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found to this file")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write what pytest prints to this file")
    parser.add_argument("-v", "--verbose", action="store_true", help="print the whole text of what fails")
    return parser.parse_args()


def compare(run: Run, reruns: int) -> list[Judgement]:
    """Run the tests on both loops, what differs several times, and judge each."""
    stock = [run.on(STOCK)]
    zloop = [run.on(ZLOOP)]
    if not any(outcome.loops for outcome in zloop[0].values()):
        sys.exit("no test has run zloop")
    tests = sorted(stock[0].keys() | zloop[0].keys())
    again = differing(stock[0], zloop[0]) - {OUTSIDE}
    files = {test.partition("::")[0] for test in again}
    neighbours = [test for test in tests if test.partition("::")[0] in files]
    for _ in range(reruns if again else 0):
        stock.append(run.on(STOCK, neighbours))
        zloop.append(run.on(ZLOOP, neighbours))

    def outcomes(test: str, side: list[dict[str, Outcome]]) -> list[Outcome]:
        runs = side if test in again else side[:1]
        return [outcomes.get(test, NOTHING) for outcomes in runs]

    return [judge(test, outcomes(test, stock), outcomes(test, zloop), run.suite) for test in tests]


def leave(signum: int, frame: object) -> NoReturn:
    """Exit by an exception, so that nothing stays behind."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    sys.exit(main())
