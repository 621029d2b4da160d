"""The tests of projects that live on asyncio, which tests/downstream runs on zloop and on asyncio's loop."""

import os
import pathlib
import re
import shutil
import tarfile

import nox

from tooling import BUILD, ROOT, wheels

PROJECTS = ("uvicorn", "anyio", "aiohttp")


def run(session: nox.Session, name: str, report: list[str]) -> None:
    """Run a project's tests. The first argument may say which release, as ==1.0; without it, it is the newest."""
    release = next((word for word in session.posargs[:1] if re.match("[=<>!~]", word)), "")
    arguments = session.posargs[1:] if release else session.posargs
    source = unpack(session, name, release, BUILD / "downstream" / f"{name}-{session.python}")
    session.install("pip>=25.1")  # which knows --group
    session.install(source.name.replace("-", "==", 1), "pytest-timeout", *test_requirements(name, source))
    # Some choose it by themselves where it is installed: their tests would run on neither loop that is compared.
    session.run("python", "-m", "pip", "uninstall", "--yes", "--quiet", "uvloop", silent=True)
    wheels.install(session)
    log = BUILD / "log" / f"downstream-{name}-{session.python}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    session.log(f"running the tests of {source.name}; what they print is in {log.relative_to(ROOT)}")
    session.run("python", "-P", "tests/downstream", name, str(source), "--log", str(log), *report, *arguments)


def unpack(session: nox.Session, name: str, release: str, folder: pathlib.Path) -> pathlib.Path:
    """Fetch a project's source distribution, and return where it lies unpacked."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = ["--no-deps", "--no-binary", name, "--dest", str(folder)]
    session.run("python", "-m", "pip", "download", *options, name + release, silent=True)
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
