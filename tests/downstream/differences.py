"""Judges each test by its outcomes on asyncio and on zloop, and prints what differs."""

import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sides import Outcome
from suites import Suite

NOTHING = Outcome("not there")  # a test that a side did not collect
TITLES = {
    "listed": "Differ, and are listed: they can pass only on the standard library's own classes",
    "excluded": "Excluded: they fail on asyncio as well",
    "flaky": "Flaky: they differ now and then, on the same loop",
    "surplus": "Fail on asyncio, pass on zloop",
    "failed": "Failed: zloop differs from asyncio",
}
VERDICTS = ("passed", "failed", "flaky", "excluded", "surplus", "listed", "skipped")


@dataclass
class Judgement:
    """A test's verdict over all runs, with a reason where it did not simply pass."""

    test: str
    verdict: str
    reason: str
    stock: list[Outcome]
    zloop: list[Outcome]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def differing(stock: dict[str, Outcome], zloop: dict[str, Outcome]) -> set[str]:
    """Return the tests that are worth another look: those that were unlike, and those that failed."""
    tests = stock.keys() | zloop.keys()
    pairs = {test: (stock.get(test, NOTHING), zloop.get(test, NOTHING)) for test in tests}
    return {
        test
        for test, (left, right) in pairs.items()
        if left.verdict != right.verdict or left.verdict == "failed" or bool(left.loops) != bool(right.loops)
    }


def judge(test: str, stock: list[Outcome], zloop: list[Outcome], suite: Suite) -> Judgement:
    """Judge a test by its outcomes in the same number of runs on each side."""
    verdict, reason = difference(stock, zloop) or agreement(stock, zloop)
    if verdict == "failed" and (listed := suite.reason(test)):
        verdict, reason = "listed", listed
    return Judgement(test, verdict, reason, stock, zloop)


def difference(stock: list[Outcome], zloop: list[Outcome]) -> tuple[str, str] | None:
    """Return what sets zloop apart, as verdict and reason; None if nothing does.

    A verdict that only one run more or less has had, of several, is chance.
    """
    if strangers := [loop for loop, given in merged_loops(zloop).items() if not given]:
        return "failed", f"ran on {', '.join(strangers)}"
    if verdicts(stock) == {"failed"} and verdicts(zloop) == {"passed"}:
        return "surplus", stock[0].why
    usual = usual_verdict(stock)
    on_stock, on_zloop = (sum(outcome.verdict == usual for outcome in side) for side in (stock, zloop))
    if on_stock - on_zloop > 1 or (on_zloop == 0 and len(stock) == 1):
        return "failed", reason_of(stock, zloop)
    if on_stock + on_zloop < len(stock) + len(zloop):
        return "flaky", reason_of(stock, zloop)
    return None


def agreement(stock: list[Outcome], zloop: list[Outcome]) -> tuple[str, str]:
    """Return the verdict, and the reason if there is one, where both sides' verdicts are the same."""
    usual = usual_verdict(stock)
    if usual in ("failed", "skipped"):
        return {"failed": "excluded", "skipped": "skipped"}[usual], stock[0].why
    # A child that is ended at once runs a loop now and then.
    ran = [{bool(outcome.loops) for outcome in side} for side in (stock, zloop)]
    if ran in ([{True}, {False}], [{False}, {True}]):
        return "failed", f"ran a loop on {'asyncio' if ran[0] == {True} else 'zloop'} only"
    return "passed", ""


def verdicts(outcomes: Iterable[Outcome]) -> set[str]:
    return {outcome.verdict for outcome in outcomes}


def usual_verdict(outcomes: Iterable[Outcome]) -> str:
    return Counter(outcome.verdict for outcome in outcomes).most_common(1)[0][0]


def merged_loops(outcomes: Iterable[Outcome]) -> dict[str, bool]:
    return {loop: given for outcome in outcomes for loop, given in outcome.loops.items()}


def reason_of(stock: list[Outcome], zloop: list[Outcome]) -> str:
    """Say how often each side had which verdict, and why if that is known."""
    sides = []
    for name, outcomes in (("asyncio", stock), ("zloop", zloop)):
        counts = Counter(outcome.verdict for outcome in outcomes)
        why = next((f" ({outcome.why})" for outcome in outcomes if outcome.why), "")
        sides.append(f"{name} " + ", ".join(f"{verdict} {n}x" for verdict, n in counts.items()) + why)
    return "; ".join(sides)


def show(heading: str, judgements: list[Judgement], verbose: bool = False) -> None:
    """Print the report."""
    print(heading)
    by_verdict: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_verdict[judgement.verdict].append(judgement)
    show_loops(judgements)
    for verdict, title in TITLES.items():
        if group := by_verdict[verdict]:
            print(f"\n{title}: {len(group)}")
        for judgement in group:
            print(f"  {judgement.test}\n      {judgement.reason}")
            if verbose:
                text = next((outcome.text for outcome in judgement.zloop + judgement.stock if outcome.text), "")
                print(textwrap.indent(text, " " * 6))
    show_table(judgements)


def show_loops(judgements: list[Judgement]) -> None:
    """Print which loops ran, and in how many tests: the proof that it was zloop that was tested."""
    for title, side in (("stock", lambda j: j.stock), ("zloop", lambda j: j.zloop)):
        counts = loops_of(judgements, side)
        print(f"\nTests that ran a loop, where {title} was given:")
        for (loop, given), count in counts.most_common():
            print(f"{count:7}  {loop}{'' if given else ', which is another loop'}")


def loops_of(judgements: list[Judgement], side: Callable[[Judgement], list[Outcome]]) -> Counter[tuple[str, bool]]:
    return Counter(loop for judgement in judgements for loop in merged_loops(side(judgement)).items())


def show_table(judgements: list[Judgement]) -> None:
    """Print a line for each file and their sum; then how many tests passed, failed and say nothing."""
    by_file: dict[str, list[Judgement]] = defaultdict(list)
    for judgement in judgements:
        by_file[judgement.test.partition("::")[0]].append(judgement)
    width = max(map(len, by_file), default=0)
    columns = [*VERDICTS, "on loop", "asyncio s", "zloop s"]
    print(f"\n{'':{width}}" + "".join(f"{title:>10}" for title in columns))
    for name, group in [*sorted(by_file.items()), ("together", judgements)]:
        counted = Counter(judgement.verdict for judgement in group)
        counts = [counted[verdict] for verdict in VERDICTS]
        counts.append(sum(bool(merged_loops(judgement.zloop)) for judgement in group))
        seconds = [
            sum(side[0].seconds for side in sides) for sides in ([j.stock for j in group], [j.zloop for j in group])
        ]
        print(f"{name:{width}}" + "".join(f"{n:10}" for n in counts) + "".join(f"{s:10.1f}" for s in seconds))
    counted = Counter(judgement.verdict for judgement in judgements)
    others = counted.total() - counted["passed"] - counted["failed"]
    print(f"\n{counted['passed']} passed, {counted['failed']} failed, {others} skipped")
