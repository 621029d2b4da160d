"""What the loop does not do yet: each raises NotImplementedError by its name."""

from typing import Any, NoReturn


def not_implemented(name: str) -> NotImplementedError:
    """The exception for a method, or for a keyword of one, that is still to come."""
    return NotImplementedError(f"zloop does not implement {name} yet")


class UnsupportedMixin:
    """Methods of AbstractEventLoop that are still to come."""

    async def create_datagram_endpoint(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_implemented("create_datagram_endpoint()")
