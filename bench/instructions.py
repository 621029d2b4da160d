"""Counts the instructions that hot operations take, with callgrind, and compares them with those on record.

    python instructions.py --valgrind COMMAND --tools VERSIONS [--record] [--junit FILE]

Instructions, unlike microseconds, are the same on a busy machine, but another interpreter or compiler makes others:
instructions.json has a part for each.  Fails if a count has grown by more than GROWTH_BOUND.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
from xml.etree import ElementTree as ET

import rich.box
from rich.console import Console
from rich.table import Table
from workloads import LONG, SHORT, WORKLOADS

HERE = pathlib.Path(__file__).parent
RECORD = HERE / "instructions.json"
GROWTH_BOUND = 0.03
PATIENCE = 900.0
"""Seconds that callgrind may take for everything."""


def environment(tools: str) -> str:
    """What the counts depend on besides zloop."""
    libc = " ".join(platform.libc_ver())
    parts = (
        f"CPython {platform.python_version()} by {platform.python_compiler()}",
        f"{tools}, {libc}, {platform.machine()}",
    )
    return ", ".join(parts)


def count_all(valgrind: str) -> dict[str, float]:
    """The instructions of one operation of each workload. Raises SystemExit."""
    with tempfile.TemporaryDirectory(prefix="zloop-callgrind-") as name:
        scratch = pathlib.Path(name)
        command = [
            valgrind,
            "--tool=callgrind",
            "--dump-before=getppid",
            f"--callgrind-out-file={scratch}/out",
            "--compress-strings=yes",
            sys.executable,
            str(HERE / "workloads.py"),
        ]
        settings = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            run = subprocess.run(
                command, env=os.environ | settings, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            raise SystemExit(f"error: callgrind was not done after {PATIENCE:g} s") from None
        if run.returncode:
            raise SystemExit(f"error: the workloads ended with status {run.returncode} under callgrind:\n{run.stderr}")
        parts = [total(scratch / f"out.{number}") for number in range(1, 4 * len(WORKLOADS) + 1)]
    # Each pair of calls ends one part before the work, and one with it.
    shorts, longs = parts[1::4], parts[3::4]
    return {
        workload: round((long - short) / (LONG - SHORT), 1)
        for workload, short, long in zip(WORKLOADS, shorts, longs, strict=True)
    }


def total(path: pathlib.Path) -> int:
    """The instructions in one of callgrind's files."""
    with path.open() as file:
        for line in file:
            if line.startswith(("summary:", "totals:")):
                return int(line.split()[1])
    raise SystemExit(f"error: {path.name} has no total")


def judge(counts: dict[str, float], recorded: dict[str, float]) -> dict[str, str | None]:
    """What is wrong with each count, or None: it has grown too much, or is not on record."""
    faults: dict[str, str | None] = {}
    for name, count in counts.items():
        before = recorded.get(name)
        if before is None:
            faults[name] = "is not on record"
        elif count > before * (1 + GROWTH_BOUND):
            faults[name] = f"takes {count:,.0f} instructions; {before:,.0f} are on record"
        else:
            faults[name] = None
    return faults


def show(counts: dict[str, float], recorded: dict[str, float]) -> None:
    table = Table(box=rich.box.MARKDOWN)
    table.add_column("operation")
    for heading in ("instructions", "on record", "change"):
        table.add_column(heading, justify="right")
    for name, count in counts.items():
        before = recorded.get(name)
        change = f"{count / before - 1:+.1%}" if before else "–"
        table.add_row(name, f"{count:,.0f}", f"{before:,.0f}" if before else "–", change)
    Console(width=100).print(table)


def write_junit(path: pathlib.Path, faults: dict[str, str | None], skipped: str | None) -> None:
    """One test for each workload; all of them skipped, with the reason, where there is nothing to compare with."""
    suite = ET.Element("testsuite", name="instructions", tests=str(len(faults)))
    for name, fault in faults.items():
        case = ET.SubElement(suite, "testcase", name=name)
        if skipped:
            ET.SubElement(case, "skipped", message=skipped)
        elif fault:
            ET.SubElement(case, "failure", message=fault)
    suite.set("failures", "0" if skipped else str(sum(1 for fault in faults.values() if fault)))
    suite.set("skipped", str(len(faults)) if skipped else "0")
    ET.ElementTree(suite).write(path, encoding="unicode")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/instructions", description=__doc__.partition("\n")[0])
    parser.add_argument("--valgrind", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--tools", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--junit", type=pathlib.Path, metavar="FILE", help="write a JUnit report to this file")
    parser.add_argument("--record", action="store_true", help="put the counts on record instead of comparing them")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    key = environment(arguments.tools)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    recorded = record.get(key, {})
    skipped = None if recorded or arguments.record else f"nothing is on record for {key}"
    if skipped:
        print(f"skipped: {skipped}")
    counts = count_all(arguments.valgrind)
    show(counts, recorded)
    if arguments.record:
        record[key] = counts
        RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        return 0
    faults = judge(counts, recorded)
    if arguments.junit:
        write_junit(arguments.junit, faults, skipped)
    if skipped:
        return 0
    for name, fault in faults.items():
        if fault:
            print(f"{name} {fault}")
    return 1 if any(faults.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
