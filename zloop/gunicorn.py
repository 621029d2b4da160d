"""gunicorn's workers that run on zloop: ``gunicorn --worker-class zloop.gunicorn.UvicornWorker app:app``.

What the worker is made of is imported when it is asked for, so that zloop needs none of it.
"""

from __future__ import annotations

import importlib
import warnings
from typing import Any

LOOP = "zloop:new_event_loop"
"""As uvicorn's ``--loop`` takes it."""


def __getattr__(name: str) -> Any:
    """Make UvicornWorker the first time that it is asked for."""
    if name != "UvicornWorker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, _new_uvicorn_worker())


def _new_uvicorn_worker() -> type[Any]:
    base: Any = _base_of_uvicorn_worker()
    names = {
        "__doc__": "uvicorn's worker, with zloop for its loop. A subclass may change the rest of CONFIG_KWARGS.",
        "__module__": __name__,
        "CONFIG_KWARGS": {**base.CONFIG_KWARGS, "loop": LOOP},
    }
    return type("UvicornWorker", (base,), names)


def _base_of_uvicorn_worker() -> Any:
    """The worker class of the package that uvicorn's moved to, or uvicorn's own where that is not installed."""
    try:
        config: Any = importlib.import_module("uvicorn.config")
        try:
            module: Any = importlib.import_module("uvicorn_worker")
        except ModuleNotFoundError as missing:
            if missing.name != "uvicorn_worker":
                raise
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # it says to install the other package
                module = importlib.import_module("uvicorn.workers")
    except ModuleNotFoundError as missing:
        package = str(missing.name).partition(".")[0]
        raise ImportError(
            f"zloop.gunicorn.UvicornWorker needs {package}, which is not installed: pip install gunicorn uvicorn-worker"
        ) from missing
    if not hasattr(config.Config, "get_loop_factory"):  # its --loop knows its own names alone
        raise ImportError("zloop.gunicorn.UvicornWorker needs uvicorn 0.36 or later: pip install -U uvicorn")
    return module.UvicornWorker
