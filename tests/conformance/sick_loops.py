"""Event loops with one illness each, for test_conformance.py: asyncio's own, but something bad happens in every run."""

import asyncio
import atexit
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable

kept: list[object] = []  # where an illness keeps from the garbage collector what it must not lose yet


class Unfinalizable:
    def __del__(self) -> None:
        raise ValueError("in a finalizer")


def sick(act: Callable[[], object]) -> type[asyncio.SelectorEventLoop]:
    """Return a loop class that acts so before it runs."""

    class Loop(asyncio.SelectorEventLoop):
        def run_forever(self) -> None:
            act()
            super().run_forever()

    return Loop


def fail() -> None:
    raise AssertionError("sick")


def lose_file() -> None:
    open(os.devnull)  # noqa: SIM115


Failing = sick(fail)
Hanging = sick(lambda: ctypes.PyDLL(None).pause())  # with the GIL held
Crashing = sick(lambda: ctypes.string_at(0))
CrashingAtExit = sick(lambda: atexit.register(ctypes.string_at, 0))
Leaving = sick(lambda: os._exit(0))
LosingFile = sick(lose_file)
Unraisable = sick(Unfinalizable)
LeakingDescriptor = sick(lambda: os.dup(0))
ClosingDescriptor = sick(lambda: os.close(0))
LeakingThread = sick(lambda: threading.Thread(target=threading.Event().wait, daemon=True).start())
LeakingChild = sick(lambda: kept.append(subprocess.Popen(["sleep", "60"])))
