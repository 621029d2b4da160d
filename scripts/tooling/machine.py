"""What the machine has: compilers, Pythons, cores, and packages that Debian would have for it."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

from tooling import BUILD, ROOT

CXX20 = "#include <concepts>\n#include <span>\nstatic_assert(std::integral<int> && __cplusplus >= 202002L);\n"


class Missing(Exception):
    """The machine lacks something; the message says what, and how to get it."""


def jobs() -> int:
    """How many things to do at a time: $JOBS, or as many as there are cores for this process."""
    if asked := os.environ.get("JOBS"):
        return int(asked)
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def compiler() -> str:
    """The command of a C++20 compiler: $CXX, or the first that is found. Raises Missing."""
    named = os.environ.get("CXX")
    for candidate in [named] if named else ["c++", "g++", "clang++"]:
        if compiles(candidate, CXX20):
            return candidate
    if named:
        raise Missing(f"CXX={named} does not compile C++20")
    raise Missing(
        "no C++20 compiler was found (tried c++, g++ and clang++). "
        "Install one (on Debian: apt-get install g++), or name it: CXX=/path/to/compiler"
    )


def compiles(command: str, text: str) -> bool:
    """Whether a compiler takes a file with this text."""
    words = shlex.split(command)
    if not words or not shutil.which(words[0]):
        return False
    arguments = [*words, "-std=c++20", "-fsyntax-only", "-x", "c++", "-"]
    return subprocess.run(arguments, input=text, text=True, capture_output=True, check=False).returncode == 0


def compiler_version(command: str) -> str:
    """The first line of what a compiler says of itself."""
    return output([*shlex.split(command), "--version"]).partition("\n")[0]


def output(command: list[str]) -> str:
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout


def lacking(command: list[str]) -> str:
    """What a Python lacks for building zloop, or nothing."""
    script = ROOT / "scripts" / "tooling" / "lacking.py"
    try:
        done = subprocess.run(
            [*command, str(script)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError:
        return "does not run"
    return done.stdout.strip() if done.returncode == 0 else "does not run"


def find_python(version: str) -> pathlib.Path | None:
    """The first interpreter of a version (3.12) that can build zloop: pyenv's newest, or the one on PATH."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv")
    installed = (pyenv / "versions").glob(f"{version}.*/bin/python{version}")
    newest_first = sorted(installed, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))])[::-1]
    for candidate in (*map(str, newest_first), f"python{version}"):
        if not lacking([candidate]):
            return executable(candidate)
    return None


def executable(command: str) -> pathlib.Path:
    """Where the interpreter is that a command starts, which may be a stand-in that chooses among several."""
    return pathlib.Path(output([command, "-c", "import sys; print(sys.executable)"]).strip())


def version_of(python: pathlib.Path | str) -> str:
    """As 3.12."""
    return output([str(python), "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()


def launcher(version: str) -> list[str]:
    """The command that is put before every command for a version: $ZLOOP_TEST_LAUNCHER_3_14, or nothing."""
    return shlex.split(os.environ.get(f"ZLOOP_TEST_LAUNCHER_{version.replace('.', '_')}", ""))


def debian_package(name: str) -> pathlib.Path:
    """A Debian package unpacked into build/debian, without installing it. Raises Missing."""
    target = BUILD / "debian" / name
    if target.exists():
        return target
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise Missing(f"this machine knows no Debian packages; {name} would be one")
    download, unpacked = target.with_suffix(".download"), target.with_suffix(".unpacked")
    for path in (download, unpacked):
        shutil.rmtree(path, ignore_errors=True)
    download.mkdir(parents=True)
    fetch = ["apt-get", "download", name]
    # Without lists of packages, which only root can fetch, apt knows none.
    update = ["apt-get", "update"]
    if call(fetch, download) and (os.geteuid() or call(update, download) or call(fetch, download)):
        raise Missing(f"Debian's package {name} cannot be fetched")
    [archive] = download.glob("*.deb")
    if call(["dpkg", "-x", str(archive), str(unpacked)], download) != 0:
        raise Missing(f"Debian's package {name} cannot be unpacked")
    shutil.rmtree(download)
    unpacked.rename(target)
    return target


def call(command: list[str], folder: pathlib.Path) -> int:
    return subprocess.call(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def emulator() -> str:
    """The command of qemu's user emulation of aarch64. Raises Missing."""
    for name in ("qemu-aarch64", "qemu-aarch64-static"):
        if found := shutil.which(name):
            return found
    try:
        command = str(debian_package("qemu-user") / "usr/bin/qemu-aarch64")
        output([command, "--version"])
    except (Missing, OSError, subprocess.CalledProcessError):
        raise Missing("no qemu-aarch64 to run it by (on Debian: apt-get install qemu-user)") from None
    return command


def valgrind() -> str:
    """The command of valgrind. Raises Missing."""
    if found := shutil.which("valgrind"):
        return found
    try:
        unpacked = debian_package("valgrind")
        command = str(unpacked / "usr/bin/valgrind")
        [library, *_] = (unpacked / "usr").glob("lib*/**/valgrind")
        os.environ["VALGRIND_LIB"] = str(library)
        output([command, "--version"])
    except (Missing, OSError, ValueError, subprocess.CalledProcessError):
        raise Missing("no valgrind (on Debian: apt-get install valgrind)") from None
    return command
