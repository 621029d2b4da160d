"""What a soak's measurements amount to: reasons, in plain words, why it is not good, or none."""

import statistics

MEGABYTE = 1 << 20
GROWTH_BOUND = 8 * MEGABYTE
GROWTH_SHARE = 0.03
"""Memory may grow by so much over the second half of a run, or by this share of what there is: an allocator's holes."""
LAG_BOUND = 0.25
"""Seconds that the loop's timers may be late, in 99 of 100 looks."""


def judge(world, before, after, samples, lags, *, needed=(), lag_bound=LAG_BOUND, memory=True):
    """Reasons, one a line. `before` and `after` are states without a loop. `memory`: whether its growth counts."""
    reasons = list(world.complaints)
    if world.counts["complaints"] > len(world.complaints):
        reasons.append(f"and {world.counts['complaints'] - len(world.complaints)} more like these")
    reasons += [
        f"{name} not back to the start: {after[name]}, and {before[name]} before"
        for name in ("descriptors", "threads", "children", "engine objects")
        if after[name] > before[name]
    ]
    reasons += [f"nothing was done of: {name}" for name in needed if not world.counts[name]]
    if memory:
        reasons += judge_memory(samples)
    if lags and quantile(lags, 0.99) > lag_bound:
        reasons.append(f"the loop lags: p99 is {1000 * quantile(lags, 0.99):.0f} ms, above {1000 * lag_bound:.0f}")
    return reasons


def judge_memory(samples):
    half = samples[len(samples) // 2 :]
    if len(half) < 4:
        return ["too short to see whether memory grows"]
    growth = slope([sample["time"] for sample in half], [sample["memory"] for sample in half])
    grown = growth * (half[-1]["time"] - half[0]["time"])
    bound = max(GROWTH_BOUND, GROWTH_SHARE * statistics.median(sample["memory"] for sample in half))
    if grown <= bound:
        return []
    said = f"memory grows: by {grown / MEGABYTE:.1f} MiB over the second half"
    return [f"{said}, {growth * 3600 / MEGABYTE:,.0f} MiB an hour; {bound / MEGABYTE:.0f} are tolerated"]


def slope(times, values):
    """The median of the slopes between any two points (Theil and Sen): a spike does not move it."""
    step = max(1, len(times) // 300)
    points = list(zip(times[::step], values[::step], strict=True))
    found = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for number, earlier in enumerate(points)
        for later in points[number + 1 :]
        if later[0] > earlier[0]
    ]
    return statistics.median(found) if found else 0.0


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
