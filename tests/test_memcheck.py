"""What counts of valgrind's reports: scripts/tooling/memcheck.py."""

from pathlib import Path

import pytest
from support import modules_of

FOLDER = Path(__file__).parents[1] / "scripts"
ZLOOP = "/v/lib/python3.13/site-packages/zloop/core/loop.cpython-313-x86_64-linux-gnu.so"
PYTHON = "/usr/lib/libpython3.13.so.1.0"
VALGRIND = "/usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so"
SSL = "/usr/lib/python3.13/lib-dynload/_ssl.cpython-313-x86_64-linux-gnu.so"


@pytest.fixture
def memcheck():
    with modules_of(FOLDER) as import_module:
        yield import_module("tooling.memcheck")


@pytest.fixture
def report(tmp_path):
    def write(kind, *frames):
        stack = "".join(f"<frame><fn>{function}</fn><obj>{library}</obj></frame>" for function, library in frames)
        error = f"<error><kind>{kind}</kind><what>a text</what><stack>{stack}</stack></error>"
        path = tmp_path / "1.xml"
        path.write_text(f"<valgrindoutput>{error}</valgrindoutput>")
        return path

    return write


@pytest.mark.parametrize(
    ("kind", "frames", "counts"),
    [
        ("InvalidRead", [("memmove", VALGRIND), ("write", ZLOOP)], True),
        ("InvalidRead", [("memmove", VALGRIND), ("PyBytes_FromString", PYTHON), ("write", ZLOOP)], True),
        ("InvalidRead", [("memmove", VALGRIND), ("PyBytes_FromString", PYTHON)], False),
        ("Leak_DefinitelyLost", [("malloc", VALGRIND), ("grow", ZLOOP), ("PyObject_Vectorcall", PYTHON)], True),
        ("Leak_DefinitelyLost", [("malloc", VALGRIND), ("PyBytes_FromString", PYTHON), ("read", ZLOOP)], True),
        ("Leak_DefinitelyLost", [("malloc", VALGRIND), ("PyDict_SetItemString", PYTHON), ("init", ZLOOP)], False),
        ("Leak_DefinitelyLost", [("malloc", VALGRIND), ("PyUnicode_New", PYTHON), ("a", SSL), ("b", ZLOOP)], False),
        ("Leak_DefinitelyLost", [("malloc", VALGRIND), ("PyUnicode_New", PYTHON)], False),
    ],
)
def test_what_zloop_has_to_do_with_counts(memcheck, report, kind, frames, counts):
    found = list(memcheck.errors(report(kind, *frames)))
    assert len(found) == counts
    assert all(error.startswith(f"{kind}: a text\n    {frames[0][0]} ({VALGRIND})") for error in found)


def test_empty_report_of_another_program_tells_nothing(memcheck, tmp_path):
    path = tmp_path / "2.xml"
    path.touch()
    assert list(memcheck.errors(path)) == []
