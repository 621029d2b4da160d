"""Connections: create_connection, happy eyeballs, and connect_accepted_socket."""

import asyncio
import contextvars
import errno
import gc
import socket
import sys
import weakref

import pytest
from server_support import needs_ipv6, protocol_that_must_not_be_made, tls_socket
from support import (
    LOCALHOST,
    Recorder,
    awaited_outcome,
    connection,
    descriptor_closed,
    listening_socket,
    refusing_port,
    several_turns,
    socket_pair,
    tcp_pair,
    until,
)

MARK = contextvars.ContextVar("MARK", default="unset")


HAS_ALL_ERRORS = sys.version_info >= (3, 12)


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
        await protocol.until(lambda: protocol.received)
        transport.abort()
        await until(lambda: descriptor_closed(transport))
        return protocol.received

    with socket_pair() as (left, right):
        assert run(scenario(left, right)) == b"hello"


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


@pytest.mark.zloop_only
@pytest.mark.skipif(sys.version_info < (3, 13, 4), reason="asyncio's staggered_race() holds it")
def test_race_that_fails_holds_no_exception(loop, run):
    """Nor does it without a GIL, where functions live until a collection."""

    async def scenario():
        connecting = loop.create_connection(Recorder, LOCALHOST, refusing_port(), happy_eyeballs_delay=0.1)
        try:
            await connecting
        except ConnectionRefusedError as refused:
            return weakref_of(refused)

    def weakref_of(error):
        marker = Marker()
        error.marker = marker
        return weakref.ref(marker)

    class Marker:
        pass

    gc.disable()
    try:
        assert run(scenario())() is None
    finally:
        gc.enable()


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


@pytest.mark.zloop_only  # asyncio has made the transport by then
@pytest.mark.parametrize("refused", ["connection_made", "_start_reading"])
def test_connection_that_a_loops_own_call_soon_refuses_is_closed(loop, refused):
    def call_soon(callback, *args, context=None):
        if getattr(callback, "__name__", None) == refused:
            raise RuntimeError("not now")
        return plain(callback, *args, context=context)

    plain, loop.call_soon = loop.call_soon, call_soon
    near, far = socket.socketpair()
    with far:
        protocol = Recorder()
        with pytest.raises(RuntimeError, match="not now"):
            loop.run_until_complete(loop.create_connection(lambda: protocol, sock=near))
        loop.run_until_complete(several_turns())
        assert protocol.calls == []
        assert near.fileno() == -1
        assert far.recv(1) == b""


@pytest.mark.zloop_only  # asyncio raises the error of close() in its place before CPython 3.12
def test_socket_that_is_not_even_closed_without_an_error(loop, run, monkeypatch):
    class Failing(socket.socket):
        def close(self):
            super().close()
            raise OSError(errno.EIO, "of close()")

    async def scenario():
        monkeypatch.setattr(socket, "socket", Failing)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, LOCALHOST, port)

    port = refusing_port()
    run(scenario())


@pytest.mark.zloop_only  # before CPython 3.13.1 asyncio looks for an error where there is none
def test_race_of_attempts_that_fail_by_no_error_of_the_system(loop, run):
    async def bogus(*_args, **_kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", "no address")] * 2

    loop.getaddrinfo = bogus
    with pytest.raises(TimeoutError if sys.version_info >= (3, 12) else OSError):
        run(loop.create_connection(Recorder, "any", 1, happy_eyeballs_delay=0.01))
