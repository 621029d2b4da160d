"""What the samples of a run amount to: values, whether they are noise, and who is ahead."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from loops import LIMIT, OURS

DOUBT_BOUND = 0.10
"""How far off a value or a ratio may be, as a share of it: above it, it is noise."""

FOREIGN_BOUND = 0.10
"""The share of one core that others may use while a sample is taken: above it, the sample does not count."""

FEWEST_SAMPLES = 3
"""With fewer that count, a cell is noise."""


@dataclass(frozen=True)
class Sample:
    """One measurement: the row's value, and beside it, for servers, requests/s and the p99 latency in microseconds.

    `foreign` is the share of one core that processes used which were no part of it.
    """

    value: float
    foreign: float = 0.0
    rate: float | None = None
    p99: float | None = None


@dataclass
class Cell:
    """What is known of one loop on one row; a failure ends it."""

    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None

    @property
    def counting(self) -> list[Sample]:
        """The samples that nobody disturbed."""
        return [sample for sample in self.samples if sample.foreign <= FOREIGN_BOUND]

    def value(self, best_of: bool) -> float | None:
        """The median of what counts, or of all if nothing does; `best_of` takes the highest instead."""
        values = [sample.value for sample in self.counting or self.samples]
        if self.failure or not values:
            return None
        return max(values) if best_of else statistics.median(values)

    def beside(self, name: str) -> float | None:
        """The median of `rate` or `p99`."""
        values = [value for sample in self.counting or self.samples if (value := getattr(sample, name)) is not None]
        return None if self.failure or not values else statistics.median(values)

    def doubt(self, best_of: bool) -> float:
        """How far off value() may be, as a share of it."""
        values = [sample.value for sample in self.counting or self.samples]
        return doubt_of_best(values) if best_of else doubt_of_median(values)

    def is_noise(self, best_of: bool) -> bool:
        return len(self.counting) < FEWEST_SAMPLES or self.doubt(best_of) > DOUBT_BOUND


def doubt_of_median(values: Sequence[float]) -> float:
    """Half of the interval in which the median would lie in 19 runs of 20, as a share of it; 0 for a single value.

    McGill, Tukey and Larsen, Variations of Box Plots, 1978: 1.57 times the distance between the quartiles, divided by
    the root of the number of values.
    """
    if len(values) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    middle = statistics.median(values)
    return 1.57 * (upper - lower) / math.sqrt(len(values)) / middle if middle else 0.0


def doubt_of_best(values: Sequence[float]) -> float:
    """How far behind the second best is, as a share of the best: one that no other came near may be luck."""
    if len(values) < 2:
        return 0.0
    second, best = sorted(values)[-2:]
    return (best - second) / best if best else 0.0


@dataclass(frozen=True)
class RowFacts:
    """What the numbers of a row mean: all that is needed of it once it has been measured."""

    name: str
    topic: str
    title: str
    unit: str
    lower_is_better: bool
    has_server: bool


@dataclass(frozen=True)
class Comparison:
    """Two values of a row: how many times better the first is, how far off that may be, and whether it is noise."""

    times: float
    doubt: float
    """As a share of `times`."""
    is_noise: bool
    other: str


@dataclass
class Results:
    """Everything that one run found out; turned to JSON and back without loss, or to a Summary."""

    description: dict[str, str]
    loops: dict[str, str]
    """The version of each loop that was measured."""
    missing: dict[str, str]
    """Why the others were not."""
    rounds: int
    rows: list[RowFacts] = field(default_factory=list)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    """By the row's name and the loop's."""

    @property
    def is_first_look(self) -> bool:
        """Whether there were too few rounds to tell noise from a number."""
        return self.rounds < FEWEST_SAMPLES

    def cell(self, row: RowFacts, loop: str) -> Cell:
        return self.cells.setdefault(row.name, {}).setdefault(loop, Cell())

    def value(self, row: RowFacts, loop: str) -> float | None:
        """A server's costs vary to both sides; what disturbs operations only ever makes them fewer."""
        cell = self.cells.get(row.name, {}).get(loop)
        return cell.value(best_of=not row.lower_is_better) if cell else None

    def compare(self, row: RowFacts, loop: str, other: str) -> Comparison | None:
        """How many times better `loop` is than `other` on a row; None where either has no value.

        Samples are divided in pairs, each taken at nearly the same time: the pace of the machine drops out.
        """
        value, against = self.value(row, loop), self.value(row, other)
        if not value or not against:
            return None
        cells = self.cells[row.name]
        mine, theirs = (cells[name].counting or cells[name].samples for name in (loop, other))
        pairs = zip(mine, theirs, strict=False)  # an interrupted round is odd
        # What is too little to be measured comes out as nothing, and cannot be divided by.
        times = [their.value / my.value for my, their in pairs if my.value and their.value]
        if not times:
            return None
        ratios = times if row.lower_is_better else [1 / ratio for ratio in times]
        few = min(len(cells[loop].counting), len(cells[other].counting)) < FEWEST_SAMPLES
        doubt = doubt_of_median(ratios)
        return Comparison(statistics.median(ratios), doubt, few or doubt > DOUBT_BOUND, other)

    def compare_to_best_peer(self, row: RowFacts) -> Comparison | None:
        """Compare zloop with whichever peer is best."""
        peers = (name for name in self.loops if name not in (OURS, LIMIT))
        comparisons = [found for name in peers if (found := self.compare(row, OURS, name))]
        return min(comparisons, key=lambda found: found.times, default=None)

    def mean_over(self, peer: str, *, servers: bool) -> tuple[float, int] | None:
        """The geometric mean of zloop's lead over a peer, on the rows with or without a server, and their number.

        Rows that are noise are left out, but for a first look, which has nothing else.
        """
        found = [self.compare(row, OURS, peer) for row in self.rows if row.has_server == servers]
        times = [each.times for each in found if each and (self.is_first_look or not each.is_noise)]
        return (geometric_mean(times), len(times)) if times else None

    def to_json(self) -> dict[str, Any]:
        """The samples."""
        return self.heading() | {
            "rows": [
                asdict(row) | {"cells": {loop: asdict(cell) for loop, cell in self.cells.get(row.name, {}).items()}}
                for row in self.rows
            ]
        }

    def heading(self) -> dict[str, Any]:
        """What both kinds of JSON begin with."""
        return {
            "description": self.description,
            "loops": self.loops,
            "missing": self.missing,
            "rounds": self.rounds,
            "bounds": {"doubt": DOUBT_BOUND, "foreign": FOREIGN_BOUND, "samples": FEWEST_SAMPLES},
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Results:
        """Of either kind of JSON: the samples, or a summary."""
        rows = document["rows"]
        kind = Summary if any("ratios" in row for row in rows) else cls
        results = kind(document["description"], document["loops"], document["missing"], document["rounds"])
        results.rows = [RowFacts(**{name: row[name] for name in RowFacts.__dataclass_fields__}) for row in rows]
        for row in rows:
            results.read_row(row)
        return results

    def read_row(self, row: dict[str, Any]) -> None:
        self.cells[row["name"]] = {
            loop: Cell([Sample(**sample) for sample in cell["samples"]], cell["failure"])
            for loop, cell in row["cells"].items()
        }

    def summary(self) -> dict[str, Any]:
        """What follows from the samples, which a Summary is made of: a hundredth of their size."""
        return self.heading() | {"rows": [asdict(row) | self.summarize(row) for row in self.rows]}

    def summarize(self, row: RowFacts) -> dict[str, Any]:
        cells = {}
        for loop, cell in self.cells.get(row.name, {}).items():
            best_of = not row.lower_is_better
            known = {
                "value": rounded(cell.value(best_of)),
                "noise": cell.is_noise(best_of),
                "rate": rounded(cell.beside("rate")),
                "p99": rounded(cell.beside("p99")),
                "failure": cell.failure,
            }
            cells[loop] = {name: value for name, value in known.items() if value is not None}
        best = self.compare_to_best_peer(row)
        pairs = [(OURS, loop) for loop in self.loops if loop != OURS] + [(LIMIT, OURS)]
        pairs += [(loop, best.other) for loop in self.loops] if best else []
        ratios = {}
        for loop, other in pairs:
            if found := self.compare(row, loop, other):
                ratios[f"{loop}/{other}"] = [rounded(found.times), rounded(found.doubt), found.is_noise]
        return {"cells": cells, "ratios": ratios}


@dataclass
class CellSummary:
    """What a Cell comes to."""

    known: dict[str, Any]

    @property
    def failure(self) -> str | None:
        return self.known.get("failure")

    def value(self, best_of: bool) -> float | None:
        return self.known.get("value")

    def beside(self, name: str) -> float | None:
        return self.known.get(name)

    def is_noise(self, best_of: bool) -> bool:
        return self.known["noise"]


@dataclass
class Summary(Results):
    """Results without their samples: all that a report needs, and no more."""

    ratios: dict[str, dict[str, Comparison]] = field(default_factory=dict)
    """By the row's name and the two loops', as zloop/uvloop."""

    def read_row(self, row: dict[str, Any]) -> None:
        self.cells[row["name"]] = {loop: CellSummary(known) for loop, known in row["cells"].items()}
        self.ratios[row["name"]] = {
            pair: Comparison(times, doubt, is_noise, pair.partition("/")[2])
            for pair, (times, doubt, is_noise) in row["ratios"].items()
        }

    def cell(self, row: RowFacts, loop: str) -> CellSummary:
        return self.cells.get(row.name, {}).get(loop, CellSummary({"noise": True}))

    def compare(self, row: RowFacts, loop: str, other: str) -> Comparison | None:
        return self.ratios.get(row.name, {}).get(f"{loop}/{other}")

    def summary(self) -> dict[str, Any]:
        rows = []
        for row in self.rows:
            ratios = {pair: [r.times, r.doubt, r.is_noise] for pair, r in self.ratios[row.name].items()}
            cells = {loop: cell.known for loop, cell in self.cells[row.name].items()}
            rows.append(asdict(row) | {"cells": cells, "ratios": ratios})
        return self.heading() | {"rows": rows}


def rounded(number: float | None) -> float | None:
    """To nine digits, more than any table shows."""
    return None if number is None else float(f"{number:.9g}")


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))
