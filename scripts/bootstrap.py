"""Makes the virtual environment of the tools, build/venv/tools-X.Y, and runs Python there with the arguments.

It holds pyproject.toml's dependency group `tools`, and is made anew when that or the interpreter changes. The standard
library is all that this file needs.
"""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
UNREACHABLE = ("NewConnectionError", "NameResolutionError", "Max retries exceeded", "ConnectTimeoutError", "ProxyError")
SETTINGS = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_RETRIES": "2"}


def main() -> None:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    venv = ROOT / "build" / "venv" / f"tools-{sys.version_info.major}.{sys.version_info.minor}"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two commands may start at once
        make(venv)
    python = venv / "bin" / "python"
    os.execv(python, [str(python), *sys.argv[1:]])  # noqa: S606


def make(venv: pathlib.Path) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        requirements = tomllib.load(file)["dependency-groups"]["tools"]
    wanted = "\n".join([sys.base_prefix, sys.version, *requirements])
    stamp = venv / "made-from"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"==> making {venv.relative_to(ROOT)}, which holds {', '.join(requirements)}", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    log = ROOT / "build" / "log" / f"{venv.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    run(log, sys.executable, "-m", "venv", str(venv))
    run(log, str(venv / "bin" / "python"), "-m", "pip", "install", *requirements)
    stamp.write_text(wanted)


def run(log: pathlib.Path, *command: str) -> None:
    """Run a command, its output in the log. Raises SystemExit if it fails."""
    with log.open("a") as file:
        status = subprocess.call(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    if status == 0:
        return
    text = log.read_text()
    print(*text.splitlines()[-25:], sep="\n", file=sys.stderr)
    reason = f"{' '.join(command[:4])} failed with status {status}"
    if any(word in text for word in UNREACHABLE):
        reason = "the package index cannot be reached"
    sys.exit(f"error: {reason}\n       The whole output is in {log}")


if __name__ == "__main__":
    main()
