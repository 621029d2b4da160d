"""Memory that is out, at each allocation in turn: MemoryError or an end of the connection, and nothing half-made.

Nothing crashes, leaks a descriptor or stays half-made; a transport that is closed ends, and its protocol is told once;
the loop goes on. The sweeps are memory_out_program.py's, each in one process.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from memory_out_program import SCENARIOS
from support import FREE_THREADED, TIME_LIMIT, compile_library, run_script

pytestmark = pytest.mark.zloop_only  # CPython's own loops lose descriptors, and the interpreter, in some of these

HERE = Path(__file__).parent
needs_testcapi = pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="nothing makes the interpreter's allocations fail"
)
compiler = shutil.which("c++")
needs_compiler = pytest.mark.skipif(
    compiler is None or sys.platform != "linux" or "LD_PRELOAD" in os.environ,
    reason="nothing makes the engine's allocations fail",
)


def run_sweeps(allocator, names, certificate_files):
    """The status and the complaints. The interpreter may have more to say when its memory is out."""
    # coverage.py would allocate, too, and fail.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS_")}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [env.get("PYTHONPATH"), str(HERE)]))  # -P leaves it out
    done = subprocess.run(
        [sys.executable, "-P", HERE / "memory_out_program.py", allocator, ",".join(names), *certificate_files],
        env=env if allocator == "python" else env | {"LD_PRELOAD": str(allocator)},
        capture_output=True,
        text=True,
        timeout=4 * TIME_LIMIT,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr if done.returncode else ""


@needs_testcapi
@pytest.mark.skipif(FREE_THREADED, reason="list.extend() itself dies without memory and without a GIL (3.13.5)")
@pytest.mark.parametrize("name", SCENARIOS)
def test_interpreter_has_no_memory_for(name, certificate_files):
    assert run_sweeps("python", [name], certificate_files) == (0, "", "")


@needs_compiler
def test_engine_has_no_memory(tmp_path, certificate_files):
    library = compile_library(compiler, HERE / "failing_new.cpp", tmp_path / "failing_new.so", "-std=c++17")
    assert run_sweeps(library, SCENARIOS, certificate_files) == (0, "", "")


def test_collection_at_each_allocation_while_a_loop_is_made():
    assert (
        run_script(
            "zloop",
            """
import asyncio, gc
gc.set_threshold(1)
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""",
        )
        == []
    )
