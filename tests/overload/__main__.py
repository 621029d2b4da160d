"""Attacks a server on zloop, asyncio and uvloop, and measures how long a bystander waits for an answer meanwhile.

The server runs on one core; the attackers and the probe of the bystander, an echo every few milliseconds, on the other.
Loops take turns in each round; the table has medians over the rounds. Exit status 1 if zloop does not stand an attack:
no answer, memory without bound, no new connection after it, or a p99 above asyncio's by more than the noise.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import sys
import tempfile

import judging
import measuring
import trustme

LOOPS = ("zloop", "asyncio", "uvloop")


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/overload", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"{', '.join(measuring.ATTACKS)}; or all")
    parser.add_argument("--loop", choices=LOOPS, action="append", help="a loop; or all that are there")
    parser.add_argument("--rounds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement (%(default)s)")
    parser.add_argument("--scale", type=float, default=1, help="a factor for the number of attackers (%(default)s)")
    parser.add_argument("--output", type=pathlib.Path, help="where JSON and table go, without their suffixes")
    options = parser.parse_args()
    if unknown := set(options.attacks) - set(measuring.ATTACKS):
        parser.error(f"there is no attack {unknown.pop()!r}")
    options.attacks = options.attacks or list(measuring.ATTACKS)
    options.loop = options.loop or [name for name in LOOPS if importlib.util.find_spec(name)]
    return options


def two_cores():
    """The server's and everybody else's, or none where there is but one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[:2] if len(cores) > 1 else []


def measure_all(options, files):
    """Every attack on every loop, round by round: the results by attack and loop, and what failed."""
    cores = two_cores()
    if cores:
        os.sched_setaffinity(0, {cores[1]})
    results = {attack: {loop: [] for loop in options.loop} for attack in options.attacks}
    failures = []
    for number in range(options.rounds):
        for attack, loops in results.items():
            for loop, rounds in loops.items():
                print(f"round {number + 1}: {attack}, {loop}", file=sys.stderr, flush=True)
                try:
                    rounds.append(measuring.measure(loop, attack, options.seconds, files, cores, options.scale))
                except (measuring.Hanging, OSError) as error:
                    failures.append(f"{attack}, {loop}: {error}")
    return results, failures


def main():
    options = parse_arguments()
    issued = trustme.CA().issue_cert("overload.example")
    with tempfile.TemporaryDirectory() as folder:
        files = [str(pathlib.Path(folder) / name) for name in ("certificate", "key")]
        issued.cert_chain_pems[0].write_to_path(files[0])
        issued.private_key_pem.write_to_path(files[1])
        results, failures = measure_all(options, files)
    summaries = {
        attack: {loop: judging.summarize(rounds) for loop, rounds in loops.items() if rounds}
        for attack, loops in results.items()
    }
    reasons = failures + judging.judge(summaries)
    print(table := judging.table(summaries))
    print(*(reasons or ["nothing is wrong"]), sep="\n")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(f"{options.output}.json").write_text(json.dumps({"reasons": reasons, "results": results}))
        pathlib.Path(f"{options.output}.md").write_text(f"{table}\n")
    return int(bool(reasons))


if __name__ == "__main__":
    sys.exit(main())
