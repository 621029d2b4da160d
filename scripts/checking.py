"""What the checks of the repository's own rules share: what they find, and the command that prints it."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Violation(NamedTuple):
    """One place that breaks a rule. `path` is relative to the repository."""

    path: Path
    line: int
    reason: str


Check = Callable[[Path], Iterator[Violation]]


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def violations(root: Path, checks: Iterable[Check]) -> list[Violation]:
    """Every violation in the repository at `root`, in the order of files and lines."""
    found = {violation for check in checks for violation in check(root)}
    return sorted(violation._replace(path=violation.path.relative_to(root)) for violation in found)


def run(checks: Iterable[Check], needed: Iterable[str]) -> int:
    """The whole command, whose argument is the root; `needed` are patterns of files that have to be there."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()
    for pattern in needed:
        if not any(root.glob(pattern)):
            print(f"{root}: there is no {pattern}", file=sys.stderr)
            return 2
    found = violations(root, checks)
    for path, line, reason in found:
        print(f"{path}:{line}: {reason}")
    return 1 if found else 0
