#!/usr/bin/env python3
"""Checks that nothing stops the unwinding of a thread that ends while it runs Python code, or crashes on its way.

    python scripts/check_unwinding.py [ROOT]

CPython up to 3.13 ends a daemon thread that wants to go on while the interpreter finalizes by pthread_exit(). That
unwinds the stack, and ends the process at a noexcept function and at a catch (...) that does not rethrow.

* The C++ that knows Python (zloop/binding/*.hpp, zloop/*/*.cpp) has neither, and no destructor: that is noexcept.
* In the engine (cpp/), where the tests know which functions must not be noexcept, a catch (...) rethrows.
* Cython puts a catch (...) around the call of a C++ function that is declared `except +`. It is for constructors, and
  for functions in CONTAINED, which call nothing.
* Cython's own functions are never noexcept in C++, and `except +` stands in declarations only.
* Cython gives up an exception's traceback at a return inside the except clause, also where there was no memory to make
  one, and crashes. A clause that does not fetch the exception, a mere return of something that is there, may stay.

Prints FILE:LINE: REASON for each violation; the exit status is 1 if there is any, and 2 if ROOT does not hold all this.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from checking import Violation, line_of, run

# What throws std::bad_alloc, and runs no foreign code and releases no reference.
CONTAINED = {
    *("DatagramSocket.queue", "Stream.queue", "Stream.write"),
    *("LoopInbox.push", "LoopInbox.take_into", "TimerHeap.push", "TimerHeap.take_due"),
    *("ReadyQueue.push_back", "ReadyQueue.push_front"),
    *("TlsSession.feed", "TlsSession.retain"),
}

NOISE = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'""", re.DOTALL)
OBSTACLES = {
    "is noexcept": re.compile(r"\bnoexcept\b(?!\s*\(\s*false\s*\))"),
    "has a destructor, which is noexcept": re.compile(r"~\w+\s*\(\s*\)(?!\s*noexcept\s*\(\s*false\s*\))"),
}
CATCH_ALL = re.compile(r"\bcatch\s*\(\s*\.\.\.\s*\)\s*\{")
RETHROW = re.compile(r"\bthrow\s*;\s*\}$")

CLASS = re.compile(r"^\s*(?:cdef\s+)?cppclass\s+(\w+)", re.MULTILINE)
TRANSLATED = re.compile(r"\b(\w+)\s*\((?:[^()]|\([^()]*\))*\)\s*(?:nogil\s+)?except\s*\+")


def without_noise(text: str) -> str:
    """C++ without comments and strings, every line and column in its place."""
    return NOISE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def block_at(code: str, brace: int) -> str:
    """The block that opens at `brace`, with both its braces."""
    depth = 0
    for position in range(brace, len(code)):
        depth += {"{": 1, "}": -1}.get(code[position], 0)
        if depth == 0:
            return code[brace : position + 1]
    return code[brace:]


def check_bindings(root: Path) -> Iterator[Violation]:
    for path in sorted([*root.glob("zloop/binding/*.hpp"), *root.glob("zloop/**/*.cpp")]):
        code = without_noise(path.read_text())
        for reason, pattern in OBSTACLES.items():
            for match in pattern.finditer(code):
                yield Violation(path, line_of(code, match.start()), reason)


def check_catches(root: Path) -> Iterator[Violation]:
    sources = [*root.glob("cpp/include/**/*.hpp"), *root.glob("cpp/src/**/*.?pp")]
    for path in sorted([*sources, *root.glob("zloop/binding/*.hpp"), *root.glob("zloop/**/*.cpp")]):
        code = without_noise(path.read_text())
        for match in CATCH_ALL.finditer(code):
            if not RETHROW.search(block_at(code, match.end() - 1)):
                yield Violation(path, line_of(code, match.start()), "catches all and does not rethrow at the end")


def check_translations(root: Path) -> Iterator[Violation]:
    for path in sorted([*root.glob("zloop/**/*.pxd"), *root.glob("zloop/**/*.pyx")]):
        text = re.sub(r"#[^\n]*", "", path.read_text())
        classes = list(CLASS.finditer(text))
        for match in TRANSLATED.finditer(text):
            name = next((found[1] for found in reversed(classes) if found.start() < match.start()), "")
            if match[1] != name and f"{name}.{match[1]}" not in CONTAINED:
                yield Violation(path, line_of(text, match.start(1)), f"{match[1]}() is called in a catch (...)")


def check_returns(root: Path) -> Iterator[Violation]:
    for path in sorted(root.glob("zloop/**/*.pyx")):
        clauses: list[tuple[int, bool, int]] = []  # of each that is open: indentation, fetches, statements before
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.partition("#")[0].rstrip()
            if not code:
                continue
            depth = len(code) - len(code.lstrip())
            while clauses and depth <= clauses[-1][0]:
                clauses.pop()
            if clauses:
                indentation, fetches, before = clauses[-1]
                fetches = fetches or before > 0 or "(" in code
                if fetches and code.lstrip().startswith("return"):
                    yield Violation(path, number, "returns from an except clause that holds the exception")
                clauses[-1] = (indentation, fetches, before + 1)
            if re.match(r"\s*except\b.*:$", code):
                clauses.append((depth, " as " in code, 0))


CHECKS = (check_bindings, check_catches, check_translations, check_returns)
NEEDED = ("cpp/include/zloop/*.hpp", "zloop/binding/*.hpp", "zloop/engine/*.pxd")

if __name__ == "__main__":
    sys.exit(run(CHECKS, NEEDED))
