"""What the loop does not do yet: each raises NotImplementedError by its name."""

from typing import Any, NoReturn


def not_implemented(name: str) -> NotImplementedError:
    """The exception for a method, or for a keyword of one, that is still to come."""
    return NotImplementedError(f"zloop does not implement {name} yet")


class UnsupportedMixin:
    """Methods of AbstractEventLoop that are still to come."""

    async def connect_read_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_implemented("connect_read_pipe()")

    async def connect_write_pipe(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_implemented("connect_write_pipe()")

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_implemented("subprocess_exec()")

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise not_implemented("subprocess_shell()")
