"""What a coroutine waits on: futures that may be cancelled before their answer comes, and the loop's next turn."""

import types
from asyncio import Future
from collections.abc import Generator
from typing import Any


@types.coroutine
def next_turn() -> Generator[None, None, None]:
    """Let the loop make a turn, as asyncio.sleep(0) does."""
    yield


def set_result_unless_cancelled(future: "Future[Any]", result: object) -> None:
    """Answer a future that its waiter may have cancelled meanwhile."""
    if not future.cancelled():
        future.set_result(result)


def set_exception_unless_cancelled(future: "Future[Any]", exception: BaseException) -> None:
    """Fail a future that its waiter may have cancelled meanwhile."""
    if not future.cancelled():
        future.set_exception(exception)
