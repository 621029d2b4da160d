"""The tests of projects that live on asyncio, which tests/downstream runs on zloop and on asyncio's loop."""

import os
import pathlib
import re
import shutil
import tarfile
from collections.abc import Callable

import nox
from nox.command import CommandFailed

from tooling import BUILD, ROOT, wheels

PROJECTS = ("uvicorn", "anyio", "aiohttp")


def run(session: nox.Session, report: Callable[[str], list[str]]) -> None:
    """Run the suites that the arguments name, as uvicorn==0.54.0; what follows -- is for tests/downstream."""
    wanted, arguments = split(session.posargs)
    failed = []
    for requirement in wanted or PROJECTS:
        try:
            run_suite(session, requirement, [*report(f"{name_of(requirement)}.json"), *arguments])
        except CommandFailed:
            failed.append(requirement)
    if failed:
        session.error(f"something differs: {', '.join(failed)}")


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """The projects, and what follows them."""
    for number, word in enumerate(words):
        if name_of(word) not in PROJECTS:
            return words[:number], words[number + (word == "--") :]
    return words, []


def name_of(requirement: str) -> str:
    return re.split("[=<>!~]", requirement, maxsplit=1)[0]


def run_suite(session: nox.Session, requirement: str, arguments: list[str]) -> None:
    """Run one suite in an environment of its own, so that no project's libraries are another's."""
    name = name_of(requirement)
    source = unpack(session, requirement, BUILD / "downstream" / f"{name}-{session.python}")
    session.install("pip>=25.1")  # which knows --group
    session.install(source.name.replace("-", "==", 1), "pytest-timeout", *test_requirements(name, source))
    # Some choose it by themselves where it is installed: their tests would run on neither loop that is compared.
    session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "uvloop", silent=True)
    wheels.install(session)
    log = BUILD / "log" / f"downstream-{name}-{session.python}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    session.log(f"running the tests of {source.name}; what they print is in {log.relative_to(ROOT)}")
    session.run("python", "-P", "tests/downstream", name, str(source), "--log", str(log), *arguments)


def unpack(session: nox.Session, requirement: str, folder: pathlib.Path) -> pathlib.Path:
    """Fetch a project's source distribution, and return where it lies unpacked."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    name = name_of(requirement)
    options = ["--no-deps", "--no-binary", name, "--dest", str(folder)]
    session.run("python", "-m", "pip", "download", *options, requirement, silent=True)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as content:
        content.extractall(folder, filter="data")
    source = folder / archive.name.removesuffix(".tar.gz")
    for package in (source / name, source / "src"):  # the tests are to import the package that is installed
        shutil.rmtree(package, ignore_errors=True)
    return source


def test_requirements(name: str, source: pathlib.Path) -> list[str]:
    """What a project's tests need, as arguments for pip."""
    if name == "aiohttp":
        return ["--requirement", os.fspath(source / "requirements" / "test.in")]
    group = {"uvicorn": "dev", "anyio": "test"}[name]
    return ["--group", f"{source / 'pyproject.toml'}:{group}"]
