"""What the measurements amount to: a table, and the reasons why a loop does not stand the attacks, or none."""

import statistics

MEGABYTE = 1 << 20
MEMORY_BOUND = 96 * MEGABYTE
MEMORY_UNBOUNDED = {"a never-reading peer of a careless server"}
"""What is queued is the application's choice."""
RETRY_DELAY = 1.0
"""Seconds after which accepting is tried again, as in asyncio."""
RECOVERY_BOUND = RETRY_DELAY + 3.0
"""A busy machine takes some of it."""
NOISE_FLOOR = 0.0002
"""Seconds by which p99 of two runs may differ on a machine that does nothing else."""
LONGER = {"datagram flood": 0.002}
"""Seconds by which the bystander may wait longer than on asyncio, and docs/overload.md says why."""


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summarize(rounds):
    """The medians over the rounds of one attack, and the most memory. Noise is half of p99's middle half."""
    p99 = [quantile(measured["delays"], 0.99) for measured in rounds]
    return {
        "p50": statistics.median(quantile(measured["delays"], 0.5) for measured in rounds),
        "p99": statistics.median(p99),
        "noise": (quantile(p99, 0.75) - quantile(p99, 0.25)) / 2,
        "memory": max(measured["memory"] for measured in rounds),
        "recovery": statistics.median(measured["recovery"] for measured in rounds),
        "rounds": len(rounds),
    }


def judge(summaries):
    """Reasons, one a line, from the summaries by attack and loop."""
    reasons = []
    for attack, loops in summaries.items():
        ours = loops.get("zloop")
        if ours is None:
            continue
        if attack not in MEMORY_UNBOUNDED and ours["memory"] > MEMORY_BOUND:
            reasons.append(f"{attack}: memory grows by {ours['memory'] / MEGABYTE:.0f} MiB")
        if ours["recovery"] > RECOVERY_BOUND:
            reasons.append(f"{attack}: a connection after it is served after {ours['recovery']:.1f} s")
        theirs = loops.get("asyncio")
        # One round says nothing of its noise.
        if theirs and ours["rounds"] > 1 and ours["p99"] > theirs["p99"] + bound(attack, ours, theirs):
            reasons.append(
                f"{attack}: the probe's p99 is {1000 * ours['p99']:.2f} ms, and {1000 * theirs['p99']:.2f} on asyncio"
            )
    return reasons


def bound(attack, ours, theirs):
    return LONGER.get(attack, 0.0) + max(NOISE_FLOOR, 2 * (ours["noise"] + theirs["noise"]))


def table(summaries):
    """The summaries as Markdown."""
    lines = [
        "| attack | loop | p50, ms | p99, ms | ± | memory, MiB | first answer after it, s |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for attack, loops in summaries.items():
        for loop, row in loops.items():
            times = " | ".join(f"{1000 * row[name]:.2f}" for name in ("p50", "p99", "noise"))
            memory = f"{row['memory'] / MEGABYTE:.0f}"
            lines.append(f"| {attack} | {loop} | {times} | {memory} | {row['recovery']:.2f} |")
    return "\n".join(lines)
