"""Runs uvloop's benchmark client as it is, and fails when one of its workers did.

    python checked_client.py path/to/echoclient.py [the client's own arguments]

The client hands its workers to a ProcessPoolExecutor and never asks for their results: one that cannot connect, or that
is hung up on, ends early and makes the printed rate a fiction.  Here the pool asks for them when the client leaves it.
"""

from __future__ import annotations

import concurrent.futures
import runpy
import sys
from typing import Any


class CheckedPool(concurrent.futures.ProcessPoolExecutor):
    """A pool whose `with` block raises what one of its workers raised."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.submitted: list[concurrent.futures.Future[Any]] = []

    def submit(self, *arguments: Any, **keywords: Any) -> concurrent.futures.Future[Any]:
        future = super().submit(*arguments, **keywords)
        self.submitted.append(future)
        return future

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[arg-type]
        for future in self.submitted:
            try:
                future.result()
            except SystemExit:  # the client's way of leaving when the server hangs up
                raise ConnectionError("the server closed the connection") from None


if __name__ == "__main__":
    concurrent.futures.ProcessPoolExecutor = CheckedPool  # type: ignore[misc]
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
