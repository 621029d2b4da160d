"""The event loops that are compared, and how a process gets one of them.

Each package of a peer lies in a directory of its own, which comes first on sys.path of a process that runs that peer
and of no other: one of them has the import name `zloop` too, and aiohttp uses aiofastnet wherever it finds it.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import pathlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

LIMIT = "limit"
"""What stands for a server without Python, among the names of loops."""

UNAVAILABLE = "unavailable"
"""The name of the file that says why the package whose directory it lies in could not be installed."""


@dataclass(frozen=True)
class Loop:
    """A loop: the module that has its new_event_loop(), and the packages that it needs beside zloop's environment.

    `patch` names a module whose loop_factory() changes the loop's connections, and nothing else of it. `gathers`: what
    is written does not leave in the call, but with what is written after it. `title` is its name in reports.
    """

    name: str
    module: str
    packages: tuple[str, ...] = ()
    patch: str | None = None
    gathers: bool = False
    title: str = ""


LOOPS = {
    loop.name: loop
    for loop in (
        Loop("zloop", "zloop"),
        Loop("asyncio", "asyncio"),
        Loop("uvloop", "uvloop", ("uvloop",)),
        Loop("zuvloop", "zuvloop", ("zuvloop",), gathers=True),
        Loop("rsloop", "rsloop", ("rsloop",)),
        Loop("rloop", "rloop", ("rloop",)),
        Loop("zig-zloop", "zloop", ("zloop",), title="zloop (Zig)"),
        Loop("aiofastnet+uvloop", "uvloop", ("aiofastnet", "uvloop"), patch="aiofastnet"),
        Loop("aiofastnet+asyncio", "asyncio", ("aiofastnet",), patch="aiofastnet"),
    )
}
OURS = "zloop"
PEERS = [name for name in LOOPS if name != OURS]

DECIDED_BY_GATHERING = ("small-writes", "http-uvicorn")
"""The rows whose servers write an answer in several pieces: a loop that gathers has fewer system calls to make."""


def factory(loop: Loop, peers: pathlib.Path) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop in this process, whose sys.path is changed for it. `peers` holds the packages."""
    sys.path[:0] = [str(peers / package) for package in loop.packages]
    new_event_loop = importlib.import_module(loop.module).new_event_loop
    if loop.patch:
        return importlib.import_module(loop.patch).loop_factory(new_event_loop)
    return new_event_loop


def reason_missing(loop: Loop, peers: pathlib.Path) -> str | None:
    """Why the loop is not there, or None if it is."""
    for package in loop.packages:
        note = peers / package / UNAVAILABLE
        if note.exists():
            return f"{package}: {note.read_text().strip()}"
        if not (peers / package).is_dir():
            return f"{package} was not installed"
    return None


def version(loop: Loop, peers: pathlib.Path) -> str:
    """The versions of what the loop consists of."""
    if loop.name == "asyncio":
        return "of CPython"
    if not loop.packages:
        return importlib.import_module(loop.module).__version__
    found = []
    for package in loop.packages:
        distributions = importlib.metadata.distributions(name=package, path=[str(peers / package)])
        found.append(f"{package} {next(iter(distributions)).version}")
    return ", ".join(found)
