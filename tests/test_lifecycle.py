"""The ends of a loop's life: no descriptor to open it with, and what outlives its close()."""

import asyncio
import os
import resource
import socket

import pytest
from support import new_loop, run_bounded

LOCALHOST = "127.0.0.1"


@pytest.fixture
def no_descriptors_left():
    """The process may open no descriptor more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.zloop_only  # asyncio's says so and complains about a missing attribute as well
def test_loop_that_cannot_be_opened(no_descriptors_left, loop_kind):
    with pytest.raises(OSError, match="Too many open files"):
        new_loop(loop_kind)


@pytest.mark.parametrize("serving", [True, False])
def test_server_closed_after_its_loop_closes_its_socket(loop_kind, serving):
    loop = new_loop(loop_kind)
    listener = socket.create_server((LOCALHOST, 0))
    coro = loop.create_server(asyncio.Protocol, sock=listener, start_serving=serving)
    server = run_bounded(loop, coro)
    loop.close()
    server.close()
    assert listener.fileno() == -1


@pytest.mark.zloop_only
def test_listening_socket_that_its_owner_closes_stays_open_until_the_server_does(loop, run):
    """Otherwise the server would accept on whatever gets the number next."""
    listener = socket.create_server((LOCALHOST, 0))
    address = listener.getsockname()
    server = run(loop.create_server(asyncio.Protocol, sock=listener))
    listener.close()
    with socket.create_connection(address):
        assert listener.fileno() >= 0
        server.close()
        assert listener.fileno() == -1
    run(server.wait_closed())
