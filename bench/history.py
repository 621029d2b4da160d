"""The chart over time: each run of the benchmarks leaves its geometric means behind, and draws those of all.

    python bench/history.py SUMMARY HISTORY COMMIT >> report.md

SUMMARY is what scripts/bench has left (summary.json). HISTORY, a JSON file that need not be there yet, gets an entry.
Markdown goes to standard output: a chart, and a table of the last runs. Machines differ, and so do the peers' releases:
what is charted is how many times better zloop is than a peer beside it, never a time.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

from stats import Results

PEERS = ("asyncio", "uvloop")
KINDS = {"servers": True, "in one process": False}
KEPT = 200  # runs
SHOWN = 30

Run = dict[str, Any]


def means_of(results: Results) -> dict[str, float]:
    """The geometric means by what they are of, as "servers, asyncio"."""
    found = {}
    for kind, servers in KINDS.items():
        for peer in PEERS:
            if mean := results.mean_over(peer, servers=servers):
                found[f"{kind}, {peer}"] = round(mean[0], 3)
    return found


def read(path: pathlib.Path) -> list[Run]:
    return json.loads(path.read_text()) if path.exists() else []


def added(runs: list[Run], commit: str, results: Results) -> list[Run]:
    """The runs with this one; one of the same commit before it gives way."""
    run = {"commit": commit, "rounds": results.rounds, "means": means_of(results)}
    return [*(earlier for earlier in runs if earlier["commit"] != commit), run][-KEPT:]


def markdown(runs: list[Run]) -> str:
    shown = runs[-SHOWN:]
    names = [f"{kind}, {peer}" for kind in KINDS for peer in PEERS]
    lines = ["# zloop over time", "", "How many times better zloop is, as a geometric mean over the rows.", ""]
    charted = [name for name in names if all(name in run["means"] for run in shown)]
    if len(shown) > 1 and charted:
        commits = ", ".join(f'"{run["commit"][:7]}"' for run in shown)
        lines += ["```mermaid", "xychart-beta", f"  x-axis [{commits}]", '  y-axis "times"']
        lines += [f"  line [{', '.join(str(run['means'][name]) for run in shown)}]" for name in charted]
        lines += ["```", "", f"The lines in their order: {'; '.join(charted)}.", ""]
    lines += [f"| commit | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for run in reversed(shown):
        values = (f"{run['means'][name]:.2f}" if name in run["means"] else "–" for name in names)
        lines.append(f"| {run['commit'][:7]} | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("summary", type=pathlib.Path, help="summary.json of a run")
    parser.add_argument("history", type=pathlib.Path, help="where the runs before are kept, and this one")
    parser.add_argument("commit", help="what was measured")
    arguments = parser.parse_args()
    results = Results.from_json(json.loads(arguments.summary.read_text()))
    runs = added(read(arguments.history), arguments.commit, results)
    arguments.history.parent.mkdir(parents=True, exist_ok=True)
    arguments.history.write_text(json.dumps(runs, indent=1) + "\n")
    print(markdown(runs))


if __name__ == "__main__":
    main()
