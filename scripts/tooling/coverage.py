"""How much of zloop its tests run: gcov's counts of the C++ and Cython lines, and coverage.py's of the Python ones.

Every line has to run, unless a comment beside it tells why no test can reach it: `// GCOVR_EXCL_LINE: why` in C++,
`# pragma: no cover: why` in Cython and Python. The engine's lines run in its own tests, the others in the behaviour
tests, on one Python or another. Branches are reported: a compiler makes many that no source has.
"""

import json
import pathlib
import re
import shlex
import shutil

import nox
from nox.command import CommandFailed

from tooling import BUILD, ROOT, VERSIONS, cython_lines, line_reports, machine
from tooling.line_reports import FileLines, Report

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
    """Run the behaviour tests, on the counting zloop that is installed; what runs on asyncio alone runs none of it."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    # Child processes find the settings by the variables that coverage.py sets for them.
    # Those that fail do not count here: some measure memory and time, which counting takes.
    command = ["python", "-P", "-m", "coverage", "run", "-m", "pytest", "--loop-kind=zloop"]
    session.run(*command, *arguments, success_codes=[0, 1])


def engine_is_covered(session: nox.Session, folder: pathlib.Path) -> bool:
    """Report on the C++ engine, after its tests."""
    return report_gcov(session, "engine", folder, "cpp/src/", "cpp/include/")


def report_tests(session: nox.Session, folder: pathlib.Path) -> None:
    """Keep what the behaviour tests have run on a Python, for package_is_covered(), and tell what they have not."""
    report = extension_lines(session, folder) | python_lines(session)
    line_reports.write(report_of(str(session.python)), report, ROOT)
    tell(session, report)


def report_of(version: str) -> pathlib.Path:
    return REPORTS / f"{version}.json"


def package_is_covered(session: nox.Session) -> bool:
    """Whether every line of zloop/ has run on one of the Pythons that there are reports of, or tells why not."""
    versions = [version for version in VERSIONS if report_of(version).exists()]
    report = line_reports.unite(line_reports.read(report_of(version), ROOT) for version in versions)
    session.log(f"as {', '.join(versions) or 'no Python'} ran it; lines that only another compiles are not counted")
    unreported = line_reports.unreported(report, ROOT)
    for name in unreported:
        session.warn(f"{name}: new, or not the same as when the tests ran: nothing is known of its lines")
    tell(session, report)
    return reasons_are_told(session, "zloop") and not unreported and not any(lines.missing for lines in report.values())


def tell(session: nox.Session, report: Report) -> None:
    for name, lines in sorted(report.items()):
        if lines.missing:
            session.warn(f"{name}: no test runs {line_reports.ranges(lines.missing)}")
    ran = sum(len(lines.ran) for lines in report.values())
    missing = sum(len(lines.missing) for lines in report.values())
    session.log(f"lines: {ran} of {ran + missing}")


def extension_lines(session: nox.Session, folder: pathlib.Path) -> Report:
    """The lines of the Cython sources and of the C++ that knows Python."""
    found = cython_lines.read(ROOT, folder, gcov(session))
    branches = [count for lines in found.values() for count in lines.branches.values()]
    session.log(f"branches of the extension modules: {sum(map(bool, branches))} of {len(branches)}")
    return {
        name: FileLines(lines.ran(), set(lines.missing((ROOT / name).read_text().splitlines())))
        for name, lines in found.items()
    }


def python_lines(session: nox.Session) -> Report:
    """The lines of the Python modules, with what child processes ran of them; and a report of these for a browser."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"python-{session.python}.json"
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "json", "--quiet", "-o", str(path))
    session.run("coverage", "html", "--quiet", "--directory", str(REPORTS / "python"))
    files = json.loads(path.read_text())["files"]
    paths = {name: (ROOT / name).resolve() for name in files}
    return {
        str(paths[name].relative_to(ROOT)): FileLines(set(file["executed_lines"]), set(file["missing_lines"]))
        for name, file in files.items()
        if paths[name].is_relative_to(ROOT / "zloop")
    }


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
