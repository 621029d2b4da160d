"""Counts of tests: from JUnit's XML, and from the JSON of tests/conformance and tests/downstream."""

import json
import pathlib
from collections import Counter
from typing import NamedTuple
from xml.etree import ElementTree as ET

SKIPPED_VERDICTS = ("skipped", "excluded", "flaky", "surplus", "listed")
"""What the JSON calls a test that has neither passed nor failed."""


class Counts(NamedTuple):
    """How many tests there were of each kind."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def count(folder: pathlib.Path) -> Counts:
    """The tests of all the reports in a folder."""
    total = Counts()
    for path in sorted(folder.iterdir()):
        total = total.plus(of_json(path) if path.suffix == ".json" else of_junit(path))
    return total


def of_json(path: pathlib.Path) -> Counts:
    verdicts = Counter(test["verdict"] for test in json.loads(path.read_text())["tests"])
    return Counts(verdicts["passed"], verdicts["failed"], sum(verdicts[name] for name in SKIPPED_VERDICTS))


def of_junit(path: pathlib.Path) -> Counts:
    total = Counts()
    for suite in ET.parse(path).iter("testsuite"):  # noqa: S314  # our own
        tests, failures, errors, skipped, disabled = (
            int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped", "disabled")
        )
        failed, left_out = failures + errors, skipped + disabled
        total = total.plus(Counts(tests - failed - left_out, failed, left_out))
    return total
