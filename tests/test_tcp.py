"""TCP connections and servers: create_connection, create_server, connect_accepted_socket, and Server itself."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import resource
import socket
import ssl
import struct
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import (
    LOCALHOST,
    Recorder,
    alike,
    awaited_outcome,
    connection,
    descriptor_closed,
    enable_debug,
    full_listener,
    info_of,
    listening_socket,
    outcome_of,
    refusing_port,
    run_script,
    several_turns,
    socket_pair,
    tcp_pair,
    until,
)

MARK = contextvars.ContextVar("MARK", default="unset")

HAS_ALL_ERRORS = sys.version_info >= (3, 12)
HAS_KEEP_ALIVE = HAS_CLOSE_CLIENTS = sys.version_info >= (3, 13)


def ipv6_works():
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not ipv6_works(), reason="this machine has no IPv6 loopback")


def protocol_that_must_not_be_made():
    raise AssertionError("no protocol is wanted")


def port_of(server):
    return server.sockets[0].getsockname()[1]


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


async def close_and_wait(server, *transports):
    """Close a server and these transports of its connections, and wait for their ends."""
    server.close()
    for transport in transports:
        transport.abort()
    await until(lambda: all(map(descriptor_closed, transports)))
    await server.wait_closed()


class ServerProtocols(list):
    """A protocol factory that keeps the protocols it makes."""

    def __call__(self):
        self.append(Recorder())
        return self[-1]

    async def until_connected(self, count):
        await until(lambda: sum("connection_made" in protocol.names() for protocol in self) >= count)


# -- create_connection ---------------------------------------------------------------------------------------------


def test_connection_is_made_before_it_is_returned(loop, run):
    async def scenario():
        async with connection(loop) as (transport, protocol, peer):
            assert protocol.calls == [("connection_made", transport)]
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            peer.send(b"hello")
            await protocol.until(lambda: protocol.received == b"hello")

    run(scenario())


@pytest.mark.parametrize("host", [LOCALHOST, "localhost", b"127.0.0.1"], ids=repr)
@pytest.mark.parametrize("port_kind", [int, str])
def test_hosts_and_ports(loop, run, host, port_kind):
    async def scenario(listener):
        port = port_kind(listener.getsockname()[1])
        transport, _protocol = await loop.create_connection(Recorder, host, port, family=socket.AF_INET)
        assert transport.get_extra_info("peername") == listener.getsockname()
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with listening_socket() as listener:
        run(scenario(listener))


def test_connection_over_a_given_socket(loop, run):
    async def scenario(left, right):
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        transport.write(b"hello")
        assert await loop.sock_recv(right, 100) == b"hello"
        transport.close()
        assert await protocol.until_called("connection_lost") is None
        await until(lambda: descriptor_closed(transport))
        assert left.fileno() == -1  # the transport took it over

    with tcp_pair() as (left, right):
        run(scenario(left, right))


def test_given_blocking_socket_is_made_non_blocking(loop, run):
    async def scenario(left):
        left.setblocking(True)
        transport, _protocol = await loop.create_connection(Recorder, sock=left)
        assert left.gettimeout() == 0
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with tcp_pair() as (left, _right):
        run(scenario(left))


def test_connection_over_a_unix_socket_pair(loop, run):
    async def scenario(left, right):
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        right.send(b"hello")
        await protocol.until(lambda: protocol.received == b"hello")
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with socket_pair() as (left, right):
        run(scenario(left, right))


def test_local_address(loop, run):
    async def scenario(listener):
        with socket.socket() as free:
            free.bind((LOCALHOST, 0))
            local = free.getsockname()
        transport, _protocol = await loop.create_connection(Recorder, *listener.getsockname(), local_addr=local)
        assert transport.get_extra_info("sockname") == local
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with listening_socket() as listener:
        run(scenario(listener))


def connection_outcome(**arguments):
    """A scenario that calls create_connection and lets it fail."""

    async def scenario(loop):
        made = {key: value() if callable(value) else value for key, value in arguments.items()}
        try:
            await loop.create_connection(protocol_that_must_not_be_made, **made)
        finally:
            if isinstance(made.get("sock"), socket.socket):
                made["sock"].close()

    return scenario


def tls_socket():
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(socket.socket(), server_hostname="example.org")


WRONG_CONNECTIONS = {
    "nothing": {},
    "host and socket": {"host": LOCALHOST, "port": 1, "sock": socket.socket},
    "port and socket": {"port": 1, "sock": socket.socket},
    "server_hostname": {"host": LOCALHOST, "port": 1, "server_hostname": "x"},
    "ssl without host": {"ssl": True},
    "ssl with a socket and no name": {"ssl": True, "sock": socket.socket},
    "ssl_handshake_timeout": {"host": LOCALHOST, "port": 1, "ssl_handshake_timeout": 1},
    "ssl_shutdown_timeout": {"host": LOCALHOST, "port": 1, "ssl_shutdown_timeout": 1},
    "datagram socket": {"sock": lambda: socket.socket(type=socket.SOCK_DGRAM)},
    "TLS socket": {"sock": tls_socket},
    "unknown name": {"host": "300.300.300.300", "port": 1, "flags": socket.AI_NUMERICHOST},
    "unknown service": {"host": LOCALHOST, "port": "no such service"},
    "wrong family": {"host": LOCALHOST, "port": 1, "family": socket.AF_INET6, "flags": socket.AI_NUMERICHOST},
    "unknown local name": {
        "host": LOCALHOST,
        "port": 1,
        "local_addr": ("300.300.300.300", 0),
        "flags": socket.AI_NUMERICHOST,
    },
    "foreign local address": {"host": LOCALHOST, "port": 9, "local_addr": ("192.0.2.1", 0)},
    "local address of another family": {"host": LOCALHOST, "port": 9, "local_addr": ("::1", 0)},
    "port too big": {"host": LOCALHOST, "port": 70_000},
    "refused": {"host": LOCALHOST, "port": refusing_port},
    "unknown keyword": {"no_such_keyword": 1},
}


@pytest.mark.parametrize("case", WRONG_CONNECTIONS)
def test_connections_that_cannot_be_made(same_as_asyncio, case):
    outcome = same_as_asyncio(connection_outcome(**WRONG_CONNECTIONS[case]))
    assert outcome.raised is not None
    assert outcome.raised is not AssertionError


def test_several_addresses_that_all_refuse(same_as_asyncio):
    async def scenario(loop):
        port = refusing_port()

        async def getaddrinfo(*_args, **_options):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{number}", port)) for number in (1, 2)]

        loop.getaddrinfo = getaddrinfo
        await loop.create_connection(protocol_that_must_not_be_made, "two.addresses", port)

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is OSError
    assert outcome.message.startswith("Multiple exceptions: ")


@pytest.mark.skipif(not HAS_ALL_ERRORS, reason="all_errors is new in 3.12")
def test_all_errors(same_as_asyncio):
    async def scenario(loop):
        port = refusing_port()

        async def getaddrinfo(*_args, **_options):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{number}", port)) for number in (1, 2)]

        loop.getaddrinfo = getaddrinfo
        try:
            await loop.create_connection(protocol_that_must_not_be_made, "two.addresses", port, all_errors=True)
        except ExceptionGroup as group:
            return str(group), [(type(exc), str(exc)) for exc in group.exceptions]

    message, exceptions = same_as_asyncio(scenario).returned
    assert message.startswith("create_connection failed")
    assert [kind for kind, _message in exceptions] == [ConnectionRefusedError] * 2


def test_no_addresses_at_all(same_as_asyncio):
    async def scenario(loop):
        async def getaddrinfo(*_args, **_options):
            return []

        loop.getaddrinfo = getaddrinfo
        await loop.create_connection(protocol_that_must_not_be_made, "nowhere", 80)

    assert same_as_asyncio(scenario) == (None, OSError, "getaddrinfo() returned empty list", [])


def test_second_address_is_tried_after_the_first(loop, run):
    async def scenario(listener):
        address = listener.getsockname()

        async def getaddrinfo(*_args, **_options):
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", address[1])),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", address),
            ]

        loop.getaddrinfo = getaddrinfo
        transport, _protocol = await loop.create_connection(Recorder, "two.addresses", address[1])
        assert transport.get_extra_info("peername") == address
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with listening_socket() as listener:
        run(scenario(listener))


def test_protocol_factory_that_fails(loop, run):
    def fail():
        raise LookupError("no protocol")

    async def scenario(left):
        with pytest.raises(LookupError, match="no protocol"):
            await loop.create_connection(fail, sock=left)
        if sys.version_info >= (3, 14):  # before, asyncio left it open
            assert left.fileno() == -1

    with tcp_pair() as (left, _right):
        run(scenario(left))


def test_failing_connection_made_is_reported(same_as_asyncio):
    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise LookupError("in connection_made")

    async def scenario(loop):
        async with connection(loop, Failing) as (_transport, protocol, peer):
            peer.send(b"hello")
            await protocol.until(lambda: protocol.received)
            return protocol.names()

    outcome = same_as_asyncio(scenario)
    assert outcome.returned == ["connection_made", "data_received"]
    assert len(outcome.logged) == 1


def test_transport_closed_in_connection_made(same_as_asyncio):
    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async def scenario(loop):
        async with connection(loop, Closing) as (transport, protocol, peer):
            peer.send(b"not read")
            await protocol.until_called("connection_lost")
            return protocol.names(), transport.is_closing(), protocol.calls[-1]

    assert same_as_asyncio(scenario).returned == (
        ["connection_made", "connection_lost"],
        True,
        ("connection_lost", None),
    )


def test_written_in_connection_made(loop, run):
    class Greeting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello ")
            transport.write(b"world")

    async def scenario():
        async with connection(loop, Greeting) as (_transport, _protocol, peer):
            assert await loop.sock_recv(peer, 100) == b"hello world"

    run(scenario())


def test_cancelled_connection_leaves_nothing(loop, run):
    """The leak guard sees to the descriptors, however far the connection had got."""

    async def scenario(listener):
        for turns in range(8):
            task = loop.create_task(loop.create_connection(Recorder, *listener.getsockname()))
            await several_turns(turns)
            cancelled = task.cancel()
            try:
                transport, _protocol = await task
            except asyncio.CancelledError:
                assert cancelled
            else:
                transport.abort()
                await until(lambda: descriptor_closed(transport))
            await several_turns()

    with listening_socket() as listener:
        run(scenario(listener))


def test_cancelled_connection_over_a_given_socket_closes_it_once(loop, run):
    async def scenario(left, right):
        task = loop.create_task(loop.create_connection(Recorder, sock=left))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await several_turns()
        assert left.fileno() == -1
        assert await loop.sock_recv(right, 1) == b""

    with tcp_pair() as (left, right):
        run(scenario(left, right))


@pytest.mark.skipif(sys.version_info < (3, 15), reason="connections capture a context since 3.15")
def test_protocol_runs_in_the_context_of_its_connection(loop, run):
    class Marked(Recorder):
        def note(self, *call):
            super().note(call[0], MARK.get())

    async def scenario():
        MARK.set("connecting")
        async with connection(loop, Marked) as (transport, protocol, peer):
            MARK.set("later")
            peer.send(b"hello")
            await protocol.until_called("data_received")
            transport.close()
            await protocol.until_called("connection_lost")
            return protocol.calls

    assert run(scenario()) == [
        ("connection_made", "connecting"),
        ("data_received", "connecting"),
        ("connection_lost", "connecting"),
    ]


# -- happy eyeballs ------------------------------------------------------------------------------------------------


@needs_ipv6
@pytest.mark.parametrize("interleave", [None, 1, 2])
@pytest.mark.parametrize("delay", [None, 0, 0.01, 10])
def test_happy_eyeballs_connects(loop, run, delay, interleave):
    """Of four addresses only the last one answers."""

    async def scenario(listener):
        port = listener.getsockname()[1]

        async def getaddrinfo(*_args, **_options):
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCALHOST, port)),
            ]

        loop.getaddrinfo = getaddrinfo
        transport, _protocol = await loop.create_connection(
            Recorder, "four.addresses", port, happy_eyeballs_delay=delay, interleave=interleave
        )
        assert transport.get_extra_info("peername") == (LOCALHOST, port)
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with listening_socket() as listener:
        run(scenario(listener))


def test_happy_eyeballs_does_not_wait_for_a_silent_address(loop, run):
    """The first attempt never ends; the second starts after the delay, and wins."""

    async def scenario(listener):
        port = listener.getsockname()[1]
        tried = []

        async def getaddrinfo(*_args, **_options):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{number}", port)) for number in (9, 1)]

        original = loop.sock_connect

        async def sock_connect(sock, address):
            tried.append(address[0])
            if address[0] == "127.0.0.9":
                await asyncio.sleep(3600)
            await original(sock, address)

        loop.getaddrinfo, loop.sock_connect = getaddrinfo, sock_connect
        transport, _protocol = await loop.create_connection(Recorder, "two.addresses", port, happy_eyeballs_delay=0.005)
        assert tried == ["127.0.0.9", "127.0.0.1"]
        transport.abort()
        await until(lambda: descriptor_closed(transport))
        await several_turns()

    with listening_socket() as listener:
        run(scenario(listener))


@pytest.mark.parametrize("interleave", [None, -1, 1, 2, 3])
def test_order_in_which_addresses_are_tried(same_as_asyncio, interleave):
    async def scenario(loop):
        tried = []

        async def getaddrinfo(*_args, **_options):
            families = [socket.AF_INET6] * 3 + [socket.AF_INET] * 2
            return [
                (family, socket.SOCK_STREAM, 6, "", (f"address {number}", 1)) for number, family in enumerate(families)
            ]

        async def sock_connect(_sock, address):
            tried.append(address[0])
            raise OSError(errno.EHOSTUNREACH, f"no way to {address[0]}")

        loop.getaddrinfo, loop.sock_connect = getaddrinfo, sock_connect
        outcome = await awaited_outcome(
            loop.create_connection(protocol_that_must_not_be_made, "five.addresses", 1, interleave=interleave)
        )
        return tried, outcome

    tried, _outcome = same_as_asyncio(scenario).returned
    assert sorted(tried) == [f"address {number}" for number in range(5)]


# -- connect_accepted_socket ---------------------------------------------------------------------------------------


def test_accepted_socket_becomes_a_transport(loop, run):
    async def scenario(left, right):
        transport, protocol = await loop.connect_accepted_socket(Recorder, left)
        assert protocol.names() == ["connection_made"]
        assert transport.get_extra_info("peername") == right.getsockname()
        right.send(b"hello")
        await protocol.until(lambda: protocol.received == b"hello")
        transport.close()
        await protocol.until_called("connection_lost")
        await until(lambda: descriptor_closed(transport))

    with tcp_pair() as (left, right):
        run(scenario(left, right))


WRONG_ACCEPTED = {
    "datagram socket": (lambda: socket.socket(type=socket.SOCK_DGRAM), {}),
    "TLS socket": (tls_socket, {}),
    "ssl_handshake_timeout": (socket.socket, {"ssl_handshake_timeout": 1}),
    "ssl_shutdown_timeout": (socket.socket, {"ssl_shutdown_timeout": 1}),
}


@pytest.mark.parametrize("case", WRONG_ACCEPTED)
def test_accepted_sockets_that_will_not_do(same_as_asyncio, case):
    make_socket, options = WRONG_ACCEPTED[case]

    async def scenario(loop):
        with make_socket() as sock:
            await loop.connect_accepted_socket(protocol_that_must_not_be_made, sock, **options)

    assert same_as_asyncio(scenario).raised in (ValueError, TypeError)


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


# -- Server --------------------------------------------------------------------------------------------------------


def test_server_can_be_referenced_weakly_and_takes_no_part_in_leaks(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        assert weakref.ref(server)() is server
        assert isinstance(server, asyncio.AbstractServer)
        await close_and_wait(server)

    run(scenario())


def test_sockets_of_a_server(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        sockets = server.sockets
        assert isinstance(sockets, tuple)
        assert [type(sock) for sock in sockets] == [asyncio.trsock.TransportSocket]
        await close_and_wait(server)
        return server.sockets

    assert run(scenario()) == ()


def test_repr_of_a_server(same_as_asyncio):
    async def scenario(loop):
        server = await loop.create_server(Echo, LOCALHOST, 0)
        told = [alike(repr(server))]
        await close_and_wait(server)
        return [*told, alike(repr(server)), info_of(server)]

    assert same_as_asyncio(scenario).returned[1] == "<Server sockets=()>"


def test_tls_context_is_asked_of_servers_by_test_helpers(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        context = server._ssl_context
        await close_and_wait(server)
        return context

    assert run(scenario()) is None


def test_closing_a_server_refuses_new_connections_and_keeps_the_old(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        port = port_of(server)
        transport, protocol = await loop.create_connection(Recorder, LOCALHOST, port)
        transport.write(b"before")
        await protocol.until(lambda: protocol.received == b"before")
        server.close()
        server.close()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, LOCALHOST, port)
        transport.write(b" after")
        await protocol.until(lambda: protocol.received == b"before after")
        await close_and_wait(server, transport)

    run(scenario())


def test_wait_closed_waits_as_the_versions_does(same_as_asyncio):
    """Since 3.12.1 it waits for the connections, too."""

    async def scenario(loop):
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        with socket.create_connection((LOCALHOST, port_of(server))):
            await protocols.until_connected(1)
            early = loop.create_task(server.wait_closed())
            await several_turns()
            states = [early.done()]
            server.close()
            late = loop.create_task(server.wait_closed())
            await several_turns()
            states += [early.done(), late.done()]
            protocols[0].transport.close()
            await protocols[0].until_called("connection_lost")
            await asyncio.gather(early, late)
        return states

    assert same_as_asyncio(scenario).raised is None


def test_server_as_a_context_manager(loop, run):
    async def scenario():
        async with await loop.create_server(Echo, LOCALHOST, 0) as server:
            assert server.is_serving()
        assert not server.is_serving()
        assert server.sockets == ()

    run(scenario())


def test_serve_forever_until_cancelled(loop, run):
    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0, start_serving=False)
        task = loop.create_task(server.serve_forever())
        await until(server.is_serving)
        with socket.create_connection((LOCALHOST, port_of(server))) as client:
            client.setblocking(False)
            await protocols.until_connected(1)
            task.cancel()
            # 3.12 and 3.13 wait for clients that nobody closes, 3.14 closes them
            if sys.version_info < (3, 14):
                await several_turns()
                protocols[0].transport.close()
            with pytest.raises(asyncio.CancelledError):
                await task
            await protocols[0].until_called("connection_lost")
            assert await loop.sock_recv(client, 1) == b""
        assert not server.is_serving()
        await server.wait_closed()

    run(scenario())


def test_serve_forever_ends_when_the_server_is_closed(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        task = loop.create_task(server.serve_forever())
        await several_turns()
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario())


def test_serve_forever_where_it_makes_no_sense(same_as_asyncio):
    async def scenario(loop):
        server = await loop.create_server(Echo, LOCALHOST, 0)
        task = loop.create_task(server.serve_forever())
        await several_turns()
        twice = await awaited_outcome(server.serve_forever())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return twice, await awaited_outcome(server.serve_forever())

    assert {outcome[1] for outcome in same_as_asyncio(scenario).returned} == {RuntimeError}


@pytest.fixture(params=["127.0.0.1", pytest.param("::1", marks=needs_ipv6), "unix"])
def listener(request, tmp_path):
    """A listening socket of each family whose addresses the loop knows."""
    unix = request.param == "unix"
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET6 if ":" in request.param else socket.AF_INET) as sock:
        sock.bind(str(tmp_path / "listener") if unix else (request.param, 0))
        sock.listen()
        yield sock


async def accepted_transport(loop, listener, bound_to=None):
    """The server, its side of a connection, and the client's socket."""
    protocols = ServerProtocols()
    server = await loop.create_server(protocols, sock=listener)
    client = socket.socket(listener.family)
    if bound_to is not None:
        client.bind(bound_to)
    client.connect(listener.getsockname())
    await protocols.until_connected(1)
    return server, protocols[0], client


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("name", ["socket", "peername", "sockname", "sslcontext"])
@pytest.mark.parametrize("asked", ["open", "closed", "both"])
def test_what_a_server_knows_of_a_connection(loop, run, listener, name, asked, reset):
    """The answer is the same whenever it is asked for, and for the first time."""

    async def scenario():
        server, protocol, client = await accepted_transport(loop, listener)
        expected = {"peername": client.getsockname(), "sockname": client.getpeername(), "sslcontext": None}
        transport, answers = protocol.transport, []
        if reset and listener.family != socket.AF_UNIX:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if asked != "closed":
            answers.append(transport.get_extra_info(name))
        client.close()
        await protocol.until_called("connection_lost")
        if asked != "open":
            answers.append(transport.get_extra_info(name))
        await close_and_wait(server)
        for answer in answers:
            if name == "socket":
                assert (answer.family, answer.type, answer.fileno()) == (listener.family, listener.type, -1)
            else:
                assert answer == expected[name]

    run(scenario())


def test_names_of_a_client_that_is_bound_to_a_long_path(loop, run, listener, tmp_path):
    if listener.family != socket.AF_UNIX:
        pytest.skip("internet addresses have one length")
    path = str(tmp_path / "client")

    async def scenario():
        server, protocol, client = await accepted_transport(loop, listener, path)
        client.close()
        await protocol.until_called("connection_lost")
        await close_and_wait(server)
        return protocol.transport.get_extra_info("peername")

    assert run(scenario()) == path


def test_everything_a_server_knows_of_a_connection(loop, run, listener):
    """Some programs go past get_extra_info()."""

    async def scenario():
        server, protocol, client = await accepted_transport(loop, listener)
        extra = protocol.transport._extra
        assert sorted(extra) == ["peername", "socket", "sockname"]
        assert extra["socket"].fileno() >= 0
        extra["mine"] = 1
        assert protocol.transport.get_extra_info("mine") == 1
        client.close()
        await protocol.until_called("connection_lost")
        await close_and_wait(server)

    run(scenario())


@pytest.mark.zloop_only  # asyncio makes one at once
def test_accepted_connections_need_no_socket_object(loop, run, listener, monkeypatch):
    """It is made for who asks."""
    made = []

    class CountedSocket(socket.socket):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    async def scenario():
        monkeypatch.setattr(socket, "socket", CountedSocket)
        server, protocol, client = await accepted_transport(loop, listener)
        transport = protocol.transport
        with client:
            client.send(b"x")
            await protocol.until(lambda: protocol.received == b"x")
            assert transport.get_extra_info("peername") == client.getsockname()
            assert made == [client]
            assert transport.get_extra_info("socket").fileno() == made[1].fileno() >= 0
            assert transport.get_extra_info("socket") is transport.get_extra_info("socket")
        await protocol.until_called("connection_lost")
        await close_and_wait(server)
        assert len(made) == 2
        assert made[1].fileno() == -1

    run(scenario())


@pytest.mark.zloop_only  # asyncio keeps the one that connected
def test_connections_made_need_no_socket_object(loop, run, monkeypatch):
    """The object that connected gives its descriptor away; another one is made for who asks."""
    made = []
    plain = socket.socket.__init__

    def note(self, *args, **kwargs):
        plain(self, *args, **kwargs)
        made.append(self)

    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        address = server.sockets[0].getsockname()
        monkeypatch.setattr(socket.socket, "__init__", note)
        transport, protocol = await loop.create_connection(Recorder, *address)
        await protocols.until_connected(1)
        accepted = protocols[0].transport
        accepted.write(b"x")
        await protocol.until(lambda: protocol.received == b"x")
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("sockname") == accepted.get_extra_info("peername")
        assert [each.fileno() for each in made] == [-1]
        assert transport.get_extra_info("socket").fileno() == made[1].fileno() >= 0
        assert made[1].gettimeout() == 0
        await close_and_wait(server, transport)
        assert len(made) == 2
        assert made[1].fileno() == -1

    run(scenario())


@pytest.mark.zloop_only  # asyncio connects with one
@pytest.mark.parametrize("watched", [None, "class", "__init__", "connect"])
def test_socket_object_to_connect_with_is_for_who_could_miss_it(loop, run, monkeypatch, watched):
    class Watching(socket.socket):
        pass

    def objects():
        return {id(each) for each in gc.get_objects() if isinstance(each, socket.socket) and each.fileno() >= 0}

    async def scenario(listener):
        before = objects()
        if watched == "class":
            monkeypatch.setattr(socket, "socket", Watching)
        elif watched is not None:
            plain = getattr(socket.socket, watched)

            def watching(*args, **kwargs):
                plain(*args, **kwargs)

            monkeypatch.setattr(socket.socket, watched, watching)
        found = []

        def factory():
            found.extend(objects() - before)
            return Recorder()

        transport, _protocol = await loop.create_connection(factory, *listener.getsockname())
        assert len(found) == (0 if watched is None else 1)
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with listening_socket() as listener:
        run(scenario(listener))


def test_connection_neither_blocks_nor_outlives_an_exec(loop, run):
    async def scenario(listener):
        transport, _protocol = await loop.create_connection(Recorder, *listener.getsockname())
        sock = transport.get_extra_info("socket")
        assert not os.get_blocking(sock.fileno())
        assert not os.get_inheritable(sock.fileno())
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        transport.abort()
        await until(lambda: descriptor_closed(transport))

    with listening_socket() as listener:
        run(scenario(listener))


def test_auditors_are_told_of_connections(loop_kind):
    script = """
import asyncio, socket, sys
async def main(loop):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sys.addaudithook(tell)
        transport, _ = await loop.create_connection(asyncio.Protocol, *listener.getsockname())
        transport.abort()
        await asyncio.sleep(0)
def tell(event, arguments):
    if event in ("socket.__new__", "socket.connect"):
        print(event, isinstance(arguments[0], socket.socket), arguments[1] if event == "socket.__new__" else "")
loop = new_event_loop()
loop.run_until_complete(main(loop))
loop.close()
"""
    lines = run_script(loop_kind, script)
    assert [line.split()[:2] for line in lines[:2]] == [["socket.__new__", "True"], ["socket.connect", "True"]]


def test_cancelled_while_the_kernel_connects(loop, run):
    """The leak guard looks for the descriptor."""

    async def scenario(address):
        task = loop.create_task(loop.create_connection(protocol_that_must_not_be_made, *address))
        await several_turns()
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with full_listener() as listener:
        run(scenario(listener.getsockname()))


def test_connection_that_takes_the_kernel_a_while(loop, run):
    """It asks again after a second (RFC 6298)."""

    async def scenario(listener):
        task = loop.create_task(loop.create_connection(Recorder, *listener.getsockname()))
        await several_turns()
        assert not task.done()
        with contextlib.ExitStack() as stack:
            loop.add_reader(listener, lambda: stack.enter_context(listener.accept()[0]))
            transport, _protocol = await task
            loop.remove_reader(listener)
            assert transport.get_extra_info("peername") == listener.getsockname()
            transport.abort()
            await until(lambda: descriptor_closed(transport))

    with full_listener() as listener:
        run(scenario(listener))


def test_peer_that_is_gone_before_the_transport_is_made(same_as_asyncio):
    async def scenario(loop):
        with listening_socket() as listener:
            plain = loop.sock_connect

            async def sock_connect(sock, address):
                await plain(sock, address)
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()
                await until(lambda: outcome_of(sock.getpeername)[0] == "raised")

            loop.sock_connect = sock_connect
            transport, protocol = await loop.create_connection(Recorder, *listener.getsockname())
            lost = await protocol.until_called("connection_lost")
            return transport.get_extra_info("peername"), protocol.names(), lost

    assert same_as_asyncio(scenario).returned[0] is None


def test_half_closing_an_accepted_connection(loop, run, listener):
    async def scenario():
        server, protocol, client = await accepted_transport(loop, listener)
        with client:
            protocol.transport.write(b"the end")
            protocol.transport.write_eof()
            client.settimeout(5)
            assert client.recv(100) == b"the end"
            assert client.recv(100) == b""
        await protocol.until_called("connection_lost")
        await close_and_wait(server)

    run(scenario())


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="new in 3.13")
@pytest.mark.parametrize("method", ["close_clients", "abort_clients"])
def test_closing_the_clients_of_a_server(loop, run, method):
    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        clients = [socket.create_connection((LOCALHOST, port_of(server))) for _ in range(3)]
        await protocols.until_connected(3)
        getattr(server, method)()
        assert all(protocol.transport.is_closing() for protocol in protocols)
        for protocol in protocols:
            assert await protocol.until_called("connection_lost") is None
        assert server.is_serving()
        for client in clients:
            client.close()
        await close_and_wait(server)

    run(scenario())


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="new in 3.13")
def test_server_knows_its_clients_as_long_as_they_are_there(loop, run):
    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        clients = [socket.create_connection((LOCALHOST, port_of(server))) for _ in range(2)]
        await protocols.until_connected(2)
        transports = [protocol.transport for protocol in protocols]
        assert set(server._clients) == set(server._clients.copy()) == set(transports)
        for client in clients:
            client.close()
        for protocol in protocols:
            await protocol.until_called("connection_lost")
        assert len(server._clients) == 0
        assert transports[0] not in server._clients
        await close_and_wait(server)

    run(scenario())


@pytest.mark.skipif(not HAS_CLOSE_CLIENTS, reason="new in 3.13")
def test_close_clients_flushes_and_abort_clients_does_not(loop, run):
    async def scenario(method):
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((LOCALHOST, port_of(server)))
            client.setblocking(False)
            await protocols.until_connected(1)
            protocols[0].transport.write(b"x" * (8 << 20))
            getattr(server, method)()
            received = 0
            while chunk := await loop.sock_recv(client, 1 << 20):
                received += len(chunk)
            await protocols[0].until_called("connection_lost")
        await close_and_wait(server)
        return received

    assert run(scenario("close_clients")) == 8 << 20
    assert run(scenario("abort_clients")) < 8 << 20


def test_closing_the_loop_with_a_server_and_its_connections(make_loop):
    """Nothing is told to anybody any more, and no descriptor stays."""
    loop = make_loop()
    protocols = ServerProtocols()

    async def scenario():
        server = await loop.create_server(protocols, LOCALHOST, 0)
        client = socket.create_connection((LOCALHOST, port_of(server)))
        await protocols.until_connected(1)
        await close_and_wait(server, protocols[0].transport)
        return client

    with loop.run_until_complete(scenario()):
        loop.close()
    assert protocols[0].names() == ["connection_made", "connection_lost"]


def test_connection_between_two_loops(make_loop):
    """A server on one loop, its client on another in a thread of its own."""
    serving, connecting = make_loop(), make_loop()

    async def connect(port):
        transport, protocol = await connecting.create_connection(Recorder, LOCALHOST, port)
        transport.write(b"across")
        await protocol.until(lambda: protocol.received == b"across")
        transport.close()
        await protocol.until_called("connection_lost")
        return protocol.received

    async def serve():
        server = await serving.create_server(Echo, LOCALHOST, 0)
        received = await serving.run_in_executor(pool, connecting.run_until_complete, connect(port_of(server)))
        server.close()
        await server.wait_closed()
        return received

    with ThreadPoolExecutor(1) as pool:
        assert serving.run_until_complete(serve()) == b"across"


def test_nodelay_is_set_on_both_sides(loop, run):
    async def scenario():
        protocols = ServerProtocols()
        server = await loop.create_server(protocols, LOCALHOST, 0)
        transport, _protocol = await loop.create_connection(Recorder, LOCALHOST, port_of(server))
        await protocols.until_connected(1)
        transports = [transport, protocols[0].transport]
        options = [
            each.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for each in transports
        ]
        await close_and_wait(server, *transports)
        return options

    assert [bool(option) for option in run(scenario())] == [True, True]


def test_ssl_module_is_not_needed_to_ask_for_none(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0, ssl=None)
        transport, _protocol = await loop.create_connection(
            Recorder, LOCALHOST, port_of(server), ssl=None, server_hostname=None
        )
        await close_and_wait(server, transport)
        return outcome_of(server.close)

    assert run(scenario()) == ("returned", None)
