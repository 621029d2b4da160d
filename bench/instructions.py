"""Counts the instructions that hot operations take, with callgrind, and compares them with those on record.

    python instructions.py --valgrind COMMAND --compiler VERSION --cython VERSION [--record] [--junit FILE]

Instructions, unlike microseconds, are the same on a busy machine.  There are two counts of each operation:

  own    those of zloop's own extension modules.  They follow from its sources, the compiler's major version, CPython's
         minor version, whose headers are compiled in, and Cython's.  They are compared on any machine, where these are
         on record.  (Two builds of CPython 3.11, with and without PGO, run the same number for each operation, while
         their totals are up to 13 % apart.)
  all    those of the whole process.  They are the interpreter's and the C library's as well, which depend on how these
         were built: they are compared where all of that is the same, too.

instructions.json has a part for each setting of the first, and says where the counts were taken, which holds for the
second.  Fails if a count has grown by more than GROWTH_BOUND.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from typing import Any
from xml.etree import ElementTree as ET

import rich.box
from rich.console import Console
from rich.table import Table
from workloads import LONG, SHORT, WORKLOADS

HERE = pathlib.Path(__file__).parent
RECORD = HERE / "instructions.json"
GROWTH_BOUND = 0.03
KINDS = ("own", "all")
OBJECT = re.compile(r"(?P<kind>c?ob)=\((?P<number>\d+)\)(?: (?P<name>.+))?")
OWN = re.compile(r"/zloop/(?:.+/)?[^/]+\.so$")
PATIENCE = 900.0
"""Seconds that callgrind may take for everything."""


Counts = dict[str, dict[str, float]]
"""The instructions of one operation of each workload: "own" and "all"."""


def setting(compiler: str, cython: str) -> str:
    """What zloop's own instructions depend on besides its sources."""
    name = "Clang" if "clang" in compiler else "GCC"
    # GCC says NAME (PACKAGE) VERSION; a package's version, in brackets, is not the compiler's.
    found = re.search(r"(\d+)\.\d+\.\d+", re.sub(r"\([^)]*\)", "", compiler))
    compiler = f"{name} {found[1] if found else 'unknown'}"
    suffix = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    python = ".".join(platform.python_version_tuple()[:2]) + suffix
    return f"CPython {python}, {compiler}, {'.'.join(cython.split('.')[:2])}, {platform.machine()}"


def surroundings(compiler: str, cython: str, valgrind: str) -> str:
    """What the interpreter's and the C library's instructions depend on, and how exactly zloop was built."""
    tools = (compiler, cython, version(valgrind), " ".join(platform.libc_ver()))
    return ", ".join((f"CPython {platform.python_version()} by {platform.python_compiler()}", *tools))


def version(command: str) -> str:
    return subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def count_all(valgrind: str) -> Counts:
    """Count everything. Raises SystemExit."""
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
        parts = [instructions(scratch / f"out.{number}") for number in range(1, 4 * len(WORKLOADS) + 1)]
    # Each pair of calls ends one part before the work, and one with it.
    shorts, longs = parts[1::4], parts[3::4]
    return {
        workload: {kind: round((long[kind] - short[kind]) / (LONG - SHORT), 1) for kind in KINDS}
        for workload, short, long in zip(WORKLOADS, shorts, longs, strict=True)
    }


def instructions(path: pathlib.Path) -> dict[str, int]:
    """The instructions in one of callgrind's files, which its manual describes: "own" and "all"."""
    names: dict[str, str] = {}
    counts = dict.fromkeys(KINDS, 0)
    ours = called = False
    with path.open() as file:
        for line in file:
            if (line[0].isdigit() or line[0] in "+-*") and len(fields := line.split()) == 2:
                # The line behind calls= has what was called, which is counted where it is.
                counts["all"] += 0 if called else int(fields[1])
                counts["own"] += int(fields[1]) if ours and not called else 0
            elif found := OBJECT.match(line):
                name = names.setdefault(found["number"], found["name"])
                ours = ours if found["kind"] == "cob" else bool(OWN.search(name))
            called = line.startswith("calls=")
    return counts


def compare(counts: Counts, recorded: Counts, kinds: Iterable[str]) -> dict[str, str | None]:
    """What is wrong with the counts of each operation, or None: one has grown too much, or is not on record."""
    faults: dict[str, str | None] = dict.fromkeys(counts)
    for name, kind in itertools.product(counts, kinds):
        count, before = counts[name][kind], recorded.get(name, {}).get(kind)
        if before is None:
            faults[name] = "is not on record"
        elif count > before * (1 + GROWTH_BOUND) and not faults[name]:
            whose = "of zloop's own " if kind == "own" else ""
            faults[name] = f"takes {count:,.0f} {whose}instructions; {before:,.0f} are on record"
    return faults


def show(counts: Counts, recorded: Counts, kinds: Iterable[str]) -> None:
    table = Table(box=rich.box.MARKDOWN)
    table.add_column("operation")
    for kind, heading in itertools.product(KINDS, ("instructions", "on record", "change")):
        table.add_column(f"{kind}: {heading}" if heading == "instructions" else heading, justify="right")
    for name, count in counts.items():
        cells = []
        for kind in KINDS:
            before = recorded.get(name, {}).get(kind) if kind in kinds else None
            change = f"{count[kind] / before - 1:+.1%}" if before else "–"
            cells += [f"{count[kind]:,.0f}", f"{before:,.0f}" if before else "–", change]
        table.add_row(name, *cells)
    Console(width=120).print(table)


def show_beside_gil(counts: Counts, record: dict[str, Any], key: str) -> None:
    """What a free-threaded build takes for each instruction of the build with a GIL, where that is on record."""
    version, comma, tools = key.partition(",")
    recorded = record.get(version.removesuffix("t") + comma + tools, {}).get("counts", {})
    if not version.endswith("t") or not recorded:
        return
    table = Table("operation", *(f"{kind}: of those with a GIL" for kind in KINDS), box=rich.box.MARKDOWN)
    for name in (name for name in counts if name in recorded):
        table.add_row(name, *(f"{counts[name][kind] / recorded[name][kind]:.2f}" for kind in KINDS))
    Console(width=120).print(table)


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
    parser = argparse.ArgumentParser(prog="nox -s instructions --", description=__doc__.partition("\n")[0])
    parser.add_argument("--valgrind", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--compiler", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cython", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--junit", type=pathlib.Path, metavar="FILE", help="write a JUnit report to this file")
    parser.add_argument("--record", action="store_true", help="put the counts on record instead of comparing them")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    key = setting(arguments.compiler, arguments.cython)
    here = surroundings(arguments.compiler, arguments.cython, arguments.valgrind)
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    entry = record.get(key, {"counted on": "", "counts": {}})
    kinds = KINDS if entry["counted on"] == here else ("own",)
    skipped = None if entry["counts"] or arguments.record else f"nothing is on record for {key}"
    if skipped:
        print(f"skipped: {skipped}")
    elif "all" not in kinds:
        print(f"zloop's own instructions alone are compared: this is {here}, and on record is {entry['counted on']}")
    counts = count_all(arguments.valgrind)
    show(counts, entry["counts"], kinds)
    show_beside_gil(counts, record, key)
    if arguments.record:
        record[key] = {"counted on": here, "counts": counts}
        RECORD.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        return 0
    faults = compare(counts, entry["counts"], kinds)
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
