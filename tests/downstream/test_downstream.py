"""The runner of other projects' tests: finds what differs, forgives what says nothing about zloop, survives crashes.

Here the project is a file of a few tests, each with an illness of its own on the one loop or the other.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

SUITE = """
import asyncio, os, pathlib, signal, subprocess, sys
import pytest
import zloop

ON_ZLOOP = issubclass(asyncio.SelectorEventLoop, zloop.Loop)
COUNTER = pathlib.Path(__file__).with_name("runs")


async def nothing():
    pass


def test_same():
    asyncio.run(nothing())

def test_without_a_loop():
    pass

def test_skipped():
    pytest.skip("here")

def test_fails_on_both():
    asyncio.run(nothing())
    raise AssertionError("everywhere")

def test_fails_on_asyncio():
    assert ON_ZLOOP

def test_fails_on_zloop():
    asyncio.run(nothing())
    assert not ON_ZLOOP, "only here"

def test_fails_once():
    if ON_ZLOOP and not COUNTER.exists():
        COUNTER.touch()
        raise AssertionError("by chance")

def test_listed():
    assert not ON_ZLOOP

def test_other_loop():
    loop = asyncio.unix_events._UnixSelectorEventLoop()
    loop.run_until_complete(nothing())
    loop.close()

def test_runs_a_loop_on_asyncio_only():
    if not ON_ZLOOP:
        asyncio.run(nothing())

def test_child():
    subprocess.run([sys.executable, "-c", "import asyncio; asyncio.run(asyncio.sleep(0))"], check=True)

@pytest.mark.parametrize("value", [object(), asyncio.SelectorEventLoop], ids=[repr(object()), None])
def test_ids(value):
    pass

def test_crashes():
    if ON_ZLOOP:
        os.kill(os.getpid(), signal.SIGKILL)

def test_after_the_crash():
    asyncio.run(nothing())
"""

EXPECTED = {
    "test_same": "passed",
    "test_without_a_loop": "passed",
    "test_skipped": "skipped",
    "test_fails_on_both": "excluded",
    "test_fails_on_asyncio": "surplus",
    "test_fails_on_zloop": "failed",
    "test_fails_once": "flaky",
    "test_listed": "listed",
    "test_other_loop": "failed",
    "test_runs_a_loop_on_asyncio_only": "failed",
    "test_child": "passed",
    "test_ids[<object object at 0x>]": "passed",
    "test_ids[LOOP]": "passed",
    "test_crashes": "failed",
    "test_after_the_crash": "passed",
}


def run_downstream(source, *options):
    """Run the runner's main program on a directory of tests as the project "sick"; return its completed process."""
    script = (
        f"import runpy, sys; sys.path.insert(0, {str(HERE)!r}); import suites; "
        "suites.SUITES['sick'] = suites.Suite(stdlib_only=(('*::test_listed', 'for a reason'),)); "
        f"sys.argv = ['downstream', 'sick', {str(source)!r}, *{list(options)!r}]; "
        f"runpy.run_path({str(HERE / '__main__.py')!r}, run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """The runner's completed process, and what its report says of each test."""
    source = tmp_path_factory.mktemp("sick")
    (source / "test_sick.py").write_text(SUITE)
    report = source / "report.json"
    completed = run_downstream(source, "--json", str(report), "--reruns", "2")
    assert report.exists(), completed.stderr
    tests = {test["test"].partition("::")[2]: test for test in json.loads(report.read_text())["tests"]}
    return completed, tests


@pytest.mark.parametrize(("test", "verdict"), EXPECTED.items())
def test_verdict(outcome, test, verdict):
    assert outcome[1][test]["verdict"] == verdict


def test_reasons(outcome):
    reasons = {test: found["reason"] for test, found in outcome[1].items()}
    assert "only here" in reasons["test_fails_on_zloop"]
    assert reasons["test_listed"] == "for a reason"
    assert reasons["test_other_loop"] == "ran on asyncio.unix_events._UnixSelectorEventLoop"
    assert reasons["test_runs_a_loop_on_asyncio_only"] == "ran a loop on asyncio only"
    assert "died of SIGKILL" in reasons["test_crashes"]


def test_loops_that_ran_are_known_in_children_as_well(outcome):
    for test in ("test_same", "test_child"):
        found = outcome[1][test]
        assert found["zloop"][0]["loops"] == {"zloop.loop.Loop": True}
        assert found["stock"][0]["loops"] == {"asyncio.unix_events._UnixSelectorEventLoop": True}


def test_every_test_is_judged_and_the_sum_comes_last(outcome):
    completed, tests = outcome
    assert tests.keys() == EXPECTED.keys()
    assert completed.returncode == 1, completed.stderr
    assert completed.stdout.splitlines()[-1] == "6 passed, 4 failed, 5 skipped"


def test_no_difference_is_success(tmp_path):
    (tmp_path / "test_healthy.py").write_text("import asyncio\n\ndef test_same():\n    asyncio.run(asyncio.sleep(0))\n")
    completed = run_downstream(tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.splitlines()[-1] == "1 passed, 0 failed, 0 skipped"


def test_tests_that_run_no_loop_prove_nothing(tmp_path):
    (tmp_path / "test_idle.py").write_text("def test_nothing():\n    pass\n")
    completed = run_downstream(tmp_path)
    assert completed.returncode == 1
    assert "no test has run zloop" in completed.stderr
