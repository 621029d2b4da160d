"""clang-tidy over every C++ file: .clang-tidy says what it asks for."""

import json
import pathlib
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import nox

from tooling import BUILD, ROOT, machine

CHATTER = re.compile(r"^(\d+ warnings? generated|Suppressed|Use -)")


def run(session: nox.Session) -> bool:
    """Whether nothing was found. The engine's compile database must be there."""
    script = "import sysconfig; print(sysconfig.get_paths()['include'])"
    headers = str(session.run("python", "-c", script, silent=True)).strip()
    program = pathlib.Path(session.bin) / "clang-tidy"
    commands = [[str(program), "--quiet", *arguments] for arguments in work(headers)]
    with ThreadPoolExecutor(machine.jobs()) as pool:
        outcomes = list(pool.map(check, commands))
    return all(outcomes)


def work(headers: str) -> Iterator[list[str]]:
    """The arguments for each file."""
    for file in compiled_here():
        yield [file, "-p", str(BUILD / "engine-dev")]
    # What knows Python: each header as a file of its own.
    binding = ["-x", "c++", "-std=c++20", f"-I{ROOT}/cpp/include", f"-I{ROOT}/zloop", "-isystem", headers]
    for path in sorted((ROOT / "zloop").rglob("*.[ch]pp")):
        yield [str(path), "--", *binding, "-Wno-pragma-once-outside-header"]
    for path in sorted((ROOT / "bench").rglob("*.cpp")):
        if path.name != "tls.cpp":  # takes OpenSSL's headers
            yield [str(path), "--", "-std=c++20"]


def compiled_here() -> list[str]:
    """The engine's files that this system compiles. Others' need headers that are not here."""
    commands = json.loads((BUILD / "engine-dev" / "compile_commands.json").read_text())
    files = {pathlib.Path(command["file"]) for command in commands}
    return sorted(str(file) for file in files if file.is_relative_to(ROOT / "cpp"))


def check(command: list[str]) -> bool:
    """Whether clang-tidy finds nothing in a file; prints what it finds and, as a sign of life, the file's name."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    found = [line for line in (done.stdout + done.stderr).splitlines() if not CHATTER.match(line)]
    name = pathlib.Path(command[2]).relative_to(ROOT)
    print(*[f"clang-tidy {name}", *found], sep="\n", flush=True)
    return done.returncode == 0
