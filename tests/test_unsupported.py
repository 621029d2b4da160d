"""What is still to come says so: NotImplementedError with the method's name, never a crash or silence."""

import asyncio

import pytest
from support import LOCALHOST

pytestmark = pytest.mark.zloop_only

METHODS = {
    "create_datagram_endpoint": lambda loop: loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=(LOCALHOST, 0)
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_method_that_is_to_come(loop, name):
    """It is a coroutine already, so that create_task() takes it."""
    coroutine = METHODS[name](loop)
    assert asyncio.iscoroutine(coroutine)
    with pytest.raises(NotImplementedError, match=name):
        loop.run_until_complete(coroutine)
