"""Runs at the start of every Python process of a downstream test run: gives it its event loop, notes which loops run.

Python imports a module of this name from PYTHONPATH as it starts, so that the processes which tests start are reached
as well. The environment tells it what to do:

    DOWNSTREAM_LOOP  "module:class" of the loop that whoever asks asyncio for a loop gets
    DOWNSTREAM_RUNS  the file to which a JSON line is appended when a test first runs a loop of some class in a process
"""

import asyncio
import importlib
import json
import os
import re
from typing import Any


def give_loop(loop_class: Any) -> None:
    """Put the class behind every public name by which asyncio makes loops."""
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = loop_class
    for name in ("SelectorEventLoop", "EventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, loop_class)


def note_runs(loop_class: Any, path: str) -> None:
    """Have it written down which loops run: every loop tells asyncio when it starts, through this one function."""
    set_running_loop = asyncio.events._set_running_loop
    noted = set()

    def note(loop: Any) -> None:
        if loop is not None:
            test = stable(os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0])  # pytest's: "NODE ID (PHASE)"
            kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
            run = {"test": test, "pid": os.getpid(), "loop": kind, "given": isinstance(loop, loop_class)}
            line = json.dumps(run) + "\n"
            if line not in noted:
                noted.add(line)
                append(path, line)
        set_running_loop(loop)

    asyncio.events._set_running_loop = note


def stable(node_id: str) -> str:
    """Return a test's id without what is not its own: addresses in parameters, and the names of the loops' classes."""
    return re.sub(r"\b((_Unix)?SelectorEventLoop|Loop)\b", "LOOP", re.sub(r"\b0x[0-9a-f]{6,}", "0x", node_id))


def append(path: str, line: str) -> None:
    """Append a line in one write, so that processes do not mix theirs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, line.encode())
    os.close(descriptor)


if "DOWNSTREAM_LOOP" in os.environ:
    module, _, attribute = os.environ["DOWNSTREAM_LOOP"].partition(":")
    given = getattr(importlib.import_module(module), attribute)
    give_loop(given)
    note_runs(given, os.environ["DOWNSTREAM_RUNS"])
