"""typed_program.py, which the type checkers read, is a program that runs and that leaves no public method out."""

import ast
import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from support import TIME_LIMIT

PROGRAM = Path(__file__).with_name("typed_program.py")


def public_names(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.zloop_only
def test_typed_program_calls_every_public_method_of_a_loop():
    import zloop

    used = {node.attr for node in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(node, ast.Attribute)}
    assert public_names(asyncio.AbstractEventLoop) - used == set()
    assert public_names(zloop.Loop) - used == set()


@pytest.mark.zloop_only
def test_typed_program_runs():
    command = [sys.executable, "-W", "error", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "told\n")  # by the default exception handler
