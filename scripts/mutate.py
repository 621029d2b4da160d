"""Mutates the engine, and shows that its tests fail where it is wrong: `scripts/nox -s mutate -- [FILE…]`.

Each mutant of a file (tooling/mutants.py) is built with the tests that have to do with that file, in build/mutants, and
is killed if a test fails, or does not end. One that survives has to be listed in scripts/mutants.survivors with the
reason; and what is listed has to survive. A run that was stopped goes on where it was. What has survived is tried again
when a test has changed; what was killed, when its file has.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable

from tooling import BUILD, ROOT
from tooling.mutants import Mutant, mutants, read_survivors

FOLDER = BUILD / "mutants"
SOURCES = FOLDER / "sources"
OUTCOMES = FOLDER / "outcomes.json"
SURVIVORS = ROOT / "scripts" / "mutants.survivors"

TESTS = {
    "cpp/src/stream.cpp": "stream_* lost_descriptor unwinding",
    "cpp/include/zloop/stream.hpp": "stream_* unwinding",
    "cpp/include/zloop/flow_control.hpp": "flow_control",
    "cpp/src/wakeup.cpp": "wakeup reactor_notify reactor_fault",
    "cpp/include/zloop/wakeup.hpp": "wakeup reactor_notify reactor_fault",
    "cpp/src/reactor.cpp": "reactor* listener_* lost_descriptor poller epoll wakeup unwinding invariants",
    "cpp/include/zloop/reactor.hpp": "reactor reactor_arm reactor_fork lost_descriptor invariants",
    "cpp/include/zloop/watcher.hpp": "reactor reactor_arm reactor_fork lost_descriptor invariants",
    "cpp/src/listener.cpp": "listener* lost_descriptor",
    "cpp/include/zloop/listener.hpp": "listener*",
    "cpp/src/write_queue.cpp": "write_queue stream_write",
    "cpp/include/zloop/write_queue.hpp": "write_queue stream_write",
    "cpp/src/timer_heap.cpp": "timer_heap radix_sort",
    "cpp/include/zloop/timer_heap.hpp": "timer_heap radix_sort",
}
"""Which test files have to do with a file: patterns, without _test.cpp. In the order in which they are mutated."""

PATIENCE = 20
"""Seconds until a test is taken to wait without end."""
EFFORT = 10
"""Seconds of computing until it is taken to loop without end."""
MEMORY = 4 << 30
"""Bytes that it may have."""


class Outcomes:
    """What became of each mutant, in a file that is written at once."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, str]] = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}

    def of(self, key: str, tests: str) -> str | None:
        entry = self.kept.get(key)
        if entry is None or (entry["outcome"] == "survived" and entry["tests"] != tests):
            return None
        return entry["outcome"]

    def add(self, key: str, tests: str, outcome: str) -> None:
        self.kept[key] = {"outcome": outcome, "tests": tests}
        written = OUTCOMES.with_suffix(".new")
        written.write_text(json.dumps(self.kept, indent=1))
        written.replace(OUTCOMES)


def digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def files_of_tests(file: str, root: pathlib.Path) -> list[str]:
    folder = root / "cpp" / "tests"
    found = sorted({path.name for pattern in TESTS[file].split() for path in folder.glob(f"{pattern}_test.cpp")})
    if not found:
        raise SystemExit(f"no test file has to do with {file}")
    return found


def copy_sources() -> None:
    """The sources as they are; what is the same keeps its time, so that it is not built again."""
    wanted = {pathlib.Path("CMakeLists.txt"), *(path.relative_to(ROOT) for path in sources("cpp", "cmake"))}
    for path in [path for path in SOURCES.rglob("*") if path.is_file()]:
        relative = path.relative_to(SOURCES)
        if relative not in wanted and relative.parts[0] != "build":
            path.unlink()
    for relative in wanted:
        content = (ROOT / relative).read_bytes()
        target = SOURCES / relative
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)


def sources(*folders: str) -> Iterable[pathlib.Path]:
    return (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())


class Build:
    """The engine with some of its tests."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self.folder = FOLDER / digest(files)[:12]
        self.program = self.folder / "cpp" / "tests" / "zloop_engine_tests"
        settings = {
            "CMAKE_BUILD_TYPE": "Debug",
            # As CMakePresets.json has it for the engine's tests. Without warnings, which are errors: a mutant has some.
            "CMAKE_CXX_FLAGS": "-D_GLIBCXX_ASSERTIONS",
            "CMAKE_CXX_FLAGS_DEBUG": "-O0 -g0 -w",
            "ZLOOP_ENGINE_TESTS": "ON",
            "ZLOOP_ENGINE_TEST_FILES": ";".join(files),
            "ZLOOP_INVARIANTS": "ON",
        }
        defines = [f"-D{name}={value}" for name, value in settings.items()]
        command = ["cmake", "-S", str(SOURCES), "-B", str(self.folder), "-G", "Ninja", *defines]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def make(self) -> str:
        """Nothing, or what the compiler says."""
        command = ["cmake", "--build", str(self.folder), "--parallel", "1", "--target", "zloop_engine_tests"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr if done.returncode else ""

    def test(self) -> tuple[str, str]:
        """What becomes of the present mutant, and what its tests say."""
        for file in self.files:
            outcome, said = self.run(f"[#{pathlib.Path(file).stem}]")
            if outcome != "survived":
                return outcome, said
        return "survived", ""

    def run(self, tests: str) -> tuple[str, str]:
        """The same by some of the tests: as ctest runs them, a process for each file."""
        process = subprocess.Popen(
            [self.program, "--abort", tests],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509  # there is one thread
        )
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return "timed out", ""
        finally:
            # Its children, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode in {-signal.SIGXCPU, -signal.SIGKILL}:
            return "timed out", output
        return "killed" if process.returncode else "survived", output


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (EFFORT, EFFORT + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def mutate(file: str, outcomes: Outcomes) -> dict[tuple[str, str, int], str]:
    """Try each mutant of a file, as it was when the run began."""
    text = (SOURCES / file).read_text()
    files = files_of_tests(file, SOURCES)
    tests = digest((SOURCES / "cpp" / "tests" / name).read_text() for name in files)
    found = mutants(text)
    keys = {mutant.name: digest([file, text, *map(str, mutant.name)]) for mutant in found}
    todo = [mutant for mutant in found if outcomes.of(keys[mutant.name], tests) is None]
    print(f"{file}: {len(found)} mutants, {len(todo)} to try", flush=True)
    if todo:
        build = Build(files)
        if said := build.make():
            raise SystemExit(f"{file} does not compile as it is:\n{said}")
        outcome, said = build.test()
        if outcome != "survived":
            raise SystemExit(f"{file}: its tests have to pass before it is changed: {outcome}\n{said}")
        try:
            for mutant in todo:
                outcome = try_one(build, file, mutant)
                outcomes.add(keys[mutant.name], tests, outcome)
                if outcome == "survived":
                    print(f"{file}:{mutant.line}: survived\n- {mutant.old}\n+ {mutant.new}", flush=True)
        finally:
            (SOURCES / file).write_text(text)
    return {mutant.name: outcomes.of(keys[mutant.name], tests) or "" for mutant in found}


def try_one(build: Build, file: str, mutant: Mutant) -> str:
    (SOURCES / file).write_text(mutant.text)
    return "not compiled" if build.make() else build.test()[0]


def judge(seen: dict[str, dict[tuple[str, str, int], str]]) -> list[str]:
    """What is wrong: survivors that are not listed, and what is listed and no survivor."""
    listed = {(entry.file, entry.name) for entry in read_survivors(SURVIVORS) if entry.file in seen}
    survived = {
        (file, name) for file, names in seen.items() for name, outcome in names.items() if outcome == "survived"
    }

    def show(entries: set[tuple[str, tuple[str, str, int]]], what: str) -> list[str]:
        return [
            f"{what}\n{file}\n- {old}\n+{ordinal if ordinal > 1 else ''} {new}"
            for file, (old, new, ordinal) in sorted(entries)
        ]

    return show(survived - listed, "not listed, and survives:") + show(listed - survived, "listed, and no survivor:")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", metavar="FILE", help="as cpp/src/stream.cpp; all in the table without")
    arguments = parser.parse_args()
    files = [str(pathlib.Path(file)) for file in arguments.files] or list(TESTS)
    if strangers := [file for file in files if file not in TESTS]:
        parser.error(f"no tests are known for {', '.join(strangers)}: {', '.join(TESTS)}")
    if not shutil.which("ninja"):
        parser.error("ninja is needed, beside cmake")
    SOURCES.mkdir(parents=True, exist_ok=True)
    lock = (FOLDER / "lock").open("w")  # held until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        parser.error(f"another run is using {FOLDER}")
    os.environ["CCACHE_DISABLE"] = "1"  # no mutant comes twice
    copy_sources()
    outcomes = Outcomes()
    seen = {}
    for file in files:
        began = time.monotonic()
        seen[file] = mutate(file, outcomes)
        counted = ", ".join(f"{number} {outcome}" for outcome, number in sorted(Counter(seen[file].values()).items()))
        print(f"{file}: {counted}; {time.monotonic() - began:.0f} s", flush=True)
    wrong = judge(seen)
    print("", *wrong, sep="\n\n" if wrong else "")
    print(
        f"{len(wrong)} entries are wrong in {SURVIVORS.name}" if wrong else "Each survivor is listed, with its reason."
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
