"""install_as_uvloop(): uvloop's public names over zloop, for programs that name uvloop and nothing else."""

import asyncio
import sys
import types
from importlib.machinery import ModuleSpec

import zloop

API_VERSION = "0.23.0"  # whose names and signatures these are


def install_as_uvloop() -> None:
    """Make `import uvloop` find zloop under uvloop's public names, from here on. A second call does nothing.

    To be called before anything imports uvloop: RuntimeError if the real one has been imported already.
    """
    present = sys.modules.get("uvloop")
    if present is not None:
        if vars(present).get("Loop") is zloop.Loop:
            return
        raise RuntimeError(
            "uvloop itself is imported already; zloop.install_as_uvloop() has to be called before anything imports it"
        )
    names = ["Loop", "new_event_loop", "run"]
    if hasattr(asyncio, "set_event_loop_policy"):  # until CPython 3.16
        names += ["EventLoopPolicy", "install"]
    module = types.ModuleType("uvloop", "zloop, under the names of uvloop.")
    vars(module).update(
        {name: getattr(zloop, name) for name in names},
        __all__=names,
        __file__=__file__,
        __spec__=ModuleSpec("uvloop", None, origin=__file__),
        __version__=f"{API_VERSION}+zloop",
    )
    sys.modules["uvloop"] = module
