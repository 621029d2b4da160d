"""install() and EventLoopPolicy: zloop as the process's default loop, where the running Python has policies.

CPython 3.14 deprecated policies and 3.16 removes them; a loop factory is the way that stays. This module can be
imported only while there are policies.
"""

import asyncio
import sys
import warnings
from typing import Any

from zloop.loop import Loop

# Taken from its own module, where no version warns: defining a policy is not yet using one.
_DefaultPolicy: Any = getattr(asyncio.unix_events, "DefaultEventLoopPolicy", None) or getattr(
    asyncio.unix_events, "_DefaultEventLoopPolicy", None
)
if _DefaultPolicy is None:  # pragma: no cover: CPython 3.16
    raise ImportError("this Python has no event loop policies")


class EventLoopPolicy(_DefaultPolicy):  # type: ignore[misc]
    """asyncio's default policy, with zloop's loops."""

    def _loop_factory(self) -> Loop:
        return Loop()


def install() -> None:
    """Make asyncio.new_event_loop(), and with it asyncio.run(), use zloop from here on.

    Deprecated with policies themselves, from CPython 3.14: pass zloop.new_event_loop as a loop factory instead.
    """
    if sys.version_info >= (3, 14):
        warnings.warn(
            "zloop.install() sets an event loop policy, which Python deprecates; "
            "use zloop.run(), or asyncio.run(..., loop_factory=zloop.new_event_loop)",
            DeprecationWarning,
            stacklevel=2,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())
