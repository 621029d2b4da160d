"""bench/history.py keeps the means of each run of the benchmarks, and draws them."""

import json
import pathlib
import sys

import pytest
from support import modules_of

BENCH = pathlib.Path(__file__).parents[1] / "bench"


@pytest.fixture
def history():
    """The module, which is there for one test."""
    if not BENCH.is_dir():
        pytest.skip("the sources are not all there")
    with modules_of(BENCH) as import_module:
        yield import_module("history")


@pytest.fixture
def report(history, tmp_path, monkeypatch, capsys):
    """Add a run whose means are these to a history; what is printed."""

    def add(commit, *, servers, process):
        row = {"topic": "t", "title": "t", "unit": "u"}
        rows = [
            row | {"name": name, "lower_is_better": has_server, "has_server": has_server, "cells": {}, "ratios": ratios}
            for name, has_server, ratios in (
                ("server", True, {"zloop/asyncio": [servers, 0.01, False], "zloop/uvloop": [servers, 0.5, True]}),
                ("process", False, {"zloop/asyncio": [process, 0.01, False], "zloop/uvloop": [2.0, 0.01, False]}),
            )
        ]
        loops = dict.fromkeys(("zloop", "asyncio", "uvloop"), "1")
        summary = {"description": {}, "loops": loops, "missing": {}, "rounds": 5, "rows": rows}
        (tmp_path / "summary.json").write_text(json.dumps(summary))
        arguments = [str(tmp_path / "summary.json"), str(tmp_path / "new" / "history.json"), commit]
        monkeypatch.setattr(sys, "argv", ["history.py", *arguments])
        history.main()
        return capsys.readouterr().out.splitlines()

    return add


def table(lines):
    """The runs in the report's table: what stands in the columns, of each."""
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("|")][2:]


def test_each_run_has_a_line_the_last_one_first(report):
    assert table(report("a" * 40, servers=1.5, process=3.0)) == [["aaaaaaa", "1.50", "–", "3.00", "2.00"]]
    assert table(report("b" * 40, servers=1.25, process=3.0)) == [
        ["bbbbbbb", "1.25", "–", "3.00", "2.00"],
        ["aaaaaaa", "1.50", "–", "3.00", "2.00"],
    ]


def test_run_of_the_same_commit_takes_the_place_of_the_one_before(report):
    report("a" * 40, servers=1.5, process=3.0)
    assert table(report("a" * 40, servers=1.75, process=3.0)) == [["aaaaaaa", "1.75", "–", "3.00", "2.00"]]


def test_chart_has_a_line_for_each_mean_that_every_run_has(report):
    assert "```mermaid" not in report("a" * 40, servers=1.5, process=3.0)  # one run makes no line
    lines = report("b" * 40, servers=1.25, process=3.5)
    assert '  x-axis ["aaaaaaa", "bbbbbbb"]' in lines
    assert [line for line in lines if line.startswith("  line")] == [
        "  line [1.5, 1.25]",
        "  line [3.0, 3.5]",
        "  line [2.0, 2.0]",
    ]


def test_old_runs_are_forgotten(history, report, monkeypatch):
    monkeypatch.setattr(history, "KEPT", 2)
    for number in range(3):
        lines = report(f"{number}" * 40, servers=1.5, process=3.0)
    assert [row[0] for row in table(lines)] == ["2222222", "1111111"]


def test_runs_on_record_have_means(history):
    for path in (BENCH / "results").glob("*/summary.json"):
        results = history.Results.from_json(json.loads(path.read_text()))
        assert len(history.means_of(results)) == len(history.PEERS) * len(history.KINDS)
