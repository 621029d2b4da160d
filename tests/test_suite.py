"""scripts/test: what its stages come to, how they are started, and that none outlives it."""

import argparse
import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from support import modules_of

pytest.importorskip("rich")

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"
JUNIT = '<testsuites><testsuite tests="{}" failures="{}" errors="0" skipped="{}"/></testsuites>'

# In place of an interpreter with nox: behaves as the session's name says.
STAND_IN = """\
#!{python}
import json, os, pathlib, subprocess, sys
report, session = (pathlib.Path(sys.argv[sys.argv.index(option) + 1]) for option in ("--report", "-s"))
kind = session.name.partition("-")[0]
reports = pathlib.Path(os.environ["ZLOOP_REPORTS"])
result = {{"result": "success", "reason": None}}
if kind == "passing":
    (reports / "pytest.xml").write_text({junit!r}.format(5, 0, 2))
elif kind == "failing":
    (reports / "pytest.xml").write_text({junit!r}.format(5, 1, 0))
    print("chatter", "=== short test summary info ===", "FAILED tests/test_x.py::test_y", sep="\\n")
elif kind == "lying":
    (reports / "tests.json").write_text(json.dumps({{"tests": [{{"verdict": "failed"}}, {{"verdict": "flaky"}}]}}))
elif kind == "skipped":
    result = {{"result": "skipped", "reason": "there is no qemu"}}
elif kind == "sleeping":
    child = subprocess.Popen(["sleep", "1000"])
    (reports / "ready").write_text(str(child.pid))
    child.wait()
if kind != "broken":
    report.write_text(json.dumps({{"sessions": [result]}}))
print("JOBS", os.environ["JOBS"])
sys.exit(kind == "failing")
"""


@pytest.fixture
def suite(monkeypatch, tmp_path):
    """The module scripts/suite.py, whose logs go elsewhere; it is gone after the test."""
    if not (SCRIPTS / "suite.py").is_file():
        pytest.skip("the sources are not all there")
    for name in [name for name in os.environ if name.startswith("ZLOOP_TEST_LAUNCHER_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("LD_PRELOAD", raising=False)  # a sanitizer finds fault with the compilers that are looked for
    with modules_of(SCRIPTS) as import_module:
        module = import_module("suite")
        monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
        monkeypatch.setattr(module, "SIGN_OF_LIFE", 0.05)
        yield module


@pytest.fixture
def stand_in(tmp_path):
    path = tmp_path / "python"
    path.write_text(STAND_IN.format(python=sys.executable, junit=JUNIT))
    path.chmod(0o755)
    return [str(path)]


def stages_of(suite, *sessions):
    return [suite.Stage(f"a {session}", session) for session in sessions]


def test_a_stage_is_judged_by_its_status_and_by_its_tests(suite, stand_in):
    stages = stages_of(suite, "passing", "failing", "lying", "skipped", "broken", "plain")
    asyncio.run(suite.run_group(suite.Group(stand_in, stages), 3))
    assert [(stage.result, tuple(stage.counts)) for stage in stages] == [
        ("passed", (3, 0, 2)),
        ("failed", (4, 1, 0)),
        ("failed", (0, 1, 1)),
        ("skipped", (0, 0, 0)),
        ("failed", (0, 1, 0)),
        ("passed", (0, 0, 0)),
    ]
    assert stages[3].remark == "there is no qemu"
    assert stages[4].remark.startswith("no report: ")


def test_the_last_line_has_the_sums_and_the_status_says_whether_something_failed(suite, stand_in, monkeypatch, capfd):
    def run(*sessions):
        groups = [suite.Group(stand_in, stages_of(suite, session)) for session in sessions]
        monkeypatch.setattr(suite, "plan", lambda _options: (groups[:1], groups[1:], []))
        monkeypatch.setattr(sys, "argv", ["test", "--no-lint"])
        status = suite.main()
        return status, capfd.readouterr().out.splitlines()

    status, lines = run("passing", "passing-2", "skipped", "passing-3")
    assert (status, lines[-1]) == (0, "9 passed, 0 failed, 6 skipped")
    status, lines = run("passing", "failing", "passing-2")
    assert (status, lines[-1]) == (1, "10 passed, 1 failed, 4 skipped")
    assert "FAILED tests/test_x.py::test_y" in lines
    assert "chatter" not in lines


def test_what_one_python_is_enough_for_follows_its_own_tests(suite, monkeypatch):
    monkeypatch.setattr(suite, "find_pythons", lambda options: suite.Pythons({name: [name] for name in options.python}))
    monkeypatch.setattr(suite, "HERE", sys.executable)
    here = "{}.{}".format(*sys.version_info)
    options = argparse.Namespace(no_lint=True, quick=False, all=False, python=["3.10", here])
    _, beside, skipped = suite.plan(options)
    sessions = {group.stages[0].name: [stage.session for stage in group.stages] for group in beside}
    last = [stage.session for stage in suite.plan_last(here, options)]
    assert sessions["3.10: build"] == ["build-3.10", "tests-3.10", "conformance-3.10"]
    assert sessions[f"{here}: build"] == [f"build-{here}", f"tests-{here}", f"conformance-{here}", *last]
    assert skipped == []
    options.python = ["3.10"]
    _, [group], skipped = suite.plan(options)
    assert len(group.stages) == 3
    assert [(stage.session, stage.result) for stage in skipped] == [(session, "skipped") for session in last]


@pytest.mark.parametrize(
    ("no_lint", "quick", "first"), [(False, True, ["lint"]), (False, False, ["lint", "packaging"]), (True, True, [])]
)
def test_what_all_pythons_share_runs_in_two_rows(suite, no_lint, quick, first):
    rows = [
        [stage.session for stage in group.stages]
        for group in suite.plan_first(argparse.Namespace(no_lint=no_lint, quick=quick))
    ]
    assert rows[:-1] == ([first] if first else [])
    assert rows[-1][0] == "engine"
    assert not {"lint", "packaging"} & {*rows[-1]}


def test_nothing_of_a_python_runs_that_has_not_been_built(suite, stand_in):
    stages = stages_of(suite, "failing", "passing")
    asyncio.run(suite.run_group(suite.Group(stand_in, stages, needs_first=True), 1))
    assert [stage.result for stage in stages] == ["failed", "skipped"]
    assert stages[1].remark == "a failing failed"


@pytest.mark.parametrize(("jobs", "groups", "each"), [(2, 1, 2), (2, 3, 1), (8, 2, 4), (1, 2, 1)])
def test_pythons_share_the_cores(suite, stand_in, monkeypatch, jobs, groups, each):
    running = most = 0
    run_stage = suite.run_stage

    async def counting(*arguments):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await run_stage(*arguments)
        running -= 1

    monkeypatch.setattr(suite, "run_stage", counting)
    stages = stages_of(suite, *(f"plain-{number}" for number in range(groups)))
    asyncio.run(suite.run_groups([suite.Group(stand_in, [stage]) for stage in stages], jobs))
    assert most <= jobs
    logs = [(suite.LOGS / f"{stage.stem}.log").read_text() for stage in stages]
    assert logs == [f"JOBS {each}\n"] * groups


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_no_stage_outlives_the_run(suite, stand_in, how):
    program = f"""
import pathlib, sys
sys.path.insert(0, {str(SCRIPTS)!r})
import suite
suite.LOGS = pathlib.Path({str(suite.LOGS)!r})
suite.plan = lambda _options: ([], [suite.Group({stand_in!r}, [suite.Stage("s", "sleeping")])], [])
sys.argv = ["test"]
sys.exit(suite.main())
"""
    ready = suite.LOGS / "s.reports" / "ready"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        while not (ready.exists() and ready.read_text()):
            assert process.poll() is None
        process.send_signal(how)
        assert process.stdout.read().endswith("==> interrupted\n")
        assert process.wait() == 130
    child = int(ready.read_text())
    while is_alive(child):  # it has been told; the time limit of the test is that of its patience
        os.sched_yield()


def is_alive(process):
    """Whether a process runs, which nobody may have waited for yet."""
    try:
        return pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_launcher_stands_before_the_commands_of_its_version(suite, monkeypatch):
    asked = []
    monkeypatch.setattr(suite.machine, "lacking", lambda command: asked.append(command) or "")
    monkeypatch.setenv("ZLOOP_TEST_LAUNCHER_3_14", r"/some\ where/run 3.14")
    pythons = suite.Pythons()
    pythons.find("3.14")
    assert asked == [["/some where/run", "3.14", "python3.14"]]
    assert pythons.commands == {"3.14": asked[0]}
    monkeypatch.setattr(suite.machine, "lacking", lambda _command: "does not run")
    pythons = suite.Pythons()
    pythons.find("3.14")
    assert pythons.commands == {}
    assert pythons.missing == {"3.14": "what its launcher starts does not run"}


def test_a_python_that_is_not_there_is_skipped_or_if_it_is_all_that_was_asked_for_an_error(suite, monkeypatch):
    monkeypatch.setattr(suite.machine, "find_python", lambda version: "/p" if version == "3.11" else None)
    options = argparse.Namespace(python=["3.11", "3.15"], quick=False)
    pythons = suite.find_pythons(options)
    assert pythons.commands == {"3.11": ["/p"]}
    assert pythons.missing.keys() == {"3.15"}
    options.python = ["3.15"]
    with pytest.raises(SystemExit, match=r"none of the Pythons asked for is on this machine: 3\.15"):
        suite.find_pythons(options)


def test_a_missing_compiler_is_said_before_anything_is_run(suite, monkeypatch):
    monkeypatch.setenv("CXX", "/no/such/compiler")
    monkeypatch.setattr(sys, "argv", ["test", "--quick"])
    with pytest.raises(SystemExit, match="error: CXX=/no/such/compiler does not compile C"):
        suite.main()


def test_reports_of_all_kinds_are_counted(suite, tmp_path):
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "a.xml").write_text(JUNIT.format(10, 1, 2))
    (reports / "b.xml").write_text('<testsuite tests="4" failures="0" disabled="1" skipped="1"></testsuite>')
    verdicts = ["passed", "passed", "failed", "excluded", "listed"]
    (reports / "c.json").write_text(json.dumps({"tests": [{"verdict": verdict} for verdict in verdicts]}))
    assert suite.count(reports) == (7 + 2 + 2, 1 + 1, 2 + 2 + 2)
