"""zloop: a drop-in asyncio event loop, with a C++ engine under a Cython front.

Any of these runs a program on it:

    zloop.run(main())                                               # in place of asyncio.run()
    asyncio.run(main(), loop_factory=zloop.new_event_loop)          # CPython 3.12 and later
    asyncio.Runner(loop_factory=zloop.new_event_loop)
    zloop.install()                                                 # as the default, while Python has policies

and so does, without a change to it, ``python -m zloop script.py`` (or -m module).

Importing zloop is quick, and the first loop loads the rest. A program that shall have it all before it forks, or gives
up access to the file system, asks for zloop.Loop.

PYTEST_DONT_REWRITE: pytest would warn of a package with a plugin that was imported before plugins are registered.
"""

from __future__ import annotations

import _thread
import asyncio
import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from zloop.as_uvloop import install_as_uvloop
    from zloop.loop import Loop
    from zloop.policy import EventLoopPolicy, install
    from zloop.threads import Worker, run_threads

__version__ = "0.1.0"
__all__ = ["Loop", "Worker", "install_as_uvloop", "new_event_loop", "run", "run_threads"]

if sys.version_info < (3, 11):  # noqa: UP036  # where nothing that installs has looked
    raise ImportError(f"zloop needs Python 3.11 or later; this is {sys.version.split()[0]}")
if sys.platform == "win32":
    raise ImportError(
        "zloop does not run on Windows: its engine polls with epoll or kqueue. Use asyncio's own loop there, or WSL"
    )

# Before CPython 3.12, the native modules ask.
if not getattr(_thread, "_is_main_interpreter", lambda: True)():  # pragma: no cover: nothing traces a subinterpreter
    raise ImportError("zloop does not run in a subinterpreter; use asyncio's own loop there")

# The modules of the names that are loaded on demand. Loading a loop takes most of the time, and many processes
# that import zloop make no loop: each run of pytest does, for the plugin.
_homes = {
    "Loop": "zloop.loop",
    "Worker": "zloop.threads",
    "install_as_uvloop": "zloop.as_uvloop",
    "run_threads": "zloop.threads",
}
if hasattr(asyncio, "set_event_loop_policy"):  # until CPython 3.16
    __all__ += ["EventLoopPolicy", "install"]
    _homes |= {"EventLoopPolicy": "zloop.policy", "install": "zloop.policy"}

T = TypeVar("T")

_package: Any = sys.modules[__name__]  # attribute access loads the names of _homes


def __getattr__(name: str) -> Any:
    if name not in _homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_homes[name])
    except ImportError as exc:  # pragma: no cover: in a copy of the sources
        from importlib.util import find_spec  # noqa: PLC0415  # not needed before

        if find_spec("zloop.core.loop") is not None:
            raise
        raise ImportError(
            f"zloop in {__path__[0]} has no native modules: it is the source, not built for this Python. "
            "Install it (pip install .), and start Python in another folder"
        ) from exc
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _LoopFactory(staticmethod):  # type: ignore[type-arg]  # not subscriptable at run time
    """A function that does not become a method where it is an attribute of a class.

    IsolatedAsyncioTestCase.loop_factory is such an attribute, and is called without arguments.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(self.__func__)

    def __reduce__(self) -> str:  # pickled and copied as functions are: by name
        return self.__qualname__


def new_event_loop() -> Loop:
    """Return a new loop; a factory for asyncio.run(loop_factory=), asyncio.Runner and others."""
    loop: Loop = _package.Loop()
    return loop


if not TYPE_CHECKING:
    new_event_loop = _LoopFactory(new_event_loop)


def run(
    main: Awaitable[T],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = new_event_loop,
    debug: bool | None = None,
    **options: Any,
) -> T:
    """Run a coroutine or another awaitable on a new zloop loop and return its result, as asyncio.run() does.

    The loop's asynchronous generators and default executor are shut down, and it is closed. debug=None takes debug
    mode from the environment (PYTHONASYNCIODEBUG, -X dev). The loop is what loop_factory makes, of zloop.Loop or a
    subclass, TypeError otherwise; further keywords are asyncio.Runner's. RuntimeError if this thread runs a loop.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("zloop.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=loop_factory, **options) as runner:
        if not isinstance(runner.get_loop(), _package.Loop):
            raise TypeError("zloop.run() uses a loop that is not zloop's: its loop_factory has to make a zloop.Loop")
        coroutine: Any = main  # the runner raises for other objects
        if inspect.isawaitable(main) and not asyncio.iscoroutine(main):
            coroutine = _result_of(main)
        result: T = runner.run(coroutine)
        return result


async def _result_of(awaitable: Awaitable[T]) -> T:
    return await awaitable
