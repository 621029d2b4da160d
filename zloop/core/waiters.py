"""Awaitables: the loop's next turn, and results for futures that may have been cancelled."""

import types
from asyncio import Future
from collections.abc import Generator
from typing import Any


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """Wait for the next turn of the loop, as asyncio.sleep(0) does."""
    yield


def set_result_unless_cancelled(future: "Future[Any]", result: object) -> None:
    """Set a future's result, unless its waiter has cancelled it."""
    if not future.cancelled():
        future.set_result(result)


def set_exception_unless_cancelled(future: "Future[Any]", exception: BaseException) -> None:
    """Set a future's exception, unless its waiter has cancelled it."""
    if not future.cancelled():
        future.set_exception(exception)
