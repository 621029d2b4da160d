"""Datagram endpoints: what they are, making them, unix sockets, and other families."""

import asyncio
import os
import socket
import struct
import sys
import weakref

import pytest
from datagram_support import (
    Recorder,
    address_of,
    counts_right,
    endpoint,
    unix_endpoints,
)
from support import (
    LOCALHOST,
    alike,
    awaited_outcome,
    descriptor_closed,
    info_of,
    outcome_of,
    several_turns,
    udp_socket,
    until,
)

# -- what an endpoint is -------------------------------------------------------------------------------------------


def test_transport_is_asyncios(loop, run):
    async def scenario():
        async with endpoint(loop) as (transport, protocol):
            assert isinstance(transport, asyncio.Transport)
            if sys.version_info >= (3, 12):  # before it, asyncio's own was none
                assert isinstance(transport, asyncio.DatagramTransport)
            assert weakref.ref(transport)() is transport
            transport.attribute = "anything"
            assert transport.attribute == "anything"
            assert transport.get_protocol() is protocol
            other = Recorder()
            transport.set_protocol(other)
            assert transport.get_protocol() is other

    run(scenario())


@pytest.mark.zloop_only
def test_transport_is_a_datagram_transport_on_every_python(loop, run):
    async def scenario():
        async with endpoint(loop) as (transport, _protocol):
            assert isinstance(transport, asyncio.DatagramTransport)
            assert not isinstance(loop, type(transport))
            with pytest.raises(TypeError, match="made by an event loop"):
                type(transport)()

    run(scenario())


def test_extra_info(same_as_asyncio):
    async def scenario(loop):
        with udp_socket() as peer:
            async with endpoint(loop, remote_addr=peer.getsockname()) as (transport, _protocol):
                sock = transport.get_extra_info("socket")
                told = [
                    type(sock),
                    sock.type,
                    sock.gettimeout(),
                    transport.get_extra_info("peername") == peer.getsockname(),
                    transport.get_extra_info("sockname") == sock.getsockname(),
                    transport.get_extra_info("no such key", "default"),
                ]
            return [*told, transport.get_extra_info("peername") == peer.getsockname()]

    assert same_as_asyncio(scenario).returned[0] is asyncio.trsock.TransportSocket


STATES = {
    "open": lambda transport: None,
    "paused": lambda transport: transport.pause_reading(),
    "resumed": lambda transport: (transport.pause_reading(), transport.resume_reading()),
    "closing": lambda transport: transport.close(),
    "aborted": lambda transport: transport.abort(),
}


@pytest.mark.parametrize("state", STATES)
def test_repr_and_state(same_as_asyncio, state):
    async def scenario(loop):
        async with endpoint(loop) as (transport, _protocol):
            await several_turns()
            told = []
            STATES[state](transport)
            for _ in range(2):
                told += [info_of(transport), transport.is_closing(), transport.is_reading()]
                await several_turns()
            return told

    assert same_as_asyncio(scenario).raised is None


def test_connection_made_comes_before_the_endpoint_is_returned(loop, run):
    async def scenario():
        async with endpoint(loop) as (transport, protocol):
            assert protocol.calls == [("connection_made", transport)]

    run(scenario())


# -- making one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [LOCALHOST, "::1", "localhost"])
def test_datagrams_go_both_ways(loop, run, host):
    async def scenario():
        async with (
            endpoint(loop, local_addr=(host, 0)) as (server, server_protocol),
            endpoint(loop, remote_addr=address_of(server)[:2]) as (client, client_protocol),
        ):
            client.sendto(b"ping")
            await server_protocol.until(lambda: server_protocol.received)
            [(_, data, sender)] = server_protocol.calls[1:]
            assert (data, sender) == (b"ping", address_of(client))
            server.sendto(b"pong", sender)
            await client_protocol.until(lambda: client_protocol.received)
            assert client_protocol.calls[1:] == [("datagram_received", b"pong", address_of(server))]

    run(scenario())


def test_family_alone_makes_a_socket(loop, run):
    async def scenario():
        with udp_socket() as peer:
            async with endpoint(loop, family=socket.AF_INET) as (transport, _protocol):
                assert transport.get_extra_info("peername") is None
                transport.sendto(b"hello", peer.getsockname())
                assert await loop.sock_recv(peer, 100) == b"hello"

    run(scenario())


def test_given_socket_is_used(loop, run):
    async def scenario():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((LOCALHOST, 0))
        async with endpoint(loop, sock=sock) as (_transport, protocol):
            assert sock.gettimeout() == 0
            with udp_socket() as peer:
                peer.sendto(b"hello", sock.getsockname())
                await protocol.until(lambda: protocol.received)
        assert sock.fileno() == -1

    run(scenario())


def test_connected_socket_sends_to_its_peer_whatever_is_named(same_as_asyncio):
    async def scenario(loop):
        with udp_socket() as peer, udp_socket() as other:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.connect(peer.getsockname())
            async with endpoint(loop, sock=sock) as (transport, _protocol):
                transport.sendto(b"nobody")
                transport.sendto(b"other", other.getsockname())
                transport.sendto(b"nonsense", "nonsense")
                return [await loop.sock_recv(peer, 100) for _ in range(3)]

    assert same_as_asyncio(scenario).returned == [b"nobody", b"other", b"nonsense"]


def test_ports_are_shared_when_asked_for(loop, run):
    async def scenario():
        async with endpoint(loop, local_addr=(LOCALHOST, 0), reuse_port=True) as (first, _):
            with pytest.raises(OSError, match="in use"):
                await loop.create_datagram_endpoint(Recorder, local_addr=address_of(first))
            async with endpoint(loop, local_addr=address_of(first), reuse_port=True) as (second, _):
                assert address_of(second) == address_of(first)

    run(scenario())


def test_broadcast(same_as_asyncio):
    """The socket may broadcast, is not connected, and still has a single address to send to."""

    async def scenario(loop):
        with udp_socket() as peer:
            remote = peer.getsockname()
            async with endpoint(loop, remote_addr=remote, allow_broadcast=True) as (transport, protocol):
                sock = transport.get_extra_info("socket")
                transport.sendto(b"default")
                transport.sendto(b"named", remote)
                received = [await loop.sock_recv(peer, 100) for _ in range(2)]
                return [
                    received,
                    sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) != 0,
                    transport.get_extra_info("peername"),
                    outcome_of(transport.sendto, b"x", (LOCALHOST, 1))[:2],
                    protocol.errors,
                ]

    assert same_as_asyncio(scenario).returned[0] == [b"default", b"named"]


def test_broadcast_without_leave_is_an_error(same_as_asyncio):
    async def scenario(loop):
        async with endpoint(loop, family=socket.AF_INET) as (transport, protocol):
            transport.sendto(b"x", ("255.255.255.255", 9))
            transport.sendto(b"x", ("<broadcast>", 9))
            await protocol.until(lambda: len(protocol.errors) == 2)
            return [transport.is_closing(), *protocol.errors]

    assert same_as_asyncio(scenario).returned[1][0] is PermissionError


UNSOUND = {
    "nothing": {},
    "address that is none": {"local_addr": "nonsense"},
    "address of three": {"remote_addr": (LOCALHOST, 1, 2)},
    "list": {"local_addr": [LOCALHOST, 0]},
    "families that do not meet": {"local_addr": ("::1", 0), "remote_addr": (LOCALHOST, 1)},
    "family that does not fit": {"local_addr": (LOCALHOST, 0), "family": socket.AF_INET6},
    "unix address that is no string": {"local_addr": b"/no/such/x", "family": socket.AF_UNIX},
    "unix address that is a pair": {"remote_addr": ("/no/such/x", 0), "family": socket.AF_UNIX},
    "unix peer that is not there": {"remote_addr": "/no/such/socket", "family": socket.AF_UNIX},
    "unix path too long": {"local_addr": "/" + "x" * 200, "family": socket.AF_UNIX},
    "protocol that does not fit": {"family": socket.AF_INET, "proto": socket.IPPROTO_TCP},
    "flags": {"local_addr": ("localhost", 0), "flags": socket.AI_NUMERICHOST},
    "address of nobody here": {"local_addr": ("192.0.2.1", 0)},
    "port too high": {"local_addr": (LOCALHOST, 65536)},
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_arguments(same_as_asyncio, case):
    async def scenario(loop):
        kind, *rest = await awaited_outcome(loop.create_datagram_endpoint(Recorder, **UNSOUND[case]))
        assert kind == "raised"
        return rest

    assert issubclass(same_as_asyncio(scenario).returned[0], Exception)


def test_reuse_address_is_gone(loop):
    """CPython 3.11 removed it: several sockets could receive each other's datagrams."""
    with pytest.raises(TypeError, match="reuse_address"):
        loop.create_datagram_endpoint(Recorder, local_addr=(LOCALHOST, 0), reuse_address=True)


@pytest.mark.parametrize(
    "options",
    [
        {"local_addr": (LOCALHOST, 0)},
        {"remote_addr": (LOCALHOST, 1), "family": socket.AF_INET},
        {"proto": 17, "flags": 1, "reuse_port": True, "allow_broadcast": True},
    ],
    ids=str,
)
def test_given_socket_takes_no_other_keyword(same_as_asyncio, options):
    async def scenario(loop):
        with udp_socket() as sock:
            outcome = await awaited_outcome(loop.create_datagram_endpoint(Recorder, sock=sock, **options))
            return outcome, sock.fileno() != -1

    (_kind, raised, _message), still_open = same_as_asyncio(scenario).returned
    assert raised is ValueError
    assert still_open


@pytest.mark.parametrize("type", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_given_socket_of_another_type(same_as_asyncio, type):
    async def scenario(loop):
        left, right = socket.socketpair(type=type)
        with left, right:
            kind, *rest = await awaited_outcome(loop.create_datagram_endpoint(Recorder, sock=left))
            if kind == "returned":  # CPython 3.13 takes what has datagrams in any way
                [(transport, protocol)] = rest
                right.send(b"hello")
                await protocol.until(lambda: protocol.received)
                transport.abort()
                await until(lambda: descriptor_closed(transport))
                return protocol.received
            return rest[0], alike(rest[1].replace(repr(left), "..."))

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.zloop_only
def test_factory_that_raises_leaves_no_socket(loop, run):
    """It is left to the garbage collector by asyncio. A socket that was given stays its owner's."""

    def factory():
        raise LookupError("no protocol")

    async def scenario():
        with pytest.raises(LookupError):
            await loop.create_datagram_endpoint(factory, local_addr=(LOCALHOST, 0))
        with udp_socket() as sock:
            with pytest.raises(LookupError):
                await loop.create_datagram_endpoint(factory, sock=sock)
            assert sock.fileno() != -1

    run(scenario())


def test_cancelled_while_it_is_made(loop, run):
    async def scenario():
        protocol = Recorder()
        making = loop.create_task(loop.create_datagram_endpoint(lambda: protocol, family=socket.AF_INET))
        await until(lambda: protocol.transport is not None or making.cancel())
        with pytest.raises(asyncio.CancelledError):
            await making
        await until(lambda: protocol.transport is None or descriptor_closed(protocol.transport))

    run(scenario())


# -- unix ----------------------------------------------------------------------------------------------------------


def test_unix_datagrams(same_as_asyncio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # so that the names are the same for both

    async def scenario(loop):
        async with (
            endpoint(loop, local_addr="server", family=socket.AF_UNIX) as (server, protocol),
            endpoint(loop, local_addr="client", remote_addr="server", family=socket.AF_UNIX) as (
                client,
                client_protocol,
            ),
        ):
            told = [address_of(server), client.get_extra_info("peername")]
            client.sendto(b"to the server")
            client.sendto(b"named", "server")
            await protocol.until(lambda: len(protocol.received) == 2)
            server.sendto(b"to the client", "client")
            server.sendto(b"as bytes", b"client")
            server.sendto(b"to nobody", "nobody")
            await client_protocol.until(lambda: len(client_protocol.received) == 2)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anonymous:
                anonymous.sendto(b"anonymous", "server")
            await protocol.until(lambda: len(protocol.received) == 3)
            told += [outcome_of(client.sendto, b"x", "other"), protocol.calls[1:], client_protocol.calls[1:]]
        os.remove("server")
        os.remove("client")
        return told

    told = same_as_asyncio(scenario).returned
    assert ("datagram_received", b"anonymous", None) in told[3]


def test_unix_datagrams_between_abstract_names(loop, run):
    name = f"\0zloop-test-{os.getpid()}"

    async def scenario():
        async with (
            endpoint(loop, local_addr=name, family=socket.AF_UNIX) as (server, protocol),
            endpoint(loop, local_addr=name + "-client", family=socket.AF_UNIX) as (client, client_protocol),
        ):
            client.sendto(b"ping", name)
            await protocol.until(lambda: protocol.received)
            sender = protocol.calls[-1][2]
            assert sender == os.fsencode(name + "-client")
            server.sendto(b"pong", sender)
            await client_protocol.until(lambda: client_protocol.received)

    run(scenario())


def test_unix_datagram_longer_than_udps(loop, run, tmp_path):
    data = os.urandom(150_000)

    async def scenario():
        async with unix_endpoints(loop, tmp_path) as ((_server, protocol), (client, _)):
            client.sendto(data)
            await protocol.until(lambda: protocol.received)
            assert protocol.received == [data]

    run(scenario())


def test_stale_unix_socket_makes_way(loop, run, tmp_path):
    path = tmp_path / "socket"

    async def scenario():
        for _ in range(2):
            async with endpoint(loop, local_addr=str(path), family=socket.AF_UNIX):
                assert path.is_socket()
        path.unlink()
        path.write_text("precious")
        with pytest.raises(OSError, match="in use"):
            await loop.create_datagram_endpoint(Recorder, local_addr=str(path), family=socket.AF_UNIX)
        assert path.read_text() == "precious"

    run(scenario())


def test_unix_socket_that_cannot_be_looked_at_is_logged(same_as_asyncio, tmp_path):
    path = str(tmp_path / "file" / "socket")
    (tmp_path / "file").touch()

    async def scenario(loop):
        return await awaited_outcome(loop.create_datagram_endpoint(Recorder, local_addr=path, family=socket.AF_UNIX))

    assert len(same_as_asyncio(scenario).logged) == 1


# -- other families ------------------------------------------------------------------------------------------------


def test_netlink(same_as_asyncio):
    """A family whose addresses only the socket module knows."""
    get_links = struct.pack("=IHHIIB3x", 20, 18, 0x301, 1, 0, socket.AF_UNSPEC)

    async def scenario(loop):
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
        async with endpoint(loop, sock=sock) as (transport, protocol):
            transport.sendto(get_links, (0, 0))
            await protocol.until(lambda: protocol.received)
            return protocol.calls[1][2]

    assert same_as_asyncio(scenario).returned == (0, 0)


def test_host_names_wait_in_line(loop, loop_kind, run, monkeypatch):
    """What only the socket module can address keeps its place among the others, and waits while the socket is full."""
    plain = socket.socket.sendto
    refusals = [BlockingIOError, BlockingIOError]

    def refuse_at_first(sock, *args):
        if refusals:
            raise refusals.pop()
        return plain(sock, *args)

    async def scenario():
        monkeypatch.setattr(socket.socket, "sendto", refuse_at_first)
        with udp_socket() as peer:
            _, port = peer.getsockname()
            async with endpoint(loop, sock=socket.socket(type=socket.SOCK_DGRAM)) as (transport, protocol):
                transport.sendto(b"1", ("localhost", port))
                transport.sendto(b"2", (LOCALHOST, port))
                transport.sendto(bytearray(b"3"), ("localhost", port))
                assert transport.get_write_buffer_size() > 0
                transport.sendto(b"4", (LOCALHOST, port))
                assert [await loop.sock_recv(peer, 100) for _ in range(4)] == [b"1", b"2", b"3", b"4"]
                await until(lambda: transport.get_write_buffer_size() == 0 or not counts_right(loop_kind))
                assert not protocol.errors

    run(scenario())


class OfAnotherFamily(socket.socket):
    """Says so."""

    @property
    def family(self):
        return socket.AF_NETLINK


@pytest.mark.skipif(sys.version_info < (3, 13), reason="SOCK_SEQPACKET is taken since 3.13")
@pytest.mark.zloop_only  # asyncio receives the end again and again
def test_end_of_a_connection_of_datagrams_of_another_family(loop, run):
    async def scenario():
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        async with endpoint(loop, sock=OfAnotherFamily(fileno=near.detach())) as (_transport, protocol):
            far.send(b"data")
            far.close()
            await protocol.until(lambda: len(protocol.received) == 2)
            await several_turns()
            assert protocol.received == [b"data", b""]

    run(scenario())


# -- what an argument does -----------------------------------------------------------------------------------------


def port_that(action):
    """A number that calls a function when it is asked for."""
    return type("Port", (), {"__index__": lambda _self: action()})()


def test_keyboard_interrupt_of_an_address_is_raised(same_as_asyncio):
    def interrupt():
        raise KeyboardInterrupt

    async def scenario(loop):
        async with endpoint(loop) as (transport, protocol):
            with pytest.raises(KeyboardInterrupt):
                transport.sendto(b"data", (LOCALHOST, port_that(interrupt)))
            return protocol.errors, transport.is_closing()

    assert same_as_asyncio(scenario).returned == ([], False)


@pytest.mark.zloop_only  # asyncio watches the socket that is closed
def test_address_that_ends_the_endpoint_and_would_block(loop, run):
    async def scenario():
        async with endpoint(loop) as (transport, protocol):

            def end():
                transport.abort()
                raise BlockingIOError

            transport.sendto(b"data", (LOCALHOST, port_that(end)))
            assert transport.get_write_buffer_size() == 0
            await protocol.until_called("connection_lost")

    run(scenario())


@pytest.mark.zloop_only  # asyncio's socket object looks at the memory later
def test_memory_that_ends_the_endpoint_is_not_sent(loop, run, exporter):
    async def scenario():
        with udp_socket() as peer:
            async with endpoint(loop) as (transport, protocol):
                transport.sendto(exporter(b"data", transport.abort), peer.getsockname())
                await protocol.until_called("connection_lost")
                assert protocol.errors == []
            with pytest.raises(BlockingIOError):
                peer.recv(10)

    run(scenario())
