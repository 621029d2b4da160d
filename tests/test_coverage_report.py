"""scripts/tooling: which lines have to run, and what the reports of several Pythons say together."""

import pathlib
import textwrap

import pytest
from support import modules_of

SCRIPTS = pathlib.Path(__file__).parents[1] / "scripts"
SOURCE = textwrap.dedent(
    """\
    cdef int first() except -1:
        try:
            work()
        except MemoryError:  # pragma: no cover: no test can let this one fail
            undo()

            raise
        if unlikely():
            return 1  # pragma: no cover: other systems
        return 0

    cdef int second():  # pragma: no cover
        return 0
    """
)


@pytest.fixture
def tooling():
    """Import a module of scripts/tooling; it is gone after the test."""
    if not (SCRIPTS / "tooling").is_dir():
        pytest.skip("the sources are not all there")
    with modules_of(SCRIPTS) as import_module:
        yield lambda name: import_module(f"tooling.{name}")


@pytest.fixture
def tree(tmp_path):
    """A package of two files."""
    (tmp_path / "zloop").mkdir()
    (tmp_path / "zloop/face.py").write_text("x = 1\n")
    (tmp_path / "zloop/front.pyx").write_text(SOURCE)
    return tmp_path


def test_a_reason_beside_a_clause_covers_its_body_and_no_more(tooling):
    lines = tooling("cython_lines").Lines(dict.fromkeys([1, 3, 4, 5, 7, 8, 9, 10, 13], 0))
    assert lines.missing(SOURCE.splitlines()) == [1, 3, 8, 10, 13]
    assert lines.ran() == set()


def test_a_reason_holds_for_the_body_of_a_branch_in_cpp(tooling):
    text = ["if (odd) {  // GCOVR_EXCL_LINE: no such Cython", "  fail();", "  return -1;", "}", "return 0;"]
    lines = tooling("cython_lines").Lines(dict.fromkeys([1, 2, 3, 5], 0))
    assert lines.missing(text) == [5]


def test_a_line_has_run_if_it_has_on_one_of_the_pythons(tooling):
    reports = tooling("line_reports")
    older = {"zloop/face.py": reports.FileLines({1, 2}, {3, 4})}
    newer = {"zloop/face.py": reports.FileLines({1, 3}, {2, 4}), "zloop/front.pyx": reports.FileLines(set(), {7})}
    united = reports.unite([older, newer])
    assert united["zloop/face.py"] == reports.FileLines({1, 2, 3}, {4})
    assert united["zloop/front.pyx"] == reports.FileLines(set(), {7})
    assert reports.unite([]) == {}


def test_a_report_says_nothing_of_files_that_have_changed_since(tooling, tree):
    reports = tooling("line_reports")
    report = {name: reports.FileLines({1}, {3}) for name in ("zloop/face.py", "zloop/front.pyx")}
    reports.write(tree / "3.13.json", report, tree)
    assert reports.read(tree / "3.13.json", tree) == report
    (tree / "zloop/face.py").write_text("x = 2\n")
    (tree / "zloop/more.py").write_text("x = 3\n")
    left = reports.read(tree / "3.13.json", tree)
    assert list(left) == ["zloop/front.pyx"]
    assert reports.unreported(left, tree) == ["zloop/face.py", "zloop/more.py"]
    (tree / "zloop/front.pyx").unlink()
    assert reports.read(tree / "3.13.json", tree) == {}


def test_lines_are_told_in_ranges(tooling):
    assert tooling("line_reports").ranges({9, 3, 7, 8}) == "3, 7-9"
    assert tooling("line_reports").ranges([]) == ""
