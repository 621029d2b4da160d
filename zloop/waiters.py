"""Futures that somebody waits on, and that may be cancelled before their answer comes."""

from asyncio import Future
from typing import Any


def set_result_unless_cancelled(future: "Future[Any]", result: object) -> None:
    """Answer a future that its waiter may have cancelled meanwhile."""
    if not future.cancelled():
        future.set_result(result)


def set_exception_unless_cancelled(future: "Future[Any]", exception: BaseException) -> None:
    """Fail a future that its waiter may have cancelled meanwhile."""
    if not future.cancelled():
        future.set_exception(exception)
