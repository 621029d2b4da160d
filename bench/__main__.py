"""Compares zloop with every other event loop, in one interleaved run; scripts/bench prepares and calls this.

The report goes to standard output, progress to standard error.  summary.json, results.md and chart.png are left in the
output directory; the samples only where --json names a file.  Ctrl-C ends the measuring; what was found until then is
reported.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import tempfile
import time
from collections.abc import Iterator

import report
import stats
import trustme
from loops import LIMIT, LOOPS, reason_missing, version
from measure import Failed, ForeignTime, RunConfig, StolenTime, applies, take_samples
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rows import ROWS, SHORT, Row, ServerRow

console = Console(stderr=True, highlight=False, soft_wrap=True)


def facts(row: Row) -> stats.RowFacts:
    return stats.RowFacts(row.name, row.topic, row.title, row.unit, row.lower_is_better, isinstance(row, ServerRow))


def choose_rows(patterns: list[str]) -> list[Row]:
    """The rows whose name or topic matches one of the patterns; all of them without any. Raises SystemExit."""
    if not patterns:
        return list(ROWS.values())
    for pattern in patterns:
        if not any(matches(row, pattern) for row in ROWS.values()):
            raise SystemExit(f"error: no row is called {pattern}; --list tells them")
    return [row for row in ROWS.values() if any(matches(row, pattern) for pattern in patterns)]


def matches(row: Row, pattern: str) -> bool:
    return row.topic == pattern or fnmatch.fnmatch(row.name, pattern) or (pattern == "short" and row.name in SHORT)


def plan(results: stats.Results, rows: list[Row]) -> Iterator[tuple[int, Row, list[str]]]:
    """The rounds of the run: number, row and loops. In each round and on each row another loop comes first."""
    for number in range(results.rounds):
        for place, row in enumerate(rows):
            names = list(results.loops)
            first = (number + place) % len(names)
            yield number + 1, row, names[first:] + names[:first]


def run(results: stats.Results, rows: list[Row], config: RunConfig) -> None:
    """Take all the samples. A loop that failed on a row is left out of its further rounds."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    turns = list(plan(results, rows))
    # No automatic refresh: drawing would take time from what is being measured.
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as bar:
        task = bar.add_task("measuring", total=len(turns))
        for done, (number, row, names) in enumerate(turns, 1):
            bar.update(task, description=f"round {number} {row.name}", refresh=True)
            take_round(results, row, names, config)
            bar.advance(task)
            share = "" if console.is_terminal else f"[{done}/{len(turns)}] "
            console.print(f"{share}round {number}, {report.row_text(results, facts(row))}", markup=False)


def take_round(results: stats.Results, row: Row, names: list[str], config: RunConfig) -> None:
    """More samples for each cell of a row, unless it has failed before."""
    cells = {name: results.cell(facts(row), name) for name in names}
    for name, cell in cells.items():
        cell.failure = cell.failure or applies(row, name)
    for name, found in take_samples(row, [name for name in names if not cells[name].failure], config).items():
        if isinstance(found, Failed):
            cells[name].failure = str(found)
            console.print(f"    {row.name}, {name}: {found}", markup=False)
        else:
            cells[name].samples += found


def describe_machine(arguments: argparse.Namespace, config: RunConfig) -> dict[str, str]:
    """What the numbers depend on."""
    with pathlib.Path("/proc/cpuinfo").open() as file:
        models = {line.partition(":")[2].strip() for line in file if line.startswith("model name")}
    measured, load = config.cores
    cores = f"server on core {measured}, load on core {load}" if load is not None else "all on one core"
    libraries = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("httptools", "uvicorn", "aiohttp", "websockets")
        if any(importlib.metadata.distributions(name=name))
    )
    return {
        "Python": f"CPython {platform.python_version()} ({platform.python_compiler()})",
        "machine": f"{', '.join(sorted(models))}, {len(os.sched_getaffinity(0))} cores ({cores})",
        "kernel": f"{platform.system()} {platform.release()}",
        "libraries": libraries or "none",
        "command": f"scripts/bench {' '.join(arguments.command)}".strip(),
        "others": f"load average {os.getloadavg()[0]:.2f} at the start",
    }


def warn_if_busy() -> None:
    """Say so if others are at work: their share of a core is watched from now on, for a second."""
    watch = ForeignTime()
    time.sleep(1)
    if (share := watch.share()) > stats.FOREIGN_BOUND:
        console.print(
            f"[bold]this machine is busy:[/] others use {share:.0%} of a core. "
            "What is measured while they do does not count, and will be called noise."
        )


@contextlib.contextmanager
def run_config(arguments: argparse.Namespace) -> Iterator[RunConfig]:
    """The settings, a scratch directory, and a certificate in it."""
    warm_up, window, windows, budget = (0.05, 0.1, 1, 0.05) if arguments.quick else (0.05, 0.15, 4, 0.1)
    with tempfile.TemporaryDirectory(prefix="zloop-bench-") as name:
        scratch = pathlib.Path(name)
        certificate, key = scratch / "certificate.pem", scratch / "key.pem"
        issued = trustme.CA().issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        peers, tools = arguments.peers.resolve(), arguments.tools.resolve()
        yield RunConfig(peers, tools, scratch, certificate, key, warm_up, window, windows, budget)


def choose_loops(asked: list[str], peers: pathlib.Path) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of the loops to measure, the limit among them, and why others are missing."""
    missing = {name: reason for name in LOOPS if (reason := reason_missing(LOOPS[name], peers))}
    for name in asked:
        if name not in LOOPS and name != LIMIT:
            raise SystemExit(f"error: no loop is called {name}; there are {', '.join([*LOOPS, LIMIT])}")
    wanted = asked or [*LOOPS, LIMIT]
    found = {name: version(LOOPS[name], peers) for name in LOOPS if name in wanted and name not in missing}
    if LIMIT in wanted:
        found[LIMIT] = "C++, no Python"
    return found, {name: reason for name, reason in missing.items() if name in wanted}


def write(results: stats.Results, arguments: argparse.Namespace) -> None:
    """Leave the three files, and print the report."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "summary.json").write_text(report.compact(results.summary()))
    if arguments.json:
        arguments.json.write_text(json.dumps(results.to_json(), ensure_ascii=False) + "\n")
    text = report.markdown(results)
    (arguments.output / "results.md").write_text(text)
    try:
        report.draw(results, arguments.output / "chart.png")
    except ImportError as error:
        console.print(f"no chart: {error}")
    print(text)
    console.print(f"summary.json, results.md and chart.png are in {arguments.output}")


def names(text: str) -> list[str]:
    return text.split(",")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        allow_abbrev=False,
        description="Compares zloop with every other event loop that runs on this Python.",
    )
    parser.add_argument("--peers", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tools", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--default-output", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=pathlib.Path, metavar="FOLDER", help="where the three files go")
    parser.add_argument(
        "--row", action="append", default=[], metavar="NAME", help="only this row, those of a topic, or a pattern"
    )
    parser.add_argument("--ssl", dest="row", action="append_const", const="tls", help="only the TLS rows: --row tls")
    short = "one row of each kind: --row short"
    parser.add_argument("--short", dest="row", action="append_const", const="short", help=short)
    parser.add_argument("--loops", type=names, default=[], metavar="NAME,...", help="only these loops (default: all)")
    parser.add_argument("--rounds", type=positive, help="rounds (default: 5)")
    parser.add_argument("--quick", action="store_true", help="one short round: a first look")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all the samples to this file")
    parser.add_argument("--list", action="store_true", help="print the rows' names, and measure nothing")
    parser.add_argument(
        "--from",
        dest="source",
        type=pathlib.Path,
        metavar="FILE",
        help="report this summary, or these samples, instead",
    )
    arguments = parser.parse_args()
    arguments.output = arguments.output or arguments.default_output
    of_the_script = ("--peers=", "--tools=", "--default-output=")
    arguments.command = [word for word in sys.argv[1:] if not word.startswith(of_the_script)]
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 5)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    rows = choose_rows(arguments.row)
    if arguments.list:
        for row in rows:
            print(f"{row.name:<26} {row.topic:<10} {row.title}")
        return
    if arguments.source:
        write(stats.Results.from_json(json.loads(arguments.source.read_text())), arguments)
        return
    present, missing = choose_loops(arguments.loops, arguments.peers)
    for name, reason in missing.items():
        console.print(f"{name} is not measured: {reason}", markup=False)
    with run_config(arguments) as config:
        results = stats.Results(describe_machine(arguments, config), present, missing, arguments.rounds)
        results.rows = [facts(row) for row in rows]
        warn_if_busy()
        host = StolenTime()
        try:
            run(results, rows, config)
        except KeyboardInterrupt:
            console.print("interrupted: reporting what there is")
        results.description["others"] += f"; the host took {host.share():.0%} of the machine's time"
    write(results, arguments)


if __name__ == "__main__":
    main()
