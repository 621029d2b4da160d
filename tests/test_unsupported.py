"""What is still to come says so: NotImplementedError with the method's name, never a crash or silence."""

import asyncio
import io
import os
import ssl

import pytest
from support import LOCALHOST, connection, tcp_pair, until, descriptor_closed

pytestmark = pytest.mark.zloop_only

TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

METHODS = {
    "create_unix_connection": lambda loop: loop.create_unix_connection(asyncio.Protocol, "/no/such/socket"),
    "create_unix_server": lambda loop: loop.create_unix_server(asyncio.Protocol, "/no/such/socket"),
    "connect_read_pipe": lambda loop: loop.connect_read_pipe(asyncio.Protocol, io.BytesIO()),
    "connect_write_pipe": lambda loop: loop.connect_write_pipe(asyncio.Protocol, io.BytesIO()),
    "subprocess_exec": lambda loop: loop.subprocess_exec(asyncio.SubprocessProtocol, "true"),
    "subprocess_shell": lambda loop: loop.subprocess_shell(asyncio.SubprocessProtocol, "true"),
    "start_tls": lambda loop: loop.start_tls(asyncio.Transport(), asyncio.Protocol(), TLS),
    "sendfile": lambda loop: loop.sendfile(asyncio.Transport(), io.BytesIO()),
    "create_connection": lambda loop: loop.create_connection(asyncio.Protocol, LOCALHOST, 1, ssl=TLS),
    "create_server": lambda loop: loop.create_server(asyncio.Protocol, LOCALHOST, 0, ssl=TLS),
}


@pytest.mark.parametrize("name", METHODS)
def test_method_that_is_to_come(loop, name):
    """It is a coroutine already, so that create_task() takes it."""
    coroutine = METHODS[name](loop)
    assert asyncio.iscoroutine(coroutine)
    with pytest.raises(NotImplementedError, match=name):
        loop.run_until_complete(coroutine)


def test_tls_over_an_accepted_socket_is_to_come(loop, run):
    with tcp_pair() as (left, _right):
        with pytest.raises(NotImplementedError, match="connect_accepted_socket"):
            run(loop.connect_accepted_socket(asyncio.Protocol, left, ssl=TLS))
        assert left.fileno() != -1  # still the caller's


def test_tls_over_a_given_socket_is_to_come(loop, run):
    with tcp_pair() as (left, _right):
        with pytest.raises(NotImplementedError, match="create_connection"):
            run(loop.create_connection(asyncio.Protocol, sock=left, ssl=TLS, server_hostname="example.org"))
        assert left.fileno() != -1


def test_start_tls_leaves_the_connection_usable(loop, run):
    async def scenario():
        async with connection(loop) as (transport, protocol, peer):
            with pytest.raises(NotImplementedError, match="start_tls"):
                await loop.start_tls(transport, protocol, TLS)
            transport.write(b"still here")
            assert await loop.sock_recv(peer, 100) == b"still here"
            transport.close()
            await until(lambda: descriptor_closed(transport))

    run(scenario())


def test_subprocesses_through_asyncio_leave_nothing(loop, run):
    """The high-level functions come to the same end, and no child or pipe stays."""
    for make in (
        lambda: asyncio.create_subprocess_exec(os.fspath("/bin/true")),
        lambda: asyncio.create_subprocess_shell("true"),
    ):
        with pytest.raises(NotImplementedError, match="subprocess_"):
            run(make())
