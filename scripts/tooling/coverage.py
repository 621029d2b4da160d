"""How much of zloop its tests run: gcov's counts of the C++ and Cython lines, and coverage.py's of the Python ones.

Every line of the engine has to run, unless a comment beside it tells why no test can reach it:
`// GCOVR_EXCL_LINE: why` in C++, `# pragma: no cover: why` in Cython and Python, whose lines are reported. So are
branches: a compiler makes many that no source has.
"""

import json
import pathlib
import re
import shlex
import shutil

import nox
from nox.command import CommandFailed

from tooling import BUILD, ROOT, cython_lines, machine

REPORTS = BUILD / "coverage"
DATA = REPORTS / "data"
"""Of coverage.py, one file for each process: pyproject.toml says so."""
WITHOUT_REASON = re.compile(r"//.*GCOVR_EXCL_(?!LINE: \w)|#.*pragma: no cover(?!: \w)")
"""An exclusion of which no reason is told, or one of more than a line."""
SUFFIXES = (".cpp", ".hpp", ".pyx", ".pxd", ".py")


def gcov(session: nox.Session) -> str:
    """The program that reads the compiler's counts; skips the session where the compiler is not GCC."""
    words = shlex.split(machine.compiler())
    if "Free Software Foundation" not in machine.output([*words, "--version"]):
        session.skip("the counts are read by GCC's gcov")
    return machine.output([*words, "-print-prog-name=gcov"]).strip()


def forget(folder: pathlib.Path) -> None:
    """Drop the counts of earlier runs, which a run adds to."""
    for path in folder.rglob("*.gcda"):
        path.unlink()


def run_tests(session: nox.Session, arguments: list[str]) -> None:
    """Run the behaviour tests, on the counting zloop that is installed."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    # Child processes find the settings by the variables that coverage.py sets for them.
    # Those that fail do not count here: some measure memory and time, which counting takes.
    session.run("python", "-P", "-m", "coverage", "run", "-m", "pytest", *arguments, success_codes=[0, 1])


def engine_is_covered(session: nox.Session, folder: pathlib.Path) -> bool:
    """Report on the C++ engine, after its tests."""
    return report_gcov(session, "engine", folder, "cpp/src/", "cpp/include/")


def report_extensions(session: nox.Session, folder: pathlib.Path) -> None:
    """Report on the Cython sources and the C++ that knows Python, after the behaviour tests."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    found = cython_lines.read(ROOT, folder, gcov(session))
    missing = {name: lines.missing((ROOT / name).read_text().splitlines()) for name, lines in sorted(found.items())}
    for name, numbers in missing.items():
        if numbers:
            session.warn(f"{name}: no test runs {cython_lines.ranges(numbers)}")
    branches = [count for lines in found.values() for count in lines.branches.values()]
    total = sum(len(lines.counts) for lines in found.values())
    left = sum(len(numbers) for numbers in missing.values())
    session.log(f"lines: {total - left} of {total}; branches: {sum(map(bool, branches))} of {len(branches)}")
    (REPORTS / "extensions.json").write_text(json.dumps(missing, indent=1))


def report_gcov(session: nox.Session, name: str, folder: pathlib.Path, *filters: str) -> bool:
    """Whether every line of the sources has run."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    try:
        session.run(
            *("gcovr", "--root", str(ROOT), "--gcov-executable", gcov(session), "-j", str(machine.jobs())),
            *(argument for each in filters for argument in ("--filter", each)),
            # A line counts once, however many functions a template makes of it; and no exception's way is a branch.
            *("--merge-lines", "--exclude-throw-branches"),
            *("--html-details", str(REPORTS / f"{name}.html"), "--json", str(REPORTS / f"{name}.json")),
            *("--txt", "-", "--txt-summary", "--fail-under-line", "100", str(folder)),
        )
    except CommandFailed:
        return False
    return reasons_are_told(session, *filters)


def report_python(session: nox.Session) -> None:
    """Report on the Python modules, with what child processes ran of them."""
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", "--skip-covered", "--show-missing")
    session.run("coverage", "html", "--quiet", "--directory", str(REPORTS / "python"))


def reasons_are_told(session: nox.Session, *folders: str) -> bool:
    """Whether each line that is excluded tells why."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES]
    found = [
        f"{path.relative_to(ROOT)}:{number}: no reason is told: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if WITHOUT_REASON.search(line)
    ]
    for line in found:
        session.warn(line)
    return not found
