"""Calls that may block for a moment, made where tools that look for such calls let asyncio make them.

Those tools replace functions of the os module, and know asyncio's own calls by the file and the function that they find
on the stack. So what has been put in a function's place is called, as by asyncio, and from a frame by that name.
"""

from __future__ import annotations

from asyncio import unix_events
from collections.abc import Callable
from types import FunctionType
from typing import Any


def call(function: Callable[..., Any], *args: Any) -> Any:
    """What the callers below are made of."""
    return function(*args)


def caller_as(name: str) -> Callable[..., Any]:
    """A call() whose frame bears the name of a function of asyncio.unix_events."""
    code = call.__code__.replace(co_filename=str(unix_events.__file__), co_name=name, co_qualname=name)
    return FunctionType(code, {})


call_as_sock_sendfile = caller_as("_sock_sendfile_native_impl")
call_as_create_unix_server = caller_as("create_unix_server")
call_as_stop_serving = caller_as("_stop_serving")
