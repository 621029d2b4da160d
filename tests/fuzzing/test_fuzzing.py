"""A few random programs on zloop, by fixed seeds; and the machines that make them find what a loop does wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

HERE = Path(__file__).parent
PROGRAMS = {"connections": 20, "streams": 40, "scheduling": 200}
"""For a few seconds."""


def run(machine, loop, programs, seed=1):
    """Run programs of a machine on a loop; return the process."""
    command = [
        sys.executable,
        "-P",
        HERE,
        machine,
        "--seed",
        str(seed),
        "--programs",
        str(programs),
        "--here",
        "--whole",
    ]
    environment = os.environ | {"FUZZ_LOOP": loop}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize("machine", PROGRAMS)
@pytest.mark.parametrize("loop", ["zloop", "asyncio"])
def test_random_programs(machine, loop):
    done = run(machine, loop, PROGRAMS[machine])
    assert (done.returncode, done.stderr[-3000:]) == (0, "")


@pytest.mark.parametrize(
    ("machine", "loop", "complaint"),
    [
        ("connections", "LosesBytes", "not within 5.0 seconds"),
        ("connections", "LeaksDescriptors", "assert descriptors() == self.descriptors"),
        ("scheduling", "LastComesFirst", "Run(new_loop, program).execute() == expected"),
    ],
)
def test_sick_loop_is_found(machine, loop, complaint):
    done = run(machine, loop, 200)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_batch_that_fails_is_named():
    command = [sys.executable, "-P", HERE, "scheduling", "--seed", "1", "--whole"]
    environment = os.environ | {"FUZZ_LOOP": "LastComesFirst"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 1
    assert "failed (1): python -P tests/fuzzing scheduling --seed 1 --programs 100 --here" in done.stdout
