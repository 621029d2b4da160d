"""The loop's exception handler, for exceptions that no code awaits, and the default one."""

from __future__ import annotations

import asyncio
import sys
import traceback
from asyncio.log import logger
from collections.abc import Callable
from typing import Any

from zloop.core.interface import MixinBase

Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

# Keys whose values are logged as stacks.
STACK_TITLES = {
    "source_traceback": "Object created at (most recent call last):",
    "handle_traceback": "Handle created at (most recent call last):",
}


class ExceptionHandlerMixin(MixinBase):
    """Exception handlers."""

    _exception_handler: Handler | None = None

    def get_exception_handler(self) -> Handler | None:
        """Return the exception handler, or None for the default one."""
        return self._exception_handler

    def set_exception_handler(self, handler: Handler | None) -> None:
        """Set handler(loop, context) as the exception handler, or None for the default one.

        `context` is that of call_exception_handler(). Raises TypeError if the handler is not callable.
        """
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the context's message, exception and other keys at level ERROR, to the logger "asyncio"."""
        exception = context.get("exception")
        current = self._current_handle
        if "source_traceback" not in context and current is not None and current._source_traceback:
            context["handle_traceback"] = current._source_traceback
        lines = [context.get("message") or "Unhandled exception in event loop"]
        for key in sorted(context):
            if key in STACK_TITLES:
                stack = "".join(traceback.format_list(context[key])).rstrip()
                lines.append(f"{key}: {STACK_TITLES[key]}\n{stack}")
            elif key not in ("message", "exception"):
                lines.append(f"{key}: {context[key]!r}")
        exc_info = (type(exception), exception, exception.__traceback__) if exception is not None else False
        logger.error("\n".join(lines), exc_info=exc_info)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Call the exception handler with a context.

        `context` is a dict with the key "message" and optionally "exception", "future", "task", "handle", "protocol",
        "transport", "socket", "source_traceback" and others. An exception of the handler is logged; SystemExit and
        KeyboardInterrupt are raised.
        """
        try:
            if self._exception_handler is None:
                self.default_exception_handler(context)
            else:
                self._call_custom_handler(self._exception_handler, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report_failed_handler(exc, context)

    def _call_custom_handler(self, handler: Handler, context: dict[str, Any]) -> None:
        # Since CPython 3.12 in the context of the failed task, future or handle.
        thing = context.get("task") or context.get("future") or context.get("handle")
        get_context = getattr(thing, "get_context", None) if sys.version_info >= (3, 12) else None
        failed_in = get_context() if get_context is not None else None
        if failed_in is not None and hasattr(failed_in, "run"):
            failed_in.run(handler, self, context)
        else:
            handler(self, context)

    def _report_failed_handler(self, exc: BaseException, context: dict[str, Any]) -> None:
        if self._exception_handler is None:
            logger.error("Exception in default exception handler", exc_info=True)
            return
        try:
            self.default_exception_handler(
                {"message": "Unhandled error in exception handler", "exception": exc, "context": context}
            )
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            logger.error(
                "Exception in default exception handler while handling an unexpected error in custom exception handler",
                exc_info=True,
            )
