"""Lets an event loop work under everything at once, and says whether it is as sound in the end as it was.

Thousands of connections with and without TLS, slow readers, half-closes and resets; timers, threads, executor jobs,
children, signals, datagrams, names; garbage collections at random moments. With --loops several loops do so, each in a
thread of its own, and call, cancel, drop and fork whatever the others are at. Every byte is checked. Memory,
descriptors, threads, children and the loop's lag are sampled each second. Ends with a verdict: exit status 0, or 1 and
the reasons. The samples are written as JSON and as a chart.
"""

import argparse
import asyncio
import faulthandler
import gc
import importlib
import json
import os
import pathlib
import resource
import sys
import threading
import time
import warnings

import callers
import chart
import children
import company
import conversations
import datagrams
import garbage
import neighbours
import producers
import sampling
import signals
import timers
import verdict
from world import World

TOPICS = (conversations, callers, timers, producers, children, datagrams, garbage, neighbours)
OF_THE_MAIN_THREAD = (signals,)
NEEDED = (
    "tcp conversations", "tls conversations", "unix conversations", "echoes by streams", "echoes by sockets",
    "batches of timers", "rounds of threads", "batches of jobs", "children", "rounds of signals",
    "exchanges of datagrams", "names", "collections",
)  # fmt: skip
NEEDED_BETWEEN_LOOPS = (
    "rounds of calls between loops", "rounds of cancels between loops", "coroutines between loops", "rounds of drops",
    "rounds of clients of all loops", "loops that came and went",
)  # fmt: skip
MOST_CONNECTIONS = 4000
FEWEST_BURSTS = 500
SPARE = 500
"""Descriptors for what is no conversation."""


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, help="decides what each topic does (at random)")
    parser.add_argument("--loop", choices=("zloop", "asyncio", "uvloop"), default="zloop", help="(%(default)s)")
    parser.add_argument("--loops", type=int, default=1, help="so many, each in a thread of its own (%(default)s)")
    parser.add_argument("--any-memory", action="store_true", help="whether memory grows is not judged")
    parser.add_argument("--no-forks", dest="forks", action="store_false", help="with several loops, do not fork")
    parser.add_argument(
        "--connections", type=int, help=f"conversations at a time ({MOST_CONNECTIONS}, or what descriptors allow)"
    )
    parser.add_argument(
        "--lag", type=float, default=1000 * verdict.LAG_BOUND, help="ms that timers may be late at p99 (%(default).0f)"
    )
    parser.add_argument(
        "--patience", type=float, default=30, help="seconds that a step may take on a busy machine (%(default).0f)"
    )
    parser.add_argument("--output", type=pathlib.Path, help="where JSON and chart go, without their suffixes")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(3), "big")
    most = (allow_descriptors() - SPARE * options.loops) // 2
    options.connections = min(options.connections or MOST_CONNECTIONS, most) // options.loops  # of each loop
    return options


def allow_descriptors():
    """As many as the system allows this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(most, 1 << 20) if most != resource.RLIM_INFINITY else 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return most


async def soak(options, results, others, number):
    """Run every topic for the time."""
    loop = asyncio.get_running_loop()
    world = World(loop, options, others, number)
    loop.set_exception_handler(world.on_exception)
    sampler = sampling.Sampler(world, min(1.0, options.minutes))
    results.update(world=world, samples=sampler.samples, lags=sampler.lags)
    if "raises in a callback" in world.faults:
        loop.call_later(1, lambda: 1 / 0)
    async with others.membership(world):
        await do_all(world, sampler, options)
    await loop.shutdown_default_executor()


async def do_all(world, sampler, options):
    topics = TOPICS if world.number else (*TOPICS, *OF_THE_MAIN_THREAD)
    tasks = [asyncio.ensure_future(topic.run(world)) for topic in topics]
    tasks += [asyncio.ensure_future(sampler.run()), asyncio.ensure_future(tell(world, sampler, options))]
    tasks.append(asyncio.ensure_future(end_in_time(world, options)))
    stopping = asyncio.ensure_future(world.stopping.wait())
    # A topic that ends before its time has failed.
    await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
    world.stopping.set()
    done, late = await asyncio.wait([*tasks, stopping], timeout=2 * world.patience)
    for task in done:
        if error := task.exception():
            world.complain(f"{task.get_coro().__qualname__} failed: {error!r}")
    for task in late:
        world.complain(f"{task.get_coro().__qualname__} did not end")
        task.cancel()


async def end_in_time(world, options):
    """Say when it is over: a short soak goes on until each topic has done its least, on a machine that is busy."""
    await world.pause(60 * options.minutes)
    deadline = world.loop.time() + 2 * world.patience
    while world.loop.time() < deadline and not world.stopping.is_set():
        if all(world.counts[name] for name in needed_of(world)) and world.counts["bursts"] >= FEWEST_BURSTS:
            break
        await world.pause(0.1)
    world.stopping.set()


def needed_of(world):
    """What has to be counted in the end."""
    needed = [name for name in NEEDED if world.number == 0 or name != "rounds of signals"]
    return needed if world.company.count == 1 else [*needed, *NEEDED_BETWEEN_LOOPS]


async def tell(world, sampler, options):
    """A sign of life every half minute, of one of the loops."""
    if world.number:
        await world.stopping.wait()
    while not world.stopping.is_set():
        await world.pause(30)
        if sampler.samples:
            last = sampler.samples[-1]
            print(
                f"{last['time']:.0f} s: {last['memory'] >> 20} MiB, {last['descriptors']} descriptors, "
                f"{world.counts['bytes'] >> 20} MiB checked, {world.counts['complaints']} complaints",
                flush=True,
            )


def run_once(options, results, others, number=0):
    new_event_loop = importlib.import_module(options.loop).new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(soak(options, results, others, number))


def run_all(options):
    """Each loop in a thread of its own, the first one in this; return what each has found."""
    others = company.Company(options.loops)
    results = [{} for _ in range(options.loops)]
    made = [
        threading.Thread(target=run_once, args=(options, results[number], others, number), name=f"loop {number}")
        for number in range(1, options.loops)
    ]
    for thread in made:
        thread.start()
    run_once(options, results[0], others)
    for thread in made:
        thread.join()
    others.close()
    return results


def main():
    options = parse_arguments()
    faulthandler.enable()
    warnings.simplefilter("error")
    if options.loops > 1:  # what neighbours.py does on purpose
        warnings.filterwarnings("ignore", "unclosed (transport|<socket)", ResourceWarning)
        warnings.filterwarnings("ignore", ".* fork()", DeprecationWarning)
    sys.unraisablehook = lambda unraisable: unraised.append(repr(unraisable.exc_value))
    unraised = []
    importlib.import_module(options.loop)
    thread = threading.Thread(target=int)  # with which ThreadSanitizer starts one of its own, for good
    thread.start()
    thread.join()
    gc.collect()
    before = sampling.state()
    began = time.monotonic()
    results, *more = run_all(options)
    world = results["world"]
    for other in more:
        world.add(other["world"])
        results["lags"].extend(other["lags"])
        other["world"].let_go()
    del more
    needed = needed_of(world)
    world.let_go()
    after = sampling.settled_state(before)
    for error in unraised:
        world.complain(f"raised where nobody could catch it: {error}")
    reasons = verdict.judge(
        *(world, before, after, results["samples"], results["lags"]),
        needed=needed,
        lag_bound=options.lag / 1000,
        memory=not (options.any_memory or sampling.interpreter_keeps_memory()),
    )
    lag = 1000 * verdict.quantile(results["lags"], 0.99) if results["lags"] else 0.0
    loops = f" {options.loops} loops of" if options.loops > 1 else ""
    said = f"soak of{loops} {options.loop}, seed {options.seed}: {options.connections} connections, "
    said += f"{time.monotonic() - began:.0f} s, {world.counts['bytes'] >> 20} MiB checked, lag p99 {lag:.1f} ms"
    if options.output:
        write(options, results, {"said": said, "reasons": reasons, "before": before, "after": after})
    print(", ".join(f"{count} {name}" for name, count in sorted(world.counts.items())))
    print(said, *(reasons or ["nothing is wrong"]), sep="\n")
    return int(bool(reasons))


def write(options, results, facts):
    """The samples as JSON and as a chart."""
    options.output.parent.mkdir(parents=True, exist_ok=True)
    document = facts | {"counts": dict(results["world"].counts), "samples": results["samples"]}
    pathlib.Path(f"{options.output}.json").write_text(json.dumps(document, indent=1))
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # what the library warns of is not the soak's
        try:
            chart.draw(results["samples"], facts["said"], pathlib.Path(f"{options.output}.png"))
        except ImportError as error:
            print(f"no chart: {error}")


if __name__ == "__main__":
    sys.exit(main())
