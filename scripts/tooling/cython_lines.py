"""Which lines of the Cython sources have run: gcov's counts of the generated C++, by the comments that Cython leaves.

Cython's own way, line tracing, calls the interpreter's trace function from every line: that changes what is measured
(references, order, time), and has nothing to say of functions without the interpreter's lock. Its #line directives are
of no use here: the compiler counts on from each, over the lines of C++ that one line of Cython becomes.

    /* "zloop/core/loop.pyx":123

stands before the code of a line. A line has run if any of its code has.
"""

import json
import pathlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

POSITION = re.compile(r'^\s*/\* "(zloop/[\w/]+\.p(?:yx|xd))":(\d+)$')
SECTION = re.compile(r"^/\* #### Code section: ")
"""What follows belongs to no line until the next position."""
EXCLUDED = re.compile(r"# pragma: no cover: \w|// GCOVR_EXCL_LINE: \w")


@dataclass
class Lines:
    """The lines of a file that have code, and how often each ran; and its branches."""

    counts: dict[int, int] = field(default_factory=dict)
    branches: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """By the C++ file, its line, and the branch's place on it."""

    def add(self, line: int, count: int) -> None:
        self.counts[line] = max(self.counts.get(line, 0), count)

    def ran(self) -> set[int]:
        return {line for line, count in self.counts.items() if count}

    def missing(self, text: list[str]) -> list[int]:
        """The lines that have not run, and are not excluded."""
        left_out = excluded(text)
        return [line for line, count in sorted(self.counts.items()) if not count and line not in left_out]


def excluded(text: list[str]) -> set[int]:
    """The lines beside which a reason is told; with a clause's first line its body, as in coverage.py."""
    found = set()
    for number, line in enumerate(text, 1):
        reason = EXCLUDED.search(line)
        if reason is None:
            continue
        found.add(number)
        if not line[: reason.start()].rstrip().endswith((":", "{")):
            continue
        for below, other in enumerate(text[number:], number + 1):
            if other.strip() and indentation(other) <= indentation(line):
                break
            found.add(below)
    return found


def indentation(line: str) -> int:
    return len(line) - len(line.lstrip())


def read(root: pathlib.Path, folder: pathlib.Path, gcov: str) -> dict[str, Lines]:
    """The lines of each source below zloop/, by its path, as the objects below a build folder have counted them."""
    found: dict[str, Lines] = {}
    for notes in sorted(folder.rglob("*.gcno")):
        for file in reports_of(notes, folder, gcov):
            path = (folder / file["file"]).resolve()
            origins = positions(path) if path.suffix == ".cxx" else {}
            source = str(path.relative_to(root)) if path.is_relative_to(root / "zloop") else ""
            for line in file["lines"]:
                number = line["line_number"]
                name, original = origins.get(number, (source, number))
                if not name:
                    continue
                lines = found.setdefault(name, Lines())
                lines.add(original, line["count"])
                for place, branch in enumerate(each for each in line["branches"] if not each["throw"]):
                    key = (str(path), number, place)
                    lines.branches[key] = max(lines.branches.get(key, 0), branch["count"])
    return found


def reports_of(notes: pathlib.Path, folder: pathlib.Path, gcov: str) -> Iterator[dict[str, Any]]:
    """What gcov tells of one object, file by file; an object that was never loaded has run no line."""
    command = [gcov, "--json-format", "--stdout", "--branch-probabilities", str(notes.resolve())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    for report in done.stdout.splitlines():
        yield from json.loads(report)["files"]


def positions(generated: pathlib.Path) -> dict[int, tuple[str, int]]:
    """For each line of a generated file: the source and the line that it was made from."""
    found = {}
    current = None
    for number, text in enumerate(generated.read_text().splitlines(), 1):
        if match := POSITION.match(text):
            current = (match[1], int(match[2]))
        elif SECTION.match(text):
            current = None
        elif current:
            found[number] = current
    return found
