"""Drives zloop through random programs, which Hypothesis makes and, where one fails, cuts down to what it takes.

    connections    of every kind: every byte, the order of the callbacks, nothing left behind (connections.py)
    streams        asyncio's streams: reads of every kind against writes of every size (streams.py)
    sockets        the sock_* calls, readers and writers on sockets of the program's own (sockets.py)
    endpoints      pipes, FIFOs and terminals; datagram endpoints of every kind (endpoints.py)
    threads        two loops in threads, called by others, by one another, and closed under their callers (threads.py)
    scheduling     callbacks, timers, tasks and exceptions: the order in which they run on asyncio (scheduling.py)

A batch of programs runs in a process of its own, so that a crash is found, too. Its seed repeats it. What has failed is
kept in the folder of --examples, and tried first the next time.
"""

import argparse
import faulthandler
import itertools
import logging
import os
import pathlib
import subprocess
import sys
import time
import warnings

HERE = pathlib.Path(__file__).parent
MACHINES = ("connections", "streams", "sockets", "endpoints", "threads", "scheduling")
BATCH = 100
LONGEST_BATCH = 900.0
"""Seconds after which a batch hangs. Cutting down a program that fails takes most of them."""


def run_batch(machine, seed, programs, examples, cuts_down):
    """Run the programs of a seed in this process; raise what one of them does."""
    import hypothesis
    from hypothesis.configuration import set_hypothesis_home_dir
    from hypothesis.database import DirectoryBasedExampleDatabase

    set_hypothesis_home_dir(HERE.parents[1] / "build" / "hypothesis")
    faulthandler.enable()
    warnings.simplefilter("error")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of what the programs do wrong on purpose
    settings = hypothesis.settings(
        max_examples=programs,
        deadline=None,
        database=DirectoryBasedExampleDatabase(examples) if examples else None,
        suppress_health_check=list(hypothesis.HealthCheck),
        stateful_step_count=40,
        phases=set(hypothesis.Phase) - (set() if cuts_down else {hypothesis.Phase.shrink, hypothesis.Phase.explain}),
    )
    if machine == "scheduling":
        from scheduling import PROGRAMS, check_order

        hypothesis.seed(seed)(settings(hypothesis.given(PROGRAMS)(check_order)))()
        return
    if machine == "connections":
        from connections import Connections as Machine
    elif machine == "streams":
        from streams import Streams as Machine
    elif machine == "sockets":
        from sockets import Sockets as Machine
    elif machine == "endpoints":
        from endpoints import Endpoints as Machine
    else:
        from threads import Threads as Machine
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(hypothesis.seed(seed)(Machine), settings=settings)


def command_for(machine, seed, options):
    examples = ["--examples", options.examples] if options.examples else []
    whole = ["--whole"] if options.whole else []
    programs = str(min(options.programs, BATCH))
    return [machine, "--seed", str(seed), "--programs", programs, "--here", *examples, *whole]


def run_batches(options):
    """Run batches until the time or the programs are used up. False at the first that fails."""
    deadline = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    done = 0
    for number in itertools.count():
        if time.monotonic() > deadline or (not options.minutes and done >= options.programs * len(options.machines)):
            break
        machine = options.machines[number % len(options.machines)]
        command = command_for(machine, options.seed + number // len(options.machines), options)
        try:
            finished = subprocess.run(
                [sys.executable, "-P", HERE, *command],
                capture_output=True,
                text=True,
                timeout=LONGEST_BATCH,
                check=False,
            )
            status, output = finished.returncode, finished.stdout + finished.stderr
        except subprocess.TimeoutExpired as error:
            status, output = "hangs", str(error.stderr or b"", "utf-8", "replace")
        if status != 0:
            print(output, f"failed ({status}): python -P tests/fuzzing {' '.join(map(str, command))}", sep="\n")
            return False
        done += min(options.programs, BATCH)
        print(f"{machine}: seed {command[2]} is done; {done} programs", flush=True)
    return True


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tests/fuzzing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("machines", nargs="*", metavar="MACHINE", help="all of them if none is named")
    parser.add_argument("--minutes", type=float, default=0, help="how long, in place of a number of programs")
    parser.add_argument("--programs", type=int, default=BATCH, help="how many for each machine (%(default)s)")
    parser.add_argument("--seed", type=int, help="the first batch's (at random)")
    parser.add_argument("--examples", help="the folder of what has failed before")
    parser.add_argument("--whole", action="store_true", help="show a program that fails as it is, not cut down")
    parser.add_argument("--here", action="store_true", help="one batch of each, in this process")
    options = parser.parse_args()
    if unknown := set(options.machines) - set(MACHINES):
        parser.error(f"there is no machine {unknown.pop()}: {', '.join(MACHINES)}")
    options.machines = options.machines or list(MACHINES)
    if options.seed is None:
        options.seed = int.from_bytes(os.urandom(3), "big")
    return options


def main():
    options = parse_arguments()
    if options.here:
        for machine in options.machines:
            run_batch(machine, options.seed, options.programs, options.examples, not options.whole)
        return 0
    return int(not run_batches(options))


if __name__ == "__main__":
    sys.exit(main())
