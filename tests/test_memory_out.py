"""Memory that is out, at each allocation of Python in turn: MemoryError; nothing crashes, leaks or stays half-made."""

import importlib.util

import pytest
from support import run_script

pytestmark = [
    pytest.mark.zloop_only,  # CPython's own loops lose descriptors, and the interpreter, in some of these
    pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="nothing makes allocations fail"),
]

# Each allocation from the n-th on fails, `width` of them; 0: all of them until the block ends.
PRELUDE = """
import _testcapi, asyncio, contextlib, gc, os, sys

@contextlib.contextmanager
def memory_out(n, width):
    _testcapi.set_nomemory(n, n + width if width else 0)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()

def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

def sweep(attempt):
    before = descriptors()
    for width in (1, 3, 0):
        failed = 0
        for n in range(300):
            try:
                attempt(n, width)
            except MemoryError:
                failed = n
            if descriptors() != before:
                print("descriptors stay, at", n, width)
            if n > failed + 10:
                break
        if not failed:
            print("nothing failed")

first = new_event_loop()
first.run_until_complete(asyncio.sleep(0.001))
first.close()
"""


def test_loop_that_is_made():
    assert (
        run_script(
            "zloop",
            PRELUDE
            + """
def attempt(n, width):
    with memory_out(n, width):
        loop = new_event_loop()
    assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
    loop.close()

sys.unraisablehook = lambda _unraisable: None  # a loop whose __init__ has failed cannot be closed
sweep(attempt)
""",
        )
        == []
    )


def test_callbacks_that_are_scheduled():
    """What was accepted runs, once; what was not does not."""
    assert (
        run_script(
            "zloop",
            PRELUDE
            + """
def attempt(n, width):
    loop = new_event_loop()
    ran, accepted = [], [0]
    ran.extend(range(64))
    ran.clear()
    callback = lambda: ran.append(None)
    try:
        with memory_out(n, width):
            for _ in range(4):
                loop.call_soon(callback)
                accepted[0] += 1
                loop.call_later(0, callback)
                accepted[0] += 1
                loop.call_soon_threadsafe(callback)
                accepted[0] += 1
    finally:
        loop.run_until_complete(asyncio.sleep(0.001))
        if len(ran) != accepted[0]:
            print(len(ran), "of", accepted[0], "ran, at", n, width)
        loop.close()

sweep(attempt)
""",
        )
        == []
    )
