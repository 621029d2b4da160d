"""Descriptions of callbacks and errors, with asyncio's texts.

asyncio's own formatters are called where there are any, so that the text is the running Python's.
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

# CPython 3.14 deprecates the public function and keeps this one.
is_coroutine_function: Callable[[object], bool] = getattr(
    coroutines, "_iscoroutinefunction", inspect.iscoroutinefunction
)


def describe_callback(callback: Callable[..., Any], args: tuple[Any, ...], debug: bool) -> str:
    """The callback with its arguments and the place of its definition, in asyncio's format."""
    if sys.version_info >= (3, 13):  # before 3.13, arguments are always shown
        return format_helpers._format_callback_source(callback, args, debug=debug)
    return format_helpers._format_callback_source(callback, args)


def creation_stack() -> StackSummary:
    """The stack of the Python code that called into zloop, innermost frame last, cut to asyncio's debug depth."""
    return format_helpers.extract_stack(sys._getframe(1))


def log_slow_callback(handle: object, seconds: float) -> None:
    """Debug mode's warning of a callback that took `slow_callback_duration` or longer."""
    logger.warning("Executing %s took %.3f seconds", base_events._format_handle(handle), seconds)  # type: ignore[attr-defined]


def os_error(errno: int) -> OSError:
    """The OSError for an error number; an instance of the subclass that belongs to the number."""
    return OSError(errno, os.strerror(errno))


def report_failed_connection(loop: Any, exc: BaseException, protocol: Any, transport: Any) -> None:
    """Report that an accepted connection's transport could not be made; in debug mode only, as in asyncio."""
    if not loop.get_debug():
        return
    context = {"message": "Error on transport creation for incoming connection", "exception": exc}
    if protocol is not None:
        context["protocol"] = protocol
    if transport is not None:
        context["transport"] = transport
    loop.call_exception_handler(context)


def bind_error(exc: OSError, address: object) -> OSError:
    """The OSError for an address that could not be bound, with the running Python's message."""
    reason = str(exc) if sys.version_info >= (3, 13) else exc.strerror or str(exc)
    return OSError(exc.errno, f"error while attempting to bind on address {address!r}: {reason.lower()}")
