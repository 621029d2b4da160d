"""A few random programs on zloop, by fixed seeds; and the machines that make them find what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

HERE = Path(__file__).parent
PROGRAMS = {("connections", "streams", "sockets", "endpoints", "threads"): 4, ("scheduling",): 40}
"""How many of each, for a few seconds."""


def run(machines, programs, **settings):
    """Run programs of some machines on zloop, or as the settings say; return the process."""
    command = [sys.executable, "-P", HERE, *machines, "--seed", "1", "--programs", str(programs), "--here", "--whole"]
    environment = os.environ | settings
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize("machines", PROGRAMS, ids=" ".join)
def test_random_programs(machines):
    done = run(machines, PROGRAMS[machines])
    assert (done.returncode, done.stderr[-3000:]) == (0, "")


@pytest.mark.parametrize(
    ("machine", "fault", "complaint"),
    [
        ("connections", "leaks descriptors", "assert descriptors() == self.descriptors"),
        ("endpoints", "doubles datagrams", "has arrived that does not follow"),
        ("sockets", "leaves readers", "remove_reader() was wrong"),
        ("threads", "loses callbacks", "assert arrived == [list(range(count))] * producers"),
    ],
)
def test_what_is_wrong_is_found(machine, fault, complaint):
    done = run([machine], 100, FUZZ_FAULT=fault)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_batch_that_fails_is_named():
    command = [sys.executable, "-P", HERE, "scheduling", "--seed", "1", "--whole"]
    environment = os.environ | {"FUZZ_LOOP": "LastComesFirst"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 1
    assert "failed (1): python -P tests/fuzzing scheduling --seed 1 --programs 100 --here" in done.stdout
    assert "Run(new_loop, program).execute() == expected" in done.stdout
