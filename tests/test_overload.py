"""A server stands each attack of tests/overload in a small way; and what the verdict on a whole run follows from."""

import json
import pathlib
import subprocess
import sys

import pytest
from support import memory_settings, modules_of

OVERLOAD = pathlib.Path(__file__).parent / "overload"
MEGABYTE = 1 << 20


@pytest.fixture
def judging():
    """The module of that name in tests/overload, which is no package: it is there for one test."""
    with modules_of(OVERLOAD) as import_module:
        yield import_module("judging")


def test_server_stands_each_attack(loop_kind, tmp_path):
    output = tmp_path / "overload"
    # On asyncio only what takes the longest to get over: each costs a server and an attacker.
    attacks = ["descriptor limit"] if loop_kind == "asyncio" else []
    small = ["--rounds", "1", "--seconds", "0.2", "--scale", "0.05", "--output", output]
    command = [sys.executable, "-P", OVERLOAD, *attacks, "--loop", loop_kind, *small]
    done = subprocess.run(command, env=memory_settings(), capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["nothing is wrong"]), done.stderr
    results = json.loads(output.with_suffix(".json").read_text())["results"]
    assert {attack: len(loops[loop_kind]) for attack, loops in results.items()} == dict.fromkeys(results, 1)
    assert len(results) == (len(attacks) or 8)


def measured(delay, *, memory=0, recovery=0.1):
    return {"delays": [delay] * 200, "memory": memory, "recovery": recovery}


def summaries(judging, ours, theirs, attack="slowloris"):
    return {attack: {"zloop": judging.summarize(ours), "asyncio": judging.summarize(theirs)}}


@pytest.mark.parametrize(
    ("ours", "theirs", "reasons"),
    [
        ([measured(0.001)] * 5, [measured(0.002)] * 5, []),
        ([measured(0.0021)] * 5, [measured(0.002)] * 5, []),
        (
            [measured(0.003)] * 5,
            [measured(0.002)] * 5,
            ["slowloris: the probe's p99 is 3.00 ms, and 2.00 on asyncio"],
        ),
        # What other programs of the machine do shows as noise.
        ([measured(delay) for delay in (0.002, 0.002, 0.003, 0.006, 0.006)], [measured(0.002)] * 5, []),
        ([measured(0.003)], [measured(0.002)], []),
        (
            [measured(0.001), measured(0.001, memory=200 * MEGABYTE)],
            [measured(0.002)] * 2,
            ["slowloris: memory grows by 200 MiB"],
        ),
        (
            [measured(0.001, recovery=4.5)] * 2,
            [measured(0.002)] * 2,
            ["slowloris: a connection after it is served after 4.5 s"],
        ),
    ],
)
def test_reasons_follow_from_the_measurements(judging, ours, theirs, reasons):
    assert judging.judge(summaries(judging, ours, theirs)) == reasons


def test_server_that_queues_without_bound_may_take_memory(judging):
    much = [measured(0.001, memory=500 * MEGABYTE)]
    [attack] = judging.MEMORY_UNBOUNDED
    assert judging.judge(summaries(judging, much, much, attack)) == []


def test_what_a_reason_is_written_for_may_take_longer(judging):
    [(attack, longer)] = judging.LONGER.items()
    theirs = [measured(0.002)] * 5
    within, beyond = (summaries(judging, [measured(0.002 + more)] * 5, theirs, attack) for more in (longer, 2 * longer))
    assert judging.judge(within) == []
    assert len(judging.judge(beyond)) == 1


def test_table_has_a_row_for_each_attack_and_loop(judging):
    table = judging.table(summaries(judging, [measured(0.001, memory=MEGABYTE)], [measured(0.002)]))
    assert table.splitlines()[2:] == [
        "| slowloris | zloop | 1.00 | 1.00 | 0.00 | 1 | 0.10 |",
        "| slowloris | asyncio | 2.00 | 2.00 | 0.00 | 0 | 0.10 |",
    ]
