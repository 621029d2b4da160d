"""A short soak, what the longer ones' verdict follows from, and faults put in on purpose, which it has to see."""

import json
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support import memory_settings, modules_of

SOAK = pathlib.Path(__file__).parent / "soak"
MEGABYTE = 1 << 20
FAULTS = {
    "loses a byte": "these are its own from byte",
    "mixes connections": "these are stream",
    "leaks a descriptor": "descriptors not back to the start",
    "leaks memory": "memory grows: by",
    "blocks the loop": "the loop lags: p99 is",
    "raises in a callback": "the loop's exception handler was called",
    "forgets a callback": "callbacks lost or out of order",
}


@pytest.fixture
def soak():
    """The modules of tests/soak, which is no package: they are there for one test."""
    with modules_of(SOAK) as import_module:
        yield import_module


def run_soak(path, seconds, *arguments, faults=()):
    """Its exit status, what it printed, and what it wrote as JSON."""
    command = [sys.executable, "-P", SOAK, "--minutes", str(seconds / 60), "--seed", "1", "--output", path, *arguments]
    done = subprocess.run(
        command,
        env=memory_settings() | {"SOAK_FAULT": ", ".join(faults)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
        check=False,
    )
    return done.returncode, done.stdout, json.loads(path.with_suffix(".json").read_text())


@pytest.mark.timeout(180)
@pytest.mark.zloop_only
def test_nothing_is_wrong_after_a_short_soak(loop_kind, tmp_path):
    # How late the loop is on a machine that others use, too, is theirs to say.
    status, output, document = run_soak(tmp_path / "soak", 4, "--connections", "100", "--lag", "5000")
    assert (status, document["reasons"]) == (0, []), output
    assert document["counts"]["bytes"] > MEGABYTE


@pytest.mark.timeout(180)
@pytest.mark.zloop_only
def test_nothing_is_wrong_after_a_short_soak_of_several_loops(loop_kind, tmp_path):
    options = ("--loops", "3", "--connections", "60", "--lag", "5000", "--any-memory")  # threads begin and end
    status, output, document = run_soak(tmp_path / "soak", 3, *options)
    assert (status, document["reasons"]) == (0, []), output
    for name in ("rounds of calls between loops", "loops that came and went", "forks"):
        assert document["counts"][name] > 0


@pytest.mark.timeout(180)
@pytest.mark.zloop_only
def test_each_fault_put_in_on_purpose_is_seen(loop_kind, tmp_path, soak):
    status, output, document = run_soak(tmp_path / "soak", 3, "--connections", "60", faults=FAULTS)
    assert status == 1, output
    unseen = {"leaks memory"} if soak("sampling").interpreter_keeps_memory() else set()
    for fault, reason in FAULTS.items():
        assert (reason in output) == (fault not in unseen), f"{fault}: {document['reasons']}"


def test_stream_names_whose_bytes_are_wrong(soak):
    keyed = soak("keyed")
    keyed.check(7, 5000, keyed.stream(7, 5000, 10_000))
    suspects = [(7, 1000), (8, 1000)]
    for data, origin in (
        (keyed.stream(7, 1, 100), "these are its own from byte 1 on"),
        (keyed.stream(8, 40, 100), "these are stream 8's from byte 40 on"),
        (bytes(100), "bytes of unknown origin"),
    ):
        with pytest.raises(keyed.Mismatch, match=f"stream 7: wrong from byte 0 on: {origin}"):
            keyed.check(7, 0, data, suspects)


def samples_of(memories):
    return [{"time": float(number), "memory": memory} for number, memory in enumerate(memories)]


@pytest.mark.parametrize(
    ("memories", "grows"),
    [
        ([100 * MEGABYTE] * 60, False),
        ([number * MEGABYTE for number in range(30)] + [30 * MEGABYTE] * 60, False),  # at first, it fills its pools
        ([(100 + 50 * (number % 7 == 0)) * MEGABYTE for number in range(60)], False),  # spikes
        ([number * MEGABYTE for number in range(60)], True),
    ],
)
def test_memory_that_grows_to_the_end_is_a_reason(soak, memories, grows):
    reasons = soak("verdict").judge_memory(samples_of(memories))
    assert [reason.partition(":")[0] for reason in reasons] == (["memory grows"] if grows else [])


def test_what_is_left_behind_and_what_is_late_are_reasons(soak):
    verdict = soak("verdict")
    names = ("descriptors", "threads", "children", "engine objects")
    before = dict.fromkeys(names, 1)
    world = SimpleNamespace(complaints=[], counts={"complaints": 0, "work": 0, "other work": 1})
    reasons = verdict.judge(
        world, before, dict.fromkeys(names, 2), samples_of([MEGABYTE] * 20), [1.0] * 100, needed=("work", "other work")
    )
    assert reasons == [
        *(f"{name} not back to the start: 2, and 1 before" for name in names),
        "nothing was done of: work",
        "the loop lags: p99 is 1000 ms, above 250",
    ]
    assert verdict.judge(world, before, before, samples_of([MEGABYTE] * 20), [0.0, 1.0] + [0.0] * 200) == []
