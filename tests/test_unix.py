"""Unix stream sockets: create_unix_connection, create_unix_server, and what a server leaves in the file system."""

import asyncio
import contextlib
import os
import pathlib
import socket
import stat
import sys
import uuid

import pytest
from support import (
    Recorder,
    assert_silent,
    awaited_outcome,
    descriptor_closed,
    pattern,
    several_turns,
    socket_pair,
    until,
)

HAS_CLEANUP = sys.version_info >= (3, 13)
BIG = 1 << 20
"""More bytes than the buffers of a connection hold."""

KINDS = {
    "str": str,
    "bytes": os.fsencode,
    "PathLike": pathlib.Path,
    "abstract str": lambda _path: f"\0zloop-{uuid.uuid4()}",
    "abstract bytes": lambda _path: f"\0zloop-{uuid.uuid4()}".encode(),
    "abstract with nulls": lambda _path: f"\0zloop\0{uuid.uuid4()}\0".encode(),
}


@pytest.fixture
def path(tmp_path):
    """A path that is free, and short enough for a socket."""
    return str(tmp_path / "socket")


def unix_socket():
    return socket.socket(socket.AF_UNIX)


class Peers:
    """A protocol factory that keeps the Recorders it has made."""

    def __init__(self):
        self.made = []

    def __call__(self):
        self.made.append(Recorder())
        return self.made[-1]

    async def first(self):
        """The first protocol, once it has its transport."""
        await until(lambda: self.made and self.made[0].transport is not None)
        return self.made[0]


async def end(server, *transports):
    """Close everything and wait until it is gone."""
    for transport in transports:
        transport.abort()
    await until(lambda: all(map(descriptor_closed, transports)))
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("kind", KINDS)
def test_connection_to_a_server(loop, run, path, kind):
    async def scenario(address):
        peers = Peers()
        server = await loop.create_unix_server(peers, address)
        transport, protocol = await loop.create_unix_connection(Recorder, address)
        accepted = await peers.first()
        transport.write(b"ping")
        await accepted.until(lambda: accepted.received == b"ping")
        accepted.transport.write(b"pong")
        await protocol.until(lambda: protocol.received == b"pong")
        transport.close()
        await accepted.until_called("connection_lost")
        assert accepted.names()[-2:] == ["eof_received", "connection_lost"]
        assert accepted.calls[-1] == ("connection_lost", None)
        await end(server, transport, accepted.transport)

    run(scenario(KINDS[kind](path)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client_is_bound", [False, True], ids=["unnamed client", "bound client"])
def test_names_of_both_ends(same_as_asyncio, path, kind, client_is_bound):
    address = KINDS[kind](path)
    own_address = path + ".client"

    async def scenario(loop):
        peers = Peers()
        server = await loop.create_unix_server(peers, address)
        with unix_socket() as sock:
            if client_is_bound:
                sock.bind(own_address)
                os.unlink(own_address)
            sock.setblocking(False)
            await loop.sock_connect(sock, os.fspath(address))
            transport, _protocol = await loop.create_unix_connection(Recorder, sock=sock)
            accepted = await peers.first()
            names = [
                (side.get_extra_info("sockname"), side.get_extra_info("peername"))
                for side in (transport, accepted.transport)
            ]
            await end(server, transport, accepted.transport)
        if os.path.exists(path):
            os.unlink(path)  # before CPython 3.13 it stays
        return names

    client, accepted = same_as_asyncio(scenario).returned
    assert client[0] == accepted[1] == (own_address if client_is_bound else "")


def test_much_data_in_both_directions(loop, run, path):
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def scenario():
        async with await asyncio.start_unix_server(echo, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(pattern(BIG))
            writer.write_eof()
            assert await reader.read() == pattern(BIG)
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_accepted_socket_becomes_a_transport(loop, run):
    async def scenario(left, right):
        transport, protocol = await loop.connect_accepted_socket(Recorder, left)
        await loop.sock_sendall(right, b"hello")
        await protocol.until(lambda: protocol.received == b"hello")
        assert transport.get_extra_info("peername") == ""
        transport.close()
        await protocol.until_called("connection_lost")

    with socket_pair() as (left, right):
        run(scenario(left, right))


def test_connection_that_was_closed_before_it_was_accepted(loop, run, path):
    async def scenario():
        peers = Peers()
        listener = unix_socket()
        listener.bind(path)
        server = await loop.create_unix_server(peers, sock=listener, start_serving=False)
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, path)
        listener.listen()
        with unix_socket() as client:
            client.connect(path)
            client.send(b"last words")
        await server.start_serving()
        accepted = await peers.first()
        assert await accepted.until_called("connection_lost") is None
        assert accepted.received == b"last words"
        await end(server)

    run(scenario())


def test_cancelled_connection_leaves_nothing(loop, run, path):
    """However far the connection had got."""

    async def scenario():
        for turns in range(6):
            task = loop.create_task(loop.create_unix_connection(Recorder, path))
            await several_turns(turns)
            task.cancel()
            try:
                transport, _protocol = await task
            except asyncio.CancelledError:
                pass
            else:
                transport.abort()
                await until(lambda: descriptor_closed(transport))
            await several_turns()

    with unix_socket() as listener:
        listener.bind(path)
        listener.listen()
        with assert_silent(loop):
            run(scenario())


# -- arguments -----------------------------------------------------------------------------------------------------


CONNECTIONS = {
    "nothing": lambda _path: {},
    "path and sock": lambda path: {"path": path, "sock": unix_socket()},
    "TCP socket": lambda _path: {"sock": socket.socket()},
    "datagram socket": lambda _path: {"sock": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)},
    "nobody listens": lambda path: {"path": path},
    "a directory": lambda path: {"path": os.path.dirname(path)},
    "a number for a path": lambda _path: {"path": 42},
    "path too long": lambda path: {"path": path + "x" * 200},
    "null inside": lambda path: {"path": path + "\0x"},
    "hostname without TLS": lambda path: {"path": path, "server_hostname": "localhost"},
    "TLS without hostname": lambda path: {"path": path, "ssl": True},
    "handshake time-out without TLS": lambda path: {"path": path, "ssl_handshake_timeout": 1},
    "shutdown time-out without TLS": lambda path: {"path": path, "ssl_shutdown_timeout": 1},
    "hostname comes first": lambda path: {"path": path, "server_hostname": "", "ssl_handshake_timeout": 1},
    "unknown keyword": lambda path: {"path": path, "host": "localhost"},
}

SERVERS = {
    "nothing": lambda _path: {},
    "path and sock": lambda path: {"path": path, "sock": unix_socket()},
    "TCP socket": lambda _path: {"sock": socket.socket()},
    "datagram socket": lambda _path: {"sock": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)},
    "empty path": lambda _path: {"path": ""},
    "a number for a path": lambda _path: {"path": 42},
    "no such directory": lambda path: {"path": path + "/socket"},
    "path too long": lambda path: {"path": path + "x" * 200},
    "a directory": lambda path: {"path": os.path.dirname(path)},
    "TLS that is no context": lambda path: {"path": path, "ssl": True},
    "handshake time-out without TLS": lambda path: {"path": path, "ssl_handshake_timeout": 1},
    "shutdown time-out without TLS": lambda path: {"path": path, "ssl_shutdown_timeout": 1},
}


@pytest.fixture
def full_listener(path):
    """A listening Unix socket that takes no connection more."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                filler = stack.enter_context(socket.socket(socket.AF_UNIX))
                filler.setblocking(False)
                filler.connect(path)
        yield listener


class OtherSocket(socket.socket):
    """A class of a program's own, which is asked by its methods."""


@pytest.mark.zloop_only  # asyncio says that it is connected
@pytest.mark.parametrize("kind", [socket.socket, OtherSocket])
def test_full_backlog_is_no_connection(loop, run, path, full_listener, kind):
    async def scenario():
        with pytest.raises(BlockingIOError, match="Resource temporarily unavailable"):
            await loop.create_unix_connection(asyncio.Protocol, path)
        with kind(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                await loop.sock_connect(sock, path)
            full_listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    full_listener.accept()[0].close()
            await loop.sock_connect(sock, path)
            assert sock.getpeername() == path

    run(scenario())


def outcome_with(same_as_asyncio, method, make_arguments, path):
    async def scenario(loop):
        arguments = make_arguments(path)
        try:
            return await awaited_outcome(getattr(loop, method)(Recorder, **arguments))
        finally:
            if "sock" in arguments:
                arguments["sock"].close()

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is TypeError or outcome.returned[0] == "raised"  # TypeError: of the call itself


@pytest.mark.parametrize("case", CONNECTIONS)
def test_connections_that_cannot_be_made(same_as_asyncio, path, case):
    outcome_with(same_as_asyncio, "create_unix_connection", CONNECTIONS[case], path)


def test_hostname_that_is_no_text(loop, run, path):
    with pytest.raises(AssertionError):
        run(loop.create_unix_connection(Recorder, path, server_hostname=1))


def test_server_calls_nothing_that_is_only_asyncios_to_call(loop, run, path, monkeypatch):
    """What looks for blocking calls replaces these functions, and lets asyncio's own servers call them."""

    def guard(patch, name):
        function = getattr(os, name)

        def guarded(*args, **options):
            assert sys._getframe(1).f_code.co_filename == asyncio.unix_events.__file__
            return function(*args, **options)

        patch.setattr(os, name, guarded)

    async def scenario():
        server = await loop.create_unix_server(asyncio.Protocol, path)
        server.close()
        await server.wait_closed()

    with monkeypatch.context() as patch:
        guard(patch, "stat")
        guard(patch, "unlink")
        run(scenario())


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # asyncio's, of a path that is empty
@pytest.mark.parametrize("case", SERVERS)
def test_servers_that_cannot_be_made(same_as_asyncio, path, case):
    outcome_with(same_as_asyncio, "create_unix_server", SERVERS[case], path)


# -- the server's file ---------------------------------------------------------------------------------------------


def test_stale_socket_is_replaced(loop, run, path):
    with unix_socket() as stale:
        stale.bind(path)

    async def scenario():
        server = await loop.create_unix_server(Recorder, path)
        transport, _protocol = await loop.create_unix_connection(Recorder, path)
        await end(server, transport)
        return transport.get_extra_info("peername")

    assert run(scenario()) == path


def test_other_files_are_not_replaced(same_as_asyncio, path):
    with open(path, "w") as file:
        file.write("precious")

    async def scenario(loop):
        return await awaited_outcome(loop.create_unix_server(Recorder, path))

    outcome = same_as_asyncio(scenario).returned
    assert outcome[:2] == ("raised", OSError)
    assert outcome[2].endswith(f"Address {path!r} is already in use")
    with open(path) as file:
        assert file.read() == "precious"


def test_abstract_name_in_use(same_as_asyncio):
    name = f"\0zloop-{uuid.uuid4()}"

    async def scenario(loop):
        return await awaited_outcome(loop.create_unix_server(Recorder, name))

    with unix_socket() as taken:
        taken.bind(name)
        assert "already in use" in same_as_asyncio(scenario).returned[2]


def test_stale_socket_that_cannot_be_removed_is_reported(same_as_asyncio, path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "not here")

    with unix_socket() as stale:
        stale.bind(path)
    monkeypatch.setattr(os, "remove", refuse)

    async def scenario(loop):
        return await awaited_outcome(loop.create_unix_server(Recorder, path))

    outcome = same_as_asyncio(scenario)
    assert "already in use" in outcome.returned[2]
    assert "Unable to check or remove stale UNIX socket" in str(outcome.logged)


def file_after_closing(same_as_asyncio, path, meanwhile=lambda: None, **options):
    """What is at the path when a server there has been closed: the file's kind, or None."""

    async def scenario(loop):
        server = await loop.create_unix_server(Recorder, path, **options)
        assert stat.S_ISSOCK(os.stat(path).st_mode)
        meanwhile()
        await end(server)
        try:
            return stat.S_IFMT(os.stat(path).st_mode)
        except FileNotFoundError:
            return None
        finally:
            pathlib.Path(path).unlink(missing_ok=True)

    return same_as_asyncio(scenario)


def test_socket_file_after_closing(same_as_asyncio, path):
    assert file_after_closing(same_as_asyncio, path).returned == (None if HAS_CLEANUP else stat.S_IFSOCK)


@pytest.mark.skipif(not HAS_CLEANUP, reason="cleanup_socket is a keyword since 3.13")
@pytest.mark.parametrize("cleanup", [False, True])
def test_cleanup_is_a_choice(same_as_asyncio, path, cleanup):
    outcome = file_after_closing(same_as_asyncio, path, cleanup_socket=cleanup)
    assert outcome.returned == (None if cleanup else stat.S_IFSOCK)


def test_file_that_took_the_place_of_the_socket_stays(same_as_asyncio, path):
    def replace():
        pathlib.Path(path + ".new").write_text("another")  # made first, so that it has another inode
        os.replace(path + ".new", path)

    assert file_after_closing(same_as_asyncio, path, replace).returned == stat.S_IFREG


def test_socket_file_that_is_gone_already(same_as_asyncio, path):
    assert file_after_closing(same_as_asyncio, path, lambda: os.unlink(path)) == (None, None, "", [])


def test_socket_file_that_cannot_be_removed_is_reported(same_as_asyncio, path, monkeypatch):
    def refuse(path, **_options):
        raise PermissionError(13, "not here")

    async def scenario(loop):
        server = await loop.create_unix_server(Recorder, path)
        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", refuse)
            await end(server)
        return os.path.exists(path)

    outcome = same_as_asyncio(scenario)
    assert outcome.returned
    assert ("Unable to clean up" in str(outcome.logged)) == HAS_CLEANUP


def test_given_socket_is_cleaned_up_as_well(same_as_asyncio, path):
    async def scenario(loop):
        sock = unix_socket()
        sock.bind(path)
        server = await loop.create_unix_server(Recorder, sock=sock)
        await end(server)
        left = os.path.exists(path), sock.fileno()
        pathlib.Path(path).unlink(missing_ok=True)
        return left

    assert same_as_asyncio(scenario).returned == (not HAS_CLEANUP, -1)


@pytest.mark.zloop_only  # asyncio raises FileNotFoundError, from 3.13 on
def test_given_socket_whose_file_is_gone(loop, run, path):
    async def scenario():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        os.unlink(path)
        server = await loop.create_unix_server(Recorder, sock=sock)
        assert server.is_serving()
        server.close()
        await server.wait_closed()

    run(scenario())
