"""zloop: a drop-in asyncio event loop, with a C++ engine under a Cython front.

Any of these runs a program on it:

    zloop.run(main())                                               # in place of asyncio.run()
    asyncio.run(main(), loop_factory=zloop.new_event_loop)          # CPython 3.12 and later
    asyncio.Runner(loop_factory=zloop.new_event_loop)
    zloop.install()                                                 # as the default, while Python has policies
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from zloop.loop import Loop, new_event_loop

__version__ = "0.1.0"
__all__ = ["Loop", "new_event_loop", "run"]

try:
    from zloop.policy import EventLoopPolicy, install
except ImportError:  # CPython 3.16: policies are gone, and with them these two
    pass
else:
    __all__ += ["EventLoopPolicy", "install"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run a coroutine on a new zloop loop and return its result: asyncio.run(), with zloop.

    The loop's asynchronous generators and default executor are shut down, and it is closed. debug=None takes debug
    mode from the environment (PYTHONASYNCIODEBUG, -X dev). RuntimeError if this thread runs a loop already.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("zloop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
