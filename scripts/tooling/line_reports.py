"""Which lines of zloop have run on which Python: a report of each, and what they say together.

Some lines run on some Pythons only, so a line has run if it has on any of them. Lines that only one Python compiles are
in no other's report: what is said of all names the Pythons that were united.
"""

import hashlib
import json
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, field

PACKAGE = "zloop"
WITH_CODE = (".py", ".pyx")
"""Files of which there is a report even if they have no line that runs; declarations and headers may have none."""


@dataclass
class FileLines:
    """The lines of a file that have run, and those that have not and tell no reason."""

    ran: set[int] = field(default_factory=set)
    missing: set[int] = field(default_factory=set)


Report = dict[str, FileLines]
"""By the file's path below the root."""


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(path: pathlib.Path, report: Report, root: pathlib.Path) -> None:
    """Keep a Python's report, and what the files were that it is about."""
    rows = {
        name: {"sha256": digest(root / name), "ran": sorted(lines.ran), "missing": sorted(lines.missing)}
        for name, lines in sorted(report.items())
    }
    path.write_text(json.dumps(rows) + "\n")


def read(path: pathlib.Path, root: pathlib.Path) -> Report:
    """A Python's report, without the files that have changed since: their lines have other numbers."""
    rows = json.loads(path.read_text())
    same = {name: row for name, row in rows.items() if (root / name).exists() and digest(root / name) == row["sha256"]}
    return {name: FileLines(set(row["ran"]), set(row["missing"])) for name, row in same.items()}


def unite(reports: Iterable[Report]) -> Report:
    """What several Pythons have run together."""
    united: Report = {}
    for report in reports:
        for name, lines in report.items():
            both = united.setdefault(name, FileLines())
            both.ran |= lines.ran
            both.missing |= lines.missing
    for lines in united.values():
        lines.missing -= lines.ran
    return united


def unreported(report: Report, root: pathlib.Path) -> list[str]:
    """The files of the package that a report does not know."""
    paths = sorted(path for suffix in WITH_CODE for path in (root / PACKAGE).rglob(f"*{suffix}"))
    return [name for name in (str(path.relative_to(root)) for path in paths) if name not in report]


def ranges(numbers: Iterable[int]) -> str:
    """As 3, 7-9."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
