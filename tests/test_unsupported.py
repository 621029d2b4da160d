"""What is still to come says so: NotImplementedError with the method's name, never a crash or silence."""

import asyncio
import io
import os

import pytest

pytestmark = pytest.mark.zloop_only

METHODS = {
    "connect_read_pipe": lambda loop: loop.connect_read_pipe(asyncio.Protocol, io.BytesIO()),
    "connect_write_pipe": lambda loop: loop.connect_write_pipe(asyncio.Protocol, io.BytesIO()),
    "subprocess_exec": lambda loop: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
    "subprocess_shell": lambda loop: loop.subprocess_shell(asyncio.SubprocessProtocol, "true"),
}


@pytest.mark.parametrize("name", METHODS)
def test_method_that_is_to_come(loop, name):
    """It is a coroutine already, so that create_task() takes it."""
    coroutine = METHODS[name](loop)
    assert asyncio.iscoroutine(coroutine)
    with pytest.raises(NotImplementedError, match=name):
        loop.run_until_complete(coroutine)


def test_subprocesses_through_asyncio_leave_nothing(loop, run):
    """The high-level functions come to the same end, and no child or pipe stays."""
    for make in (
        lambda: asyncio.create_subprocess_exec(os.fspath("/bin/true")),
        lambda: asyncio.create_subprocess_shell("true"),
    ):
        with pytest.raises(NotImplementedError, match="subprocess_"):
            run(make())
