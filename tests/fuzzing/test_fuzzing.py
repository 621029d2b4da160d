"""A few random programs on zloop, by fixed seeds; and the machines that make them find what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

HERE = Path(__file__).parent
PROGRAMS = {"connections": 8, "streams": 12, "sockets": 10, "endpoints": 8, "threads": 6, "scheduling": 60}
"""For a few seconds."""


def run(machine, programs, **settings):
    """Run programs of a machine on zloop, or as the settings say; return the process."""
    command = [sys.executable, "-P", HERE, machine, "--seed", "1", "--programs", str(programs), "--here", "--whole"]
    environment = os.environ | settings
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize("machine", PROGRAMS)
def test_random_programs(machine):
    done = run(machine, PROGRAMS[machine])
    assert (done.returncode, done.stderr[-3000:]) == (0, "")


@pytest.mark.parametrize(
    ("machine", "settings", "complaint"),
    [
        ("connections", {"FUZZ_FAULT": "loses bytes"}, "AssertionError"),
        ("connections", {"FUZZ_FAULT": "leaks descriptors"}, "assert descriptors() == self.descriptors"),
        ("scheduling", {"FUZZ_LOOP": "LastComesFirst"}, "Run(new_loop, program).execute() == expected"),
    ],
)
def test_what_is_wrong_is_found(machine, settings, complaint):
    done = run(machine, 100, **settings)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_batch_that_fails_is_named():
    command = [sys.executable, "-P", HERE, "scheduling", "--seed", "1", "--whole"]
    environment = os.environ | {"FUZZ_LOOP": "LastComesFirst"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 1
    assert "failed (1): python -P tests/fuzzing scheduling --seed 1 --programs 100 --here" in done.stdout
