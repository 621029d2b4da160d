"""What the loop says about callbacks, errors and places, in asyncio's own words.

asyncio's formatters are used where they are, so that the text follows the running Python.
"""

import inspect
import os
import sys
from asyncio import base_events, constants, coroutines, format_helpers
from asyncio.log import logger
from collections.abc import Callable
from traceback import StackSummary
from typing import Any

DEBUG_STACK_DEPTH: int = constants.DEBUG_STACK_DEPTH

# CPython 3.14 deprecated the public name and kept the test under this one.
is_coroutine_function: Callable[[object], bool] = getattr(
    coroutines, "_iscoroutinefunction", inspect.iscoroutinefunction
)


def describe_callback(callback: Callable[..., Any], args: tuple[Any, ...], debug: bool) -> str:
    """The callback with its arguments and the place of its definition, as asyncio writes it."""
    if sys.version_info >= (3, 13):  # before it, arguments were always shown
        return format_helpers._format_callback_source(callback, args, debug=debug)
    return format_helpers._format_callback_source(callback, args)


def creation_stack() -> StackSummary:
    """The stack of the Python code that called into zloop, innermost frame last, cut to asyncio's debug depth."""
    return format_helpers.extract_stack(sys._getframe(1))


def log_slow_callback(handle: object, seconds: float) -> None:
    """Debug mode's warning that one callback kept the loop from everything else."""
    logger.warning("Executing %s took %.3f seconds", base_events._format_handle(handle), seconds)  # type: ignore[attr-defined]


def os_error(errno: int) -> OSError:
    """The OSError, of the subclass that goes with it, for an error number."""
    return OSError(errno, os.strerror(errno))


def report_failed_connection(loop: Any, exc: BaseException, protocol: Any, transport: Any) -> None:
    """What became of a connection that a server accepted, and no transport. In debug mode only: asyncio's rule."""
    if not loop.get_debug():
        return
    context = {"message": "Error on transport creation for incoming connection", "exception": exc}
    if protocol is not None:
        context["protocol"] = protocol
    if transport is not None:
        context["transport"] = transport
    loop.call_exception_handler(context)


def bind_error(exc: OSError, address: object) -> OSError:
    """The OSError for an address that could not be bound, naming it; worded as the running Python does."""
    reason = str(exc) if sys.version_info >= (3, 13) else exc.strerror or str(exc)
    return OSError(exc.errno, f"error while attempting to bind on address {address!r}: {reason.lower()}")
