"""The conformance runner itself passes a healthy loop, and fails one with any of the illnesses that it looks for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(loop: str, tmp_path: Path) -> tuple[int, dict]:
    """Run the one test of test_context on a loop; return the exit status and what the report says of the test."""
    report = tmp_path / "report.json"
    command = [sys.executable, HERE, "--loop", loop, "--timeout", "5", "--json", report, "test_context"]
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert report.exists(), completed.stderr
    [test] = json.loads(report.read_text())["tests"]
    return completed.returncode, test


def test_healthy_loop_passes_and_is_seen_running(tmp_path):
    status, test = run("asyncio", tmp_path)
    assert (status, test["verdict"], test["loop"]) == (0, "passed", "ran")


@pytest.mark.parametrize(
    ("illness", "fault"),
    [
        ("Failing", "failed"),
        ("Hanging", "failed"),
        ("Crashing", "crashed"),
        ("CrashingAtExit", "crashed"),
        ("Leaving", "failed"),
        ("LosingFile", "ResourceWarning"),
        ("Unraisable", "unraisable exception"),
        ("LeakingDescriptor", "leaked descriptor"),
        ("ClosingDescriptor", "closed a descriptor it does not own"),
        ("LeakingThread", "left threads behind"),
        ("LeakingChild", "left children behind"),
    ],
)
def test_sick_loop_fails(tmp_path, illness, fault):
    status, test = run(f"sick_loops:{illness}", tmp_path)
    assert (status, test["verdict"]) == (1, "failed")
    assert fault in test["faults"]
    assert test["stock_faults"] == {}
