"""zloop: a drop-in asyncio event loop, with a C++ engine under a Cython front.

Any of these runs a program on it:

    zloop.run(main())                                               # in place of asyncio.run()
    asyncio.run(main(), loop_factory=zloop.new_event_loop)          # CPython 3.12 and later
    asyncio.Runner(loop_factory=zloop.new_event_loop)
    zloop.install()                                                 # as the default, while Python has policies

Importing zloop is quick, and the first loop loads the rest. A program that shall have it all before it forks, or gives
up access to the file system, asks for zloop.Loop.

PYTEST_DONT_REWRITE: pytest would warn of a package with a plugin that was imported before plugins are registered.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from zloop.loop import Loop
    from zloop.policy import EventLoopPolicy, install

__version__ = "0.1.0"
__all__ = ["Loop", "new_event_loop", "run"]

# The modules of the names that are not here. Loading a loop's takes longer than all else, and many a process that
# imports zloop makes no loop: where it is installed every run of pytest does, for the plugin.
_homes = {"Loop": "zloop.loop"}
if hasattr(asyncio, "set_event_loop_policy"):  # until CPython 3.16
    __all__ += ["EventLoopPolicy", "install"]
    _homes |= {"EventLoopPolicy": "zloop.policy", "install": "zloop.policy"}

T = TypeVar("T")

_package: Any = sys.modules[__name__]  # asked for one of those names, it loads it


def __getattr__(name: str) -> Any:
    if name not in _homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_homes[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def new_event_loop() -> Loop:
    """A new loop, for asyncio.run(loop_factory=), asyncio.Runner and whoever takes a factory."""
    loop: Loop = _package.Loop()
    return loop


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new zloop loop and return its result: asyncio.run(), with zloop.

    The loop's asynchronous generators and default executor are shut down, and it is closed. debug=None takes debug
    mode from the environment (PYTHONASYNCIODEBUG, -X dev). RuntimeError if this thread runs a loop already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("zloop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
