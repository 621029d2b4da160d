"""What valgrind's memcheck says of zloop's modules in a run of everything at once.

Interpreter and libraries are as they are, and leave much behind on purpose. An error of access counts where any frame
of it is in one of zloop's modules; memory that is lost, where such a module is the innermost frame outside the
interpreter, the C++ library and valgrind itself.
"""

from __future__ import annotations

import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from tooling import BUILD, ROOT, machine

if TYPE_CHECKING:
    import nox

REPORTS = BUILD / "memcheck"
# One process of many threads, at a twentieth of its speed: nothing is in time there.
PROGRAM = (str(ROOT / "tests" / "soak"), "--connections", "10", "--lag", "1e9", "--patience", "600")
MODULE = re.compile(r"/zloop/[\w/]+\.[\w-]+\.so$")
BELOW = re.compile(r"/(libpython|libstdc\+\+|python3?[\d.]*t?$|vgpreload_)")
"""What zloop's modules call to get memory."""
LOST = "Leak_DefinitelyLost"
# It interns the names that these are given, and keeps them until its end and beyond (CPython 3.12).
KEPT_BY_THE_INTERPRETER = {"PyDict_SetItemString", "PyImport_ImportModuleLevelObject"}


def run(session: nox.Session) -> None:
    """Run the soak's topics, a few connections at a time; fail for each thing that memcheck finds in zloop."""
    try:
        valgrind = machine.valgrind()
    except machine.Missing as reason:
        session.skip(str(reason))
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    options = ["-q", "--num-callers=40", "--child-silent-after-fork=yes", "--leak-check=full"]
    options += ["--show-leak-kinds=definite", "--xml=yes", f"--xml-file={REPORTS}/%p.xml"]
    program = [*PROGRAM, "--output", str(REPORTS / "soak"), *(session.posargs or ["--minutes", "0.5"])]
    # The interpreter's own allocator would hide what is lost, or written beyond its end.
    session.run(valgrind, *options, "python", "-P", *program, env={"PYTHONMALLOC": "malloc"}, external=True)
    found = [error for report in sorted(REPORTS.glob("*.xml")) for error in errors(report)]
    for error in found:
        session.warn(error)
    if found:
        session.error(f"{len(found)} errors in zloop's modules; the whole reports are in {REPORTS}")


def errors(report: pathlib.Path) -> Iterator[str]:
    """The errors that zloop's modules have to do with, each with its frames."""
    if not report.stat().st_size:
        return  # of a child that has become another program
    with report.open("rb") as file:
        for _, element in ET.iterparse(file):  # noqa: S314
            if element.tag != "error":
                continue
            kind = element.findtext("kind", "")
            frames = [(frame.findtext("fn", "?"), frame.findtext("obj", "")) for frame in element.iter("frame")]
            if is_lost(frames) if kind == LOST else any(MODULE.search(library) for _, library in frames):
                what = element.findtext("what") or element.findtext("xwhat/text", "")
                yield "\n".join([f"{kind}: {what}", *(f"    {function} ({library})" for function, library in frames)])
            element.clear()


def is_lost(frames: list[tuple[str, str]]) -> bool:
    """Whether a module of zloop's has asked for what is lost."""
    asked_of = ""
    for function, library in frames:
        if not BELOW.search(library):
            return bool(MODULE.search(library)) and asked_of not in KEPT_BY_THE_INTERPRETER
        asked_of = function
    return False
