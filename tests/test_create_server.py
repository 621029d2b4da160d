"""create_server: hosts, ports and sockets, what it refuses, and what is accepted."""

import asyncio
import contextvars
import errno
import resource
import socket
import sys

import pytest
from server_support import Echo, ServerProtocols, close_and_wait, needs_ipv6, protocol_that_must_not_be_made, tls_socket
from support import (
    LOCALHOST,
    Recorder,
    enable_debug,
    listening_socket,
    port_of,
    several_turns,
    until,
)

MARK = contextvars.ContextVar("MARK", default="unset")


HAS_KEEP_ALIVE = sys.version_info >= (3, 13)


# -- create_server -------------------------------------------------------------------------------------------------


def test_server_serves(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        assert server.is_serving()
        assert server.get_loop() is loop
        transport, protocol = await loop.create_connection(Recorder, LOCALHOST, port_of(server))
        transport.write(b"hello")
        await protocol.until(lambda: protocol.received == b"hello")
        await close_and_wait(server, transport)

    run(scenario())


def test_many_connections_at_once(loop, run):
    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0, backlog=200)
        connections = await asyncio.gather(
            *(loop.create_connection(Recorder, LOCALHOST, port_of(server)) for _ in range(150))
        )
        await protocols.until_connected(150)
        names = {transport.get_extra_info("sockname") for transport, _protocol in connections}
        peers = {protocol.transport.get_extra_info("peername") for protocol in protocols}
        assert names == peers
        transports = [transport for transport, _protocol in connections] + [
            protocol.transport for protocol in protocols
        ]
        await close_and_wait(server, *transports)
        assert all(protocol.names().count("connection_lost") == 1 for protocol in protocols)

    run(scenario())


def test_accepted_connection_is_a_transport_like_any(loop, run):
    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        with socket.create_connection((LOCALHOST, port_of(server))) as client:
            await protocols.until_connected(1)
            transport = protocols[0].transport
            assert isinstance(transport, asyncio.Transport)
            assert transport.get_extra_info("peername") == client.getsockname()
            assert transport.get_extra_info("sockname") == client.getpeername()
            client.send(b"hello")
            await protocols[0].until(lambda: protocols[0].received == b"hello")
        await protocols[0].until_called("connection_lost")
        await close_and_wait(server, transport)

    run(scenario())


def test_sockets_of_a_replaced_class_on_both_ends(loop, run, monkeypatch):
    """As proxies do it: everybody's socket.socket is theirs, and knows plain types only."""

    class Replaced(socket.socket):
        def __init__(self, family=socket.AF_INET, type=socket.SOCK_STREAM, proto=0, fileno=None):
            assert type == socket.SOCK_STREAM
            super().__init__(family, type, proto, fileno)

    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        client, _protocol = await loop.create_connection(Recorder, *server.sockets[0].getsockname())
        await protocols.until_connected(1)
        ends = [client, protocols[0].transport]
        for transport in ends:
            assert type(transport.get_extra_info("socket")._sock) is Replaced
            assert transport.get_extra_info("socket").gettimeout() == 0
        await close_and_wait(server, *ends)

    monkeypatch.setattr(socket, "socket", Replaced)
    run(scenario())


@needs_ipv6
def test_server_on_every_interface(loop, run):
    async def scenario(host):
        server = await loop.create_server(Echo, host, 0)
        families = {sock.family for sock in server.sockets}
        await close_and_wait(server)
        return families

    assert run(scenario(None)) == run(scenario("")) == {socket.AF_INET, socket.AF_INET6}


@needs_ipv6
def test_server_on_several_hosts(loop, run):
    async def scenario():
        with socket.socket() as free:
            free.bind((LOCALHOST, 0))
            port = free.getsockname()[1]
        server = await loop.create_server(Echo, [LOCALHOST, "::1", LOCALHOST, "127.0.0.1"], port)
        addresses = sorted(sock.getsockname()[:2] for sock in server.sockets)
        await close_and_wait(server)
        return addresses, port

    addresses, port = run(scenario())
    assert addresses == [(LOCALHOST, port), ("::1", port)]


@needs_ipv6
def test_ipv6_server_leaves_ipv4_alone(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, "::1", 0)
        option = server.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        await close_and_wait(server)
        return option

    assert run(scenario()) == 1


def test_server_on_a_given_socket(loop, run):
    async def scenario():
        sock = socket.socket()
        sock.bind((LOCALHOST, 0))
        server = await loop.create_server(Echo, sock=sock)
        assert sock.gettimeout() == 0
        transport, _protocol = await loop.create_connection(Recorder, *sock.getsockname())
        await close_and_wait(server, transport)
        assert sock.fileno() == -1

    run(scenario())


@pytest.mark.parametrize(
    "options",
    [
        {},
        *({"reuse_address": value} for value in (True, False, 1, 0, None, "", "yes")),
        *({"reuse_port": value} for value in (True, 1, 0, None)),
    ],
    ids=repr,
)
def test_options_of_listening_sockets(same_as_asyncio, options):
    async def scenario(loop):
        server = await loop.create_server(Echo, LOCALHOST, 0, **options)
        sock = server.sockets[0]
        values = [
            sock.getsockopt(socket.SOL_SOCKET, option)
            for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT, socket.SO_KEEPALIVE, socket.SO_ACCEPTCONN)
        ]
        await close_and_wait(server)
        return values

    assert same_as_asyncio(scenario).returned[3] == 1


@pytest.mark.skipif(not HAS_KEEP_ALIVE, reason="keep_alive is new in 3.13")
@pytest.mark.parametrize("keep_alive", [None, False, True])
def test_keep_alive(loop, run, keep_alive):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0, keep_alive=keep_alive)
        value = server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        await close_and_wait(server)
        return value

    assert run(scenario()) == bool(keep_alive)


def server_outcome(**arguments):
    """A scenario that calls create_server and lets it fail."""

    async def scenario(loop):
        made = {key: value() if callable(value) else value for key, value in arguments.items()}
        try:
            await loop.create_server(protocol_that_must_not_be_made, **made)
        finally:
            if isinstance(made.get("sock"), socket.socket):
                made["sock"].close()

    return scenario


WRONG_SERVERS = {
    "nothing": {},
    "host and socket": {"host": LOCALHOST, "port": 1, "sock": socket.socket},
    "port and socket": {"port": 1, "sock": socket.socket},
    "ssl is True": {"host": LOCALHOST, "port": 0, "ssl": True},
    "ssl is False": {"host": LOCALHOST, "port": 0, "ssl": False},
    "ssl_handshake_timeout": {"host": LOCALHOST, "port": 0, "ssl_handshake_timeout": 1},
    "ssl_shutdown_timeout": {"host": LOCALHOST, "port": 0, "ssl_shutdown_timeout": 1},
    "datagram socket": {"sock": lambda: socket.socket(type=socket.SOCK_DGRAM)},
    "TLS socket": {"sock": tls_socket},
    "foreign address": {"host": "192.0.2.1", "port": 0},
    "unknown name": {"host": "300.300.300.300", "port": 0, "flags": socket.AI_NUMERICHOST},
    "port too big": {"host": LOCALHOST, "port": 70_000},
    "unknown keyword": {"no_such_keyword": 1},
}


@pytest.mark.parametrize("case", WRONG_SERVERS)
def test_servers_that_cannot_be_made(same_as_asyncio, case):
    outcome = same_as_asyncio(server_outcome(**WRONG_SERVERS[case]))
    assert outcome.raised is not None
    assert outcome.raised is not AssertionError


def test_port_that_is_taken(same_as_asyncio):
    async def scenario(loop):
        with listening_socket() as listener:
            await loop.create_server(protocol_that_must_not_be_made, *listener.getsockname())

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is OSError
    assert "error while attempting to bind on address" in outcome.message


def test_server_that_does_not_serve_yet(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0, start_serving=False)
        assert not server.is_serving()
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving()
        transport, _protocol = await loop.create_connection(Recorder, LOCALHOST, port_of(server))
        await close_and_wait(server, transport)
        assert not server.is_serving()

    run(scenario())


@pytest.mark.zloop_only  # asyncio leaves the socket to the garbage collector
def test_server_side_factory_that_fails(loop, run, unhandled):
    """The connection is closed, the server goes on, and debug mode tells of it."""
    made = []

    def factory():
        made.append(Recorder())
        if len(made) == 1:
            raise LookupError("no protocol")
        return made[-1]

    async def scenario():
        enable_debug(loop)
        server = await loop.create_server(factory, LOCALHOST, 0)
        with socket.create_connection((LOCALHOST, port_of(server))) as client:
            client.setblocking(False)
            assert await loop.sock_recv(client, 1) == b""
        with socket.create_connection((LOCALHOST, port_of(server))):
            await until(lambda: len(made) == 2)
            await made[1].until_called("connection_made")
            await close_and_wait(server, made[1].transport)

    run(scenario())
    assert unhandled[0]["message"] == "Error on transport creation for incoming connection"
    assert isinstance(unhandled[0]["exception"], LookupError)


def test_running_out_of_descriptors_is_survived(loop, run, unhandled):
    """The server tells of it, waits, and then accepts what had to wait."""

    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        client = socket.socket()
        client.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
        try:
            client.connect_ex((LOCALHOST, port_of(server)))
            await until(lambda: unhandled)
            reports = len(unhandled)
            await several_turns(20)
            assert len(unhandled) == reports, "the server spins"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await protocols.until_connected(1)
        client.close()
        await close_and_wait(server, protocols[0].transport)

    run(scenario())
    assert unhandled[0]["message"] == "socket.accept() out of system resource"
    assert unhandled[0]["exception"].errno == errno.EMFILE


def test_accept_callbacks_get_the_context_of_the_version(same_as_asyncio):
    """Up to 3.14 that of whatever ran last, since 3.15 a copy of the server's for each connection."""

    class Marked(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.mark = MARK.get()
            MARK.set("left by another connection")

    async def scenario(loop):
        protocols = []

        def factory():
            protocols.append(Marked())
            return protocols[-1]

        MARK.set("server")
        server = await loop.create_server(factory, LOCALHOST, 0)
        MARK.set("later")
        for count in (1, 2):
            transport, _protocol = await loop.create_connection(asyncio.Protocol, LOCALHOST, port_of(server))
            await until(lambda count=count: len(protocols) == count and hasattr(protocols[-1], "mark"))
            transport.abort()
            await protocols[-1].until_called("connection_lost")
        await close_and_wait(server)
        return [protocol.mark for protocol in protocols]

    assert same_as_asyncio(scenario).returned[0] == "server"
