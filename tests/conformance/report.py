"""What a conformance run shows: a progress line; then what was left out and why, the failures, a table."""

import re
import sys
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

LINE_EVERY_SECONDS = 10  # where standard error is no terminal
VERDICTS = ("passed", "failed", "excluded", "skipped", "listed")
LOOP_USES = {"ran": "on loop", "made": "loop unrun", "none": "no loop"}

Outcome = dict[str, Any]  # what is known of one test: its name, verdict, and what `child.py` found


class Progress:
    """A line on standard error about the tests done so far, renewed in place on a terminal."""

    def __init__(self, total: int, loop: str) -> None:
        self.total = total
        self.loop = loop
        self.done = self.failed = 0
        self.in_place = sys.stderr.isatty()
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.in_place:
            print(end="\r\x1b[K", file=sys.stderr, flush=True)

    def advance(self, test: str, failed: bool) -> None:
        self.done += 1
        self.failed += failed
        line = f"{self.loop}: {self.done} of {self.total} tests, {self.failed} failed"
        if self.in_place:
            print(f"\r\x1b[K{line}: {test}"[:110], end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self.last_line >= LINE_EVERY_SECONDS or self.done == self.total:
            self.last_line = time.monotonic()
            print(line, file=sys.stderr, flush=True)


def show(heading: dict[str, Any], tests: list[Outcome], verbose: bool) -> None:
    """Print the report: `tests` are the outcomes, each with its verdict."""
    by_verdict: dict[str, list[Outcome]] = defaultdict(list)
    for test in tests:
        by_verdict[test["verdict"]].append(test)
    print(f"CPython {heading['python']}: test.test_asyncio on {heading['loop']}")
    for module, why in heading["absent"].items():
        print(f"  {module}: {why}")
    show_reasons("Skipped by the tests themselves", by_verdict["skipped"])
    show_reasons(
        "Listed, because they can pass only on the standard library's own classes", by_verdict["listed"], names=True
    )
    show_faults("Excluded, because stock asyncio fails them here in the same way", by_verdict["excluded"])
    show_faults("Failed", by_verdict["failed"], verbose)
    show_table(tests)


def show_reasons(title: str, tests: list[Outcome], names: bool = False) -> None:
    """Print how many tests share each reason, and their names if asked."""
    by_reason = defaultdict(list)
    for test in tests:
        by_reason[test["reason"]].append(test["test"])
    if tests:
        print(f"\n{title}: {len(tests)}")
    for reason, group in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        print(f"{len(group):5}  {reason}")
        if names:
            print(textwrap.fill(", ".join(short_names(group)), 118, initial_indent=" " * 7, subsequent_indent=" " * 7))


def short_names(tests: list[str]) -> Iterator[str]:
    """Yield the names with the class only where it changes."""
    last = ""
    for test in tests:
        owner, _, name = test.rpartition(".")
        yield name if owner == last else test
        last = owner


def show_faults(title: str, tests: list[Outcome], verbose: bool = False) -> None:
    """Print a line for each fault of each test, everything about it if verbose."""
    if tests:
        print(f"\n{title}: {len(tests)}")
    for test in tests:
        print(f"  {test['test']}")
        for kind, detail in test["faults"].items():
            print(f"      {kind}: {headline(detail)}")
        if verbose:
            print(textwrap.indent("\n".join([*test["faults"].values(), test["output"]]), " " * 6))


def headline(detail: str) -> str:
    """Return the line that names the error at the end of a traceback, or the last line of another text."""
    lines = detail.splitlines()
    errors = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(: |$)", line)]
    return (errors or lines or [""])[-1][:200]


def show_table(tests: list[Outcome]) -> None:
    """Print a line for each module and their sum: tests by verdict, and what the passed ones did with the loop."""
    width = max(len(test["module"]) for test in tests)
    print(f"\n{'':{width}}" + "".join(f"{title:>11}" for title in [*VERDICTS, *LOOP_USES.values(), "seconds"]))
    by_module: dict[str, list[Outcome]] = defaultdict(list)
    for test in tests:
        by_module[test["module"]].append(test)
    for name, group in [*by_module.items(), ("together", tests)]:
        verdicts = Counter(test["verdict"] for test in group)
        uses = Counter(test["loop"] for test in group if test["verdict"] == "passed")
        seconds = sum(test.get("seconds", 0) for test in group)
        counts = [verdicts[verdict] for verdict in VERDICTS] + [uses[use] for use in LOOP_USES]
        print(f"{name:{width}}" + "".join(f"{count:11}" for count in counts) + f"{seconds:11.1f}")
    print(
        "\nOf the passed: 'on loop' ran a loop of the kind under test, 'loop unrun' only made one, 'no loop' neither."
    )
