"""Results as Markdown tables, as a line for the terminal, and as a chart."""

from __future__ import annotations

import itertools
import json
import pathlib
import re
from typing import Any

import rich.box
from loops import DECIDED_BY_GATHERING, LIMIT, LOOPS, OURS
from rich.console import Console
from rich.table import Table
from stats import DOUBT_BOUND, FEWEST_SAMPLES, FOREIGN_BOUND, Comparison, Results, RowFacts

ABSENT = "–"
NOISE = "noise"


def markdown(results: Results) -> str:
    """The whole report."""
    parts = ["# zloop and other event loops", describe(results), overview(results)]
    for has_server, kind, heading in (
        (True, "Servers", "Processor time of the server for a request; the best peer's is divided by zloop's."),
        (False, "In one process", "Operations a second, except where a unit says otherwise."),
    ):
        rows = [row for row in results.rows if row.has_server == has_server]
        if rows:
            parts += [f"## {kind}", heading, value_table(results, rows)]
        if rows and has_server:
            parts += ["Requests/s:", beside_table(results, rows, "rate")]
            parts += ["99 % of requests were answered within (µs):", beside_table(results, rows, "p99")]
    parts += [summary(results), absences(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def describe(results: Results) -> str:
    """The machine, the loops, and how to read the numbers."""
    lines = [f"- {name}: {value}" for name, value in results.description.items()]
    lines.append("- loops: " + "; ".join(f"{title(name)} ({version})" for name, version in results.loops.items()))
    lines += [f"- not measured: {title(name)} ({reason})" for name, reason in results.missing.items()]
    gathering = [name for name in results.loops if gathers(name)]
    decided = [f"`{row.name}`" for row in results.rows if row.name in DECIDED_BY_GATHERING]
    if gathering and decided:
        lines.append(f"- gather writes, which decides {' and '.join(decided)}: {', '.join(map(title, gathering))}")
    if results.is_first_look:
        reading = f"A first look: nothing follows from fewer than {FEWEST_SAMPLES} rounds."
    else:
        reading = (
            f"There are {results.rounds} interleaved rounds, with several windows in each, where the loops take turns. "
            "Costs are the median of all windows; of operations/s (of the process's own processor time, unless it "
            "waits for others) the best counts. Ratios are the median of what they are in each window, and behind ± is "
            "how far off that may be, at 95 % confidence. "
            f"{NOISE} stands for what may be off by more than {DOUBT_BOUND:.0%}, or where others used more than "
            f"{FOREIGN_BOUND:.0%} of a core in so many rounds that fewer than {FEWEST_SAMPLES} samples are left."
        )
    reading += f" {ABSENT} stands for no number; the reasons are below and in the JSON file."
    return "\n".join([*lines, "", reading])


def overview(results: Results) -> str:
    """Zloop beside the best peer of each row, beside uvloop, and beside a server without Python."""
    if OURS not in results.loops:
        return ""
    table = new_table("row", "unit", OURS, "best peer", "ahead of it", "ahead of uvloop", "over the limit")
    for row in results.rows:
        best = results.compare_to_best_peer(row)
        if best is None:
            continue
        others = (results.compare(row, OURS, "uvloop"), results.compare(row, LIMIT, OURS))
        ratios = [ratio_text(results, found) if found else ABSENT for found in (best, *others)]
        value = value_text(results, row, OURS)
        other = f"{peer_text(row, best.other)} {value_text(results, row, best.other)}"
        table.add_row(f"`{row.name}`", row.unit, value, other, *ratios)
    reading = "How many times better zloop is than the peer that is best at the row."
    return f"## zloop beside the best peer\n\n{reading}\n\n{render(table)}" if table.row_count else ""


def value_table(results: Results, rows: list[RowFacts]) -> str:
    table = new_table("row", "unit", *map(title, results.loops), "ahead of the best peer", "over the limit")
    for row in rows:
        values = [value_text(results, row, loop) for loop in results.loops]
        best = results.compare_to_best_peer(row)
        ahead = f"{ratio_text(results, best)} ({peer_text(row, best.other)})" if best else ABSENT
        limit = results.compare(row, LIMIT, OURS)
        over = ratio_text(results, limit) if limit else ABSENT
        table.add_row(f"`{row.name}` {row.title}", row.unit, *values, ahead, over)
    return render(table)


def beside_table(results: Results, rows: list[RowFacts], name: str) -> str:
    table = new_table("row", *map(title, results.loops))
    for row in rows:
        values = [results.cell(row, loop).beside(name) for loop in results.loops]
        if any(value is not None for value in values):
            table.add_row(f"`{row.name}`", *(ABSENT if value is None else number_text(value) for value in values))
    return render(table)


def title(loop: str) -> str:
    """The name of a loop for readers."""
    return (LOOPS[loop].title if loop in LOOPS else "") or loop


def gathers(loop: str) -> bool:
    return loop in LOOPS and LOOPS[loop].gathers


def peer_text(row: RowFacts, loop: str) -> str:
    """A loop's name, and that it gathers writes where that decides."""
    return f"{title(loop)}, gathering" if gathers(loop) and row.name in DECIDED_BY_GATHERING else title(loop)


def value_text(results: Results, row: RowFacts, loop: str) -> str:
    value = results.value(row, loop)
    if value is None:
        return ABSENT
    if results.is_first_look:
        return f"≈{number_text(value)}"
    return NOISE if results.cell(row, loop).is_noise(not row.lower_is_better) else number_text(value)


def ratio_text(results: Results, comparison: Comparison) -> str:
    if results.is_first_look:
        return f"≈{comparison.times:.2f}"
    return NOISE if comparison.is_noise else f"{comparison.times:.2f} ±{comparison.times * comparison.doubt:.2f}"


def number_text(value: float) -> str:
    """With as many digits as are worth reading: three and more."""
    decimals = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{decimals}f}"


def row_text(results: Results, row: RowFacts) -> str:
    """A row in one line, for the terminal."""
    best = results.compare_to_best_peer(row)
    values = ", ".join(f"{title(loop)} {value_text(results, row, loop)}" for loop in results.loops)
    ahead = f"; {ratio_text(results, best)} of {title(best.other)}" if best else ""
    return f"{row.name} ({row.unit}): {values}{ahead}"


def summary(results: Results) -> str:
    """The geometric means over each peer."""
    table = new_table("peer", "servers", "rows", "in one process", "rows")
    for peer in results.loops:
        if peer in (OURS, LIMIT):
            continue
        cells = []
        for servers in (True, False):
            mean = results.mean_over(peer, servers=servers)
            cells += [f"{mean[0]:.2f}", str(mean[1])] if mean else [ABSENT, "0"]
        table.add_row(title(peer), *cells)
    if not table.row_count or OURS not in results.loops:
        return ""
    return f"## zloop over each peer\n\nThe geometric mean of how many times better it is.\n\n{render(table)}"


def absences(results: Results) -> str:
    """Why there is no number, reason by reason."""
    found = [
        (loop, cell.failure, name)
        for name, cells in results.cells.items()
        for loop, cell in cells.items()
        if cell.failure
    ]
    lines = []
    for (loop, failure), group in itertools.groupby(sorted(found), key=lambda entry: entry[:2]):
        names = ", ".join(f"`{name}`" for _, _, name in group)
        lines.append(f"- {title(loop)}: {names}: {failure}")
    return "## No number\n\n" + "\n".join(lines) if lines else ""


def compact(document: dict[str, Any]) -> str:
    """JSON with a line for each cell and each ratio: what has changed shows in a diff."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    innermost = re.compile(r"[\[{][^\[\]{}]*[\]}]")
    return innermost.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text) + "\n"


def new_table(*headings: str) -> Table:
    table = Table(box=rich.box.MARKDOWN)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    return table


def render(table: Table) -> str:
    console = Console(width=1000, force_terminal=False)
    with console.capture() as text:
        console.print(table)
    return "\n".join(line.rstrip() for line in text.get().strip().splitlines())


def draw(results: Results, path: pathlib.Path) -> None:
    """Write the chart: on each row, how each loop does in proportion to the best peer. Raises ImportError."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in reversed(results.rows) if results.compare_to_best_peer(row)]
    if not rows:
        return
    figure, axes = plt.subplots(figsize=(10, 1.5 + 0.24 * len(rows)), layout="constrained")
    for loop in [*(name for name in results.loops if name != OURS), OURS]:
        places, heights = points(results, rows, loop)
        ours = loop == OURS
        axes.scatter(
            places, heights, label=title(loop), s=60 if ours else 22, zorder=3 if ours else 2,
            color="black" if ours else None, marker="D" if ours else "|" if loop == LIMIT else "o",
        )  # fmt: skip
    axes.axvline(1, color="0.7", zorder=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=7)
    axes.set_ylim(-1, len(rows))
    axes.set_xlabel("times as good as the best peer (further right is better)")
    remark = "a first look, which may be all noise" if results.is_first_look else f"{results.rounds} rounds"
    axes.set_title(f"{results.description.get('Python', '')}, {remark}", fontsize=9)
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def points(results: Results, rows: list[RowFacts], loop: str) -> tuple[list[float], list[int]]:
    """Where a loop's dots are: how it compares to the best peer, and the number of the row. No dot is noise."""
    across, up = [], []
    for number, row in enumerate(rows):
        best = results.compare_to_best_peer(row)
        assert best is not None
        found = results.compare(row, loop, best.other)
        if found and (results.is_first_look or not found.is_noise):
            across.append(found.times)
            up.append(number)
    return across, up
