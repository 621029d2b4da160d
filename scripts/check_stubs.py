#!/usr/bin/env python3
"""Compares the stubs (.pyi) of zloop's Cython modules with the modules, as they are installed for this Python.

    python -P scripts/check_stubs.py [ARGUMENT…]     further arguments are mypy.stubtest's

scripts/stubs.allow names what may differ; each of its lines ends with the reason, and one that allows nothing is told.
The exit status is 1 when stubs and modules differ, or a line has no reason; 2 when zloop or mypy is not installed.
"""

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

ALLOWED = Path(__file__).with_name("stubs.allow")


def lines_without_reason(text: str) -> list[int]:
    """The numbers of the lines that name something and say nothing."""
    entries = [(number, *line.partition("#")) for number, line in enumerate(text.splitlines(), 1)]
    return [number for number, entry, _, reason in entries if entry.strip() and not reason.strip()]


def main() -> int:
    """Check the list, then the stubs."""
    for module in ("mypy", "zloop"):
        if importlib.util.find_spec(module) is None:
            print(f"there is no {module} for {sys.executable}", file=sys.stderr)
            return 2
    unfounded = lines_without_reason(ALLOWED.read_text())
    for number in unfounded:
        print(f"{ALLOWED.name}:{number}: has no reason")
    command = [sys.executable, "-P", "-m", "mypy.stubtest", "zloop", "--concise", "--allowlist", str(ALLOWED)]
    with tempfile.TemporaryDirectory() as elsewhere:  # where mypy finds the installed package, not the sources
        done = subprocess.run([*command, *sys.argv[1:]], cwd=elsewhere, check=False)
    return 1 if unfounded or done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
