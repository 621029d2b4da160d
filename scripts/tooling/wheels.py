"""zloop's wheel, built once for each Python and each way to build it, as long as the sources stay the same."""

import hashlib
import os
import pathlib
import shlex
import shutil

import nox

from tooling import BUILD, ROOT, machine

SOURCES = ("pyproject.toml", "CMakeLists.txt", "README.md", "LICENSE", "cmake", "cpp", "zloop")


def install(session: nox.Session, flavour: str = "", *options: str) -> None:
    """Put zloop into a session's environment, unless the same is there; the options are for its build."""
    wheel, key = build(session, flavour, *options)
    stamp = pathlib.Path(session.virtualenv.location) / "zloop-from"
    if stamp.exists() and stamp.read_text() == key:
        return
    stamp.unlink(missing_ok=True)
    session.install("--force-reinstall", "--no-deps", str(wheel))
    stamp.write_text(key)


def build(session: nox.Session, flavour: str = "", *options: str) -> tuple[pathlib.Path, str]:
    """The wheel for a session's Python, and what it was built from."""
    compiler = require_compiler(session)
    script = "import sys, sysconfig; print(sys.implementation.cache_tag, sysconfig.get_platform(), sys.version)"
    python = str(session.run("python", "-c", script, silent=True))
    key = "\n".join([source_hash(), python.strip(), machine.compiler_version(compiler), *options])
    folder = BUILD / "wheels" / f"{python.partition(' ')[0]}{flavour}"
    stamp = folder / "made-from"
    if not stamp.exists() or stamp.read_text() != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        session.log("building zloop (a minute or two the first time)")
        parallel = {"CMAKE_BUILD_PARALLEL_LEVEL": str(machine.jobs())}
        command = ["python", "-m", "pip", "wheel", "--verbose", "--no-deps", "--wheel-dir", str(folder)]
        command += ["-C", f"cmake.define.CYTHON_EXECUTABLE={cached_cython(session)}"]
        # A log shows how far it is; on a terminal it would bury the rest, unless it fails.
        session.run(*command, *options, str(ROOT), env=parallel, silent="ZLOOP_REPORTS" not in os.environ)
        stamp.write_text(key)
    [wheel] = folder.glob("*.whl")
    return wheel, key


def cached_cython(session: nox.Session) -> pathlib.Path:
    """A program that the build runs in place of cython: cached_cython.py, on the session's Python."""
    program = pathlib.Path(session.virtualenv.location) / "cached-cython"
    python = shlex.quote(str(pathlib.Path(session.bin) / "python"))
    script = shlex.quote(str(ROOT / "scripts" / "tooling" / "cached_cython.py"))
    program.write_text(f'#!/bin/sh\nexec {python} {script} "$@"\n')
    program.chmod(0o755)
    return program


def require_compiler(session: nox.Session) -> str:
    """The C++ compiler, which CMake is told of as well."""
    try:
        compiler = machine.compiler()
    except machine.Missing as reason:
        session.error(str(reason))
    if compiler != "c++":
        os.environ["CXX"] = session.env["CXX"] = compiler
    return compiler


def source_hash() -> str:
    """A hash over the names and contents of everything that zloop is built from."""
    paths = [ROOT / name for name in SOURCES]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    total = hashlib.sha256()
    for file in sorted(file for file in files if file.is_file() and file.suffix not in {".pyc", ".pyd"}):
        total.update(f"{file.relative_to(ROOT)}\0".encode())
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
