"""The C++ engine and its tests: by the presets of CMakePresets.json, and for other systems."""

import os
import pathlib
import re
import shlex
import subprocess
from dataclasses import dataclass

import nox

from tooling import BUILD, ROOT, machine

ELF = "7f454c46020101" + 18 * "."  # behind it: what says little of the system, the file's type, and the processor


@dataclass(frozen=True)
class Target:
    """A system that the engine is compiled for."""

    system: str
    """As CMake calls it."""
    header: str
    """How its programs begin, as hexadecimal digits, a dot for any: <mach-o/loader.h>, <elf.h>."""
    holds: str = ""
    """What they hold besides."""


TARGETS = {
    "aarch64-macos": Target("Darwin", "cffaedfe0c000001"),
    "x86_64-macos": Target("Darwin", "cffaedfe07000001"),
    "x86_64-freebsd": Target("FreeBSD", ELF + "....3e00", "/libexec/ld-elf.so.1"),
    "aarch64-linux-musl": Target("Linux", ELF + "....b700"),
}

FUZZING = pathlib.Path("cpp", "tests", "fuzzing")
"""A target and a corpus for each thing that the network's bytes are taken for; in the build, its program."""


def configure(session: nox.Session, preset: str) -> None:
    """CMake's part: the compile database is there then."""
    session.run("cmake", "--preset", preset, env=generator(BUILD / f"engine-{preset}"), silent=True)


def generator(folder: pathlib.Path) -> dict[str, str]:
    """Ninja, which the session has; what a build directory was made with stays."""
    return {} if (folder / "CMakeCache.txt").exists() else {"CMAKE_GENERATOR": "Ninja"}


def test(session: nox.Session, preset: str, report: list[str]) -> None:
    """Build and run the tests of a preset."""
    configure(session, preset)
    session.run("cmake", "--build", "--preset", preset, "--parallel", str(machine.jobs()))
    command = ["ctest", "--preset", preset, *report]
    # GCC's ThreadSanitizer before 14 finds no room for its shadow where more bits than these of an address are random.
    if preset == "tsan" and random_bits() > 28:
        session.run("setarch", "--addr-no-randomize", *command, external=True)
    else:
        session.run(*command)


def fuzz(session: nox.Session, arguments: list[str]) -> None:
    """Run the fuzz targets under AddressSanitizer and UndefinedBehaviorSanitizer, one after the other."""
    configure(session, "asan")
    jobs = str(machine.jobs())
    session.run("cmake", "--build", "--preset", "asan", "--parallel", jobs, "--target", "zloop_fuzzers")
    # What dies of a signal keeps its input; left alone, the sanitizers end the process by exit().
    settings = {f"{name}_OPTIONS": "abort_on_error=1:print_stacktrace=1" for name in ("ASAN", "UBSAN")}
    for corpus in sorted((ROOT / FUZZING / "corpus").iterdir()):
        program = BUILD / "engine-asan" / FUZZING / f"zloop_{corpus.name}_fuzzer"
        session.run(str(program), *arguments, str(corpus), external=True, env=settings)


def random_bits() -> int:
    """How many bits of an address are random."""
    try:
        return int(pathlib.Path("/proc/sys/vm/mmap_rnd_bits").read_text())
    except OSError:
        return 0


def cross(session: nox.Session, name: str, report: list[str]) -> None:
    """Build the tests for another system, and run them if it is a Linux."""
    target = TARGETS[name]
    settings = [f"-DCMAKE_SYSTEM_NAME={target.system}", f"-DZLOOP_ZIG_TARGET={name}"]
    if target.system == "Linux":
        try:
            settings.append(f"-DCMAKE_CROSSCOMPILING_EMULATOR={machine.emulator()}")
        except machine.Missing as reason:
            session.skip(str(reason))
    folder = BUILD / f"engine-{name}"
    script = "import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / 'zig')"
    zig = str(session.run("python", "-c", script, silent=True)).strip()
    # zig makes each system's C++ library there, the first time.
    caches = {name: str(BUILD / "zig") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    session.run(
        *("cmake", "-S", str(ROOT), "-B", str(folder), "--toolchain", str(ROOT / "cmake" / "zig.cmake")),
        *(f"-DZLOOP_ZIG={zig}", "-DCMAKE_BUILD_TYPE=Debug", *settings),
        # In a debug build zig turns a sanitizer on, which takes a fifth of the time and is run elsewhere.
        "-DCMAKE_CXX_FLAGS_DEBUG=-g0 -fno-sanitize=undefined",
        env=caches | generator(folder),
        silent=True,
    )
    session.run("cmake", "--build", str(folder), "--parallel", str(machine.jobs()), env=caches)
    check_format(session, folder / "cpp" / "tests" / "zloop_engine_tests", name)
    if target.system == "Linux":
        session.run("ctest", "--test-dir", str(folder), "--output-on-failure", "--no-tests=error", *report)


def check_format(session: nox.Session, program: pathlib.Path, name: str) -> None:
    content = program.read_bytes()
    header = content[:20].hex()
    if not re.match(TARGETS[name].header, header) or TARGETS[name].holds.encode() not in content:
        session.error(f"what was built for {name} is no program of it; its header is {header}")


def sanitizer_libraries(compiler: str) -> list[str]:
    """What has to be loaded before the interpreter; nothing where the compiler has no sanitizer of its own.

    That is the sanitizer, which replaces malloc(), and the C++ library, whose exceptions it has to find when it starts.
    """
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        path = subprocess.run(
            [*shlex.split(compiler), f"-print-file-name={name}"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if not os.path.isabs(path):  # noqa: PTH117
            return []
        found.append(os.path.realpath(path))
    return found
