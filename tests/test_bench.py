"""What scripts/bench makes of its samples (values, noise, ratios, tables), and bench/instructions.py of its counts."""

import dataclasses
import importlib.util
import json
import pathlib
import sys
from xml.etree import ElementTree as ET

import pytest
from support import modules_of

pytest.importorskip("rich")

BENCH = pathlib.Path(__file__).parents[1] / "bench"


@pytest.fixture
def bench():
    """The modules of bench/, which is no package: they are there for one test, and gone after it."""
    if not BENCH.is_dir():
        pytest.skip("the sources are not all there")
    with modules_of(BENCH) as import_module:
        yield import_module


@pytest.fixture
def stats(bench):
    return bench("stats")


def results_of(stats, cells, *, lower_is_better=True, rounds=3):
    """The results of one row, "row", by loop: a list of values, or the reason that there are none."""
    loops = dict.fromkeys(cells, "1.0")
    results = stats.Results({"Python": "CPython"}, loops, {}, rounds)
    row = stats.RowFacts("row", "topic", "A row", "µs" if lower_is_better else "/s", lower_is_better, lower_is_better)
    results.rows.append(row)
    for loop, values in cells.items():
        if isinstance(values, str):
            results.cells.setdefault("row", {})[loop] = stats.Cell(failure=values)
        else:
            results.cells.setdefault("row", {})[loop] = stats.Cell([stats.Sample(value) for value in values])
    return results, row


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], 0.0), ([7.0], 0.0), ([5.0, 5.0, 5.0], 0.0), ([8.0, 9.0, 10.0, 11.0], 0.5 * 1.57 * 1.5 / 9.5)],
)
def test_the_doubt_of_a_median_follows_from_the_middle_half(stats, values, expected):
    assert stats.doubt_of_median(values) == pytest.approx(expected)


def test_the_doubt_of_a_median_falls_with_the_number_of_values(stats):
    once = [8.0, 9.0, 10.0, 11.0, 12.0]
    assert stats.doubt_of_median(once * 4) == pytest.approx(stats.doubt_of_median(once) / 2)


@pytest.mark.parametrize(("values", "expected"), [([], 0.0), ([7.0], 0.0), ([1.0, 10.0, 9.0], 0.1)])
def test_the_doubt_of_a_best_is_how_far_the_second_best_is_behind(stats, values, expected):
    assert stats.doubt_of_best(values) == pytest.approx(expected)


def test_costs_have_a_median_and_operations_a_best(stats):
    costs, row = results_of(stats, {"zloop": [3.0, 1.0, 2.0]})
    assert costs.value(row, "zloop") == 2.0
    rates, row = results_of(stats, {"zloop": [3.0, 1.0, 2.0]}, lower_is_better=False)
    assert rates.value(row, "zloop") == 3.0


def test_disturbed_samples_do_not_count(stats):
    busy = stats.FOREIGN_BOUND * 1.01
    cell = stats.Cell([stats.Sample(10.0), stats.Sample(10.1), stats.Sample(10.0), stats.Sample(20.0, foreign=busy)])
    assert cell.value(best_of=False) == 10.0
    assert cell.value(best_of=True) == 10.1
    assert not cell.is_noise(best_of=False)
    cell.samples.pop(0)
    assert len(cell.counting) == stats.FEWEST_SAMPLES - 1
    assert cell.is_noise(best_of=False)


def test_other_processes_are_told_from_the_host(bench, monkeypatch):
    """Of ten seconds of one core, others used two, and the host took three."""
    measure = bench("measure")
    monkeypatch.setattr(measure.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(measure.time, "monotonic", iter([0.0, 0.0, 10.0, 10.0]).__next__)
    # user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
    busy, later = [50.0, 0, 5.0, 40.0, 0, 0, 0, 7.0, 0, 0], [51.0, 0.5, 5.5, 45.0, 0, 0, 0, 10.0, 0, 0]
    monkeypatch.setattr(measure, "machine_times", iter([busy, busy, later, later]).__next__)
    monkeypatch.setattr(measure.resource, "getrusage", lambda _who: measure.resource.struct_rusage([0] * 16))
    foreign, stolen = measure.ForeignTime(), measure.StolenTime()
    assert foreign.share() == pytest.approx(0.2)
    assert stolen.share() == pytest.approx(0.3)


def test_samples_far_apart_are_noise(stats):
    near = stats.Cell([stats.Sample(value) for value in (100.0, 101.0, 102.0)])
    far = stats.Cell([stats.Sample(value) for value in (100.0, 115.0, 130.0)])
    for best_of in (False, True):
        assert not near.is_noise(best_of)
        assert far.is_noise(best_of)


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_values_are_compared_in_pairs(stats, lower_is_better):
    pace = [1.0, 1.5, 0.7, 2.0]
    cells = {"zloop": [4.0 * p for p in pace], "uvloop": [5.0 * p for p in pace]}
    results, row = results_of(stats, cells, lower_is_better=lower_is_better)
    found = results.compare(row, "zloop", "uvloop")
    assert found.times == pytest.approx(1.25 if lower_is_better else 0.8)
    assert not found.is_noise
    assert results.cell(row, "zloop").is_noise(best_of=False)


def test_nothing_is_divided_by_nothing(stats):
    results, row = results_of(stats, {"zloop": [4.0, 0.0, 4.0, 4.0], "uvloop": [0.0, 5.0, 5.0, 5.0]})
    assert results.compare(row, "zloop", "uvloop").times == pytest.approx(1.25)
    results, row = results_of(stats, {"zloop": [4.0, 0.0, 4.0], "uvloop": [0.0, 5.0, 0.0]})
    assert results.compare(row, "zloop", "uvloop") is None


def test_a_comparison_says_how_far_off_it_may_be(bench, stats):
    costs, row = results_of(stats, {"zloop": [10.0] * 5, "uvloop": [9.8, 9.9, 10.0, 10.1, 10.2]})
    found = costs.compare(row, "zloop", "uvloop")
    assert found.doubt == pytest.approx(1.57 * 0.02 / 5**0.5)
    assert bench("report").ratio_text(costs, found) == "1.00 ±0.01"


def test_what_is_best_only_once_is_noise(stats):
    results, row = results_of(stats, {"zloop": [3.0, 1.0, 1.0]}, lower_is_better=False)
    assert results.cell(row, "zloop").is_noise(best_of=True)


@pytest.mark.parametrize(("lower_is_better", "best"), [(True, "uvloop"), (False, "asyncio")])
def test_the_best_peer_is_neither_zloop_nor_the_limit(stats, lower_is_better, best):
    cells = {"zloop": [8.0] * 3, "asyncio": [30.0] * 3, "uvloop": [10.0] * 3, "limit": [1.0] * 3, "rloop": "no"}
    results, row = results_of(stats, cells, lower_is_better=lower_is_better)
    found = results.compare_to_best_peer(row)
    assert found.other == best
    assert found.times == pytest.approx(10 / 8 if lower_is_better else 8 / 30)
    assert not found.is_noise


def test_a_comparison_with_noise_is_noise(stats):
    results, row = results_of(stats, {"zloop": [8.0] * 3, "asyncio": [30.0] * 3, "uvloop": [5.0, 10.0, 15.0]})
    assert results.compare_to_best_peer(row).is_noise
    assert not results.compare(row, "zloop", "asyncio").is_noise
    assert results.mean_over("uvloop", servers=True) is None
    assert results.mean_over("asyncio", servers=True) == (pytest.approx(30 / 8), 1)
    assert results.mean_over("asyncio", servers=False) is None


def test_geometric_mean(stats):
    assert stats.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
    assert stats.geometric_mean([1.0, 4.0, 16.0]) == pytest.approx(4.0)


def test_results_survive_json(stats):
    results, row = results_of(stats, {"zloop": [8.0, 8.1, 8.2], "uvloop": "it fell over"})
    again = stats.Results.from_json(json.loads(json.dumps(results.to_json())))
    assert again == results
    assert again.value(row, "zloop") == 8.1


def test_a_summary_is_enough_for_the_whole_report_and_has_no_samples(bench, stats):
    report = bench("report")
    pace = [1.0, 1.03, 0.98, 1.05]
    cells = {
        name: [cost * p for p in pace] for name, cost in (("zloop", 8.0), ("uvloop", 10.123456789), ("limit", 4.0))
    }
    results, row = results_of(stats, cells | {"rloop": "it fell over", "asyncio": [30.0, 3.0, 300.0, 9.0]}, rounds=4)
    results.cells["row"]["zloop"].samples[0] = dataclasses.replace(
        results.cells["row"]["zloop"].samples[0], rate=60_000.0, p99=123.4
    )
    text = report.compact(results.summary())
    summary = stats.Results.from_json(json.loads(text))
    assert 'samples": [' not in text
    assert report.markdown(summary) == report.markdown(results)
    for loop in results.loops:
        assert report.points(summary, [row], loop)[0] == pytest.approx(report.points(results, [row], loop)[0])
    assert report.compact(summary.summary()) == text


def test_a_failure_is_no_number_and_has_its_reason_in_the_report(bench, stats):
    results, row = results_of(stats, {"zloop": [8.0] * 3, "uvloop": [10.0] * 3, "rloop": "it fell over"})
    report = bench("report")
    text = report.markdown(results)
    [line] = [line for line in text.splitlines() if line.startswith("| `row` A row")]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "`row` A row", "µs", "8.00", "10.00", "–", "1.25 ±0.00 (uvloop)", "–",
    ]  # fmt: skip
    assert "- rloop: `row`: it fell over" in text
    assert results.value(row, "rloop") is None


def test_the_overview_puts_zloop_beside_the_best_peer_uvloop_and_the_limit(bench, stats):
    cells = {"zloop": [8.0] * 3, "uvloop": [12.0] * 3, "rloop": [10.0] * 3, "limit": [4.0] * 3}
    results, _ = results_of(stats, cells)
    report = bench("report")
    line = report.overview(results).splitlines()[-1]
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "`row`", "µs", "8.00", "rloop 10.00", "1.25 ±0.00", "1.50 ±0.00", "2.00 ±0.00",
    ]  # fmt: skip
    results, _ = results_of(stats, {"uvloop": [12.0] * 3})
    assert report.overview(results) == ""


def test_the_report_says_which_loops_gather_beside_the_rows_that_it_decides(bench, stats):
    results, row = results_of(stats, {"zloop": [10.0] * 3, "zuvloop": [8.0] * 3})
    report = bench("report")
    assert "gather" not in report.markdown(results)
    results.rows[0] = dataclasses.replace(row, name="small-writes")
    results.cells["small-writes"] = results.cells.pop("row")
    text = report.markdown(results)
    assert "- gather writes, which decides `small-writes`: zuvloop" in text
    assert "zuvloop, gathering 8.00" in text
    assert "(zuvloop, gathering)" in text


def test_noise_is_printed_as_noise_unless_it_is_only_a_first_look(bench, stats):
    report = bench("report")
    cells = {"zloop": [8.0, 10.0, 12.0], "uvloop": [10.0] * 3}
    results, row = results_of(stats, cells)
    assert report.row_text(results, row) == "row (µs): zloop noise, uvloop 10.00; noise of uvloop"
    results, row = results_of(stats, {"zloop": [8.0], "uvloop": [10.0]}, rounds=1)
    assert report.row_text(results, row) == "row (µs): zloop ≈8.00, uvloop ≈10.00; ≈1.25 of uvloop"


@pytest.fixture
def bench_main(bench, stats):
    """The module that scripts/bench runs."""
    pytest.importorskip("trustme")
    main = importlib.util.spec_from_file_location("bench_main", BENCH / "__main__.py")
    module = importlib.util.module_from_spec(main)
    main.loader.exec_module(module)
    return module


def test_the_report_has_the_command_as_it_was_given(bench_main, monkeypatch):
    given = ["--rounds", "3", "--output=here"]
    monkeypatch.setattr(sys, "argv", ["bench", "--peers=p", "--tools=t", "--default-output=there", *given])
    arguments = bench_main.parse_arguments()
    assert arguments.command == given
    assert arguments.output == pathlib.Path("here")
    monkeypatch.setattr(sys, "argv", sys.argv[:4])
    assert bench_main.parse_arguments().output == pathlib.Path("there")


def test_every_loop_comes_first_in_turn(bench_main, stats):
    results, _ = results_of(stats, {"a": [], "b": [], "c": []}, rounds=3)
    [row] = bench_main.choose_rows(["call-soon"])
    turns = [(number, "".join(names)) for number, _, names in bench_main.plan(results, [row])]
    assert turns == [(1, "abc"), (2, "bca"), (3, "cab")]


def test_the_short_selection_names_rows(bench, bench_main):
    rows = bench("rows")
    assert {row.name for row in bench_main.choose_rows(["short"])} == rows.SHORT <= rows.ROWS.keys()
    assert len(rows.SHORT) < len(rows.ROWS)


def test_rows_are_chosen_by_name_topic_and_pattern(bench):
    module = bench("rows")
    assert {"echo-1k-protocol", "tls-100k-streams", "call-soon", "spawn-1-gib"} <= module.ROWS.keys()
    assert all(row.name == name for name, row in module.ROWS.items())


def test_counts_may_grow_a_little(bench):
    instructions = bench("instructions")
    bound = 1000 * (1 + instructions.GROWTH_BOUND)
    recorded = {name: {"own": 100.0, "all": 1000.0} for name in "abde"}
    counts = {
        "a": {"own": 100, "all": bound},
        "b": {"own": 100, "all": bound + 1},
        "c": {"own": 1, "all": 1},
        "d": {"own": 50, "all": 500},
        "e": {"own": 104, "all": 2000},
    }
    faults = instructions.compare(counts, recorded, instructions.KINDS)
    assert faults == {
        "a": None,
        "b": "takes 1,031 instructions; 1,000 are on record",
        "c": "is not on record",
        "d": None,
        "e": "takes 104 of zloop's own instructions; 100 are on record",
    }
    assert instructions.compare({"b": counts["b"]}, recorded, ("own",)) == {"b": None}


CALLGRIND = """\
# callgrind format
positions: line
events: Ir
ob=(1) /usr/lib/libpython3.13.so
fn=(1) run
16 400
+3 5
cob=(2) /site-packages/zloop/core/loop.cpython-313-x86_64-linux-gnu.so
cfn=(2) turn
calls=1 50
* 2000
-2 1
ob=(2)
fn=(2)
50 30
cob=(1)
cfn=(1)
calls=3 16
+1 1200
* 7
ob=(3) /site-packages/zloop_other/x.so
fn=(3) other
1 1000
totals: 1443
"""


def test_instructions_are_counted_where_they_are_and_not_where_they_are_called_from(bench, tmp_path):
    (tmp_path / "out.1").write_text(CALLGRIND)
    assert bench("instructions").instructions(tmp_path / "out.1") == {"own": 37, "all": 1443}


@pytest.mark.parametrize(
    ("compiler", "expected"),
    [
        ("c++ (Debian 12.2.0-14+deb12u1) 12.2.0", "GCC 12"),
        ("g++ (GCC) 15.1.1 20250521 (Red Hat 15.1.1-2)", "GCC 15"),
        ("Debian clang version 19.1.7 (3+b1)", "Clang 19"),
        ("Ubuntu clang version 18.1.3 (1ubuntu1)", "Clang 18"),
    ],
)
def test_a_record_is_for_a_compiler_of_one_major_version(bench, monkeypatch, compiler, expected):
    instructions = bench("instructions")
    monkeypatch.setattr(instructions.platform, "python_version_tuple", lambda: ("3", "13", "7"))
    monkeypatch.setattr(instructions.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(instructions.sysconfig, "get_config_var", lambda _name: 0)
    assert instructions.setting(compiler, "Cython 3.3.1") == f"CPython 3.13, {expected}, Cython 3.3, x86_64"
    monkeypatch.setattr(instructions.sysconfig, "get_config_var", lambda _name: 1)
    assert instructions.setting(compiler, "Cython 3.3.1") == f"CPython 3.13t, {expected}, Cython 3.3, x86_64"


def test_counts_without_a_gil_are_shown_beside_those_with_it(bench, capsys):
    instructions = bench("instructions")
    counts = {"a": {"own": 115.0, "all": 1500.0}, "new": {"own": 1.0, "all": 1.0}}
    record = {"CPython 3.13, GCC 12": {"counts": {"a": {"own": 100.0, "all": 1000.0}}}}
    instructions.show_beside_gil(counts, record, "CPython 3.13, GCC 12")
    instructions.show_beside_gil(counts, record, "CPython 3.14t, GCC 12")
    assert capsys.readouterr().out == ""
    instructions.show_beside_gil(counts, record, "CPython 3.13t, GCC 12")
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| a")]
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["a", "1.15", "1.50"]


def test_counts_without_a_record_are_skipped_tests(bench, tmp_path):
    instructions = bench("instructions")
    for skipped, expected in ((None, ["failure"]), ("nothing is on record", ["skipped", "skipped"])):
        instructions.write_junit(tmp_path / "report.xml", {"a": "has grown", "b": None}, skipped)
        cases = ET.parse(tmp_path / "report.xml").getroot()  # noqa: S314  (our own)
        assert [child.tag for case in cases for child in case] == expected
        assert cases.get("tests") == "2"
