"""Datagram endpoints: making them, what arrives and in which order, sending, errors, flow control, and the end."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import socket
import struct
import sys
import weakref

import pytest
from support import (
    LOCALHOST,
    _Record,
    alike,
    awaited_outcome,
    descriptor_closed,
    enable_debug,
    info_of,
    outcome_of,
    resource_warnings,
    run_bounded,
    several_turns,
    until,
)

BURST = 20
"""More datagrams than one system call receives."""

counts_headers = sends_empty = sys.version_info >= (3, 13)


def counts_right(loop_kind):
    """CPython 3.13's own transports count a queued datagram's header when it comes, and not when it goes."""
    return loop_kind == "zloop" or not (3, 13) <= sys.version_info < (3, 14)


class Recorder(_Record, asyncio.DatagramProtocol):
    """A datagram protocol that records its calls; `react`, if set, is called after each datagram."""

    def __init__(self):
        super().__init__()
        self.react = None

    @property
    def received(self):
        return [call[1] for call in self.calls if call[0] == "datagram_received"]

    @property
    def errors(self):
        return [call[1] for call in self.calls if call[0] == "error_received"]

    def datagram_received(self, data, addr):
        self.calls.append(("datagram_received", data, addr))
        self._changed.set()
        if self.react is not None:
            self.react()

    def error_received(self, exc):
        self.note("error_received", exc)


@contextlib.asynccontextmanager
async def endpoint(loop, protocol_factory=Recorder, **kwargs):
    """A datagram endpoint, on a port of its own unless keywords say otherwise: (transport, protocol)."""
    transport, protocol = await loop.create_datagram_endpoint(
        protocol_factory, **(kwargs or {"local_addr": (LOCALHOST, 0)})
    )
    try:
        yield transport, protocol
    finally:
        if not descriptor_closed(transport):
            transport.abort()
        await until(lambda: descriptor_closed(transport))


def address_of(transport):
    return transport.get_extra_info("sockname")


@contextlib.contextmanager
def udp_socket(host=LOCALHOST):
    """A non-blocking UDP socket on a port of its own."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.setblocking(False)
        yield sock


@contextlib.asynccontextmanager
async def endpoint_and_peer(loop):
    """An endpoint and a UDP socket that is no loop's: (transport, protocol, peer)."""
    with udp_socket() as peer:
        async with endpoint(loop) as (transport, protocol):
            yield transport, protocol, peer


def send_burst(sock, address, count=BURST):
    """Put datagrams into the address's queue; the loop-back device delivers them within the call."""
    sent = [b"%d" % index for index in range(count)]
    for data in sent:
        sock.sendto(data, address)
    return sent


def refusing_address():
    """A UDP address where nothing listens."""
    with udp_socket() as unused:
        return unused.getsockname()


@contextlib.asynccontextmanager
async def refused_endpoint(loop):
    """An endpoint whose remote address has been closed."""
    with udp_socket() as peer:
        async with endpoint(loop, remote_addr=peer.getsockname()) as (transport, protocol):
            peer.close()
            yield transport, protocol


@contextlib.asynccontextmanager
async def unix_endpoints(loop, directory):
    """Two unix endpoints, the second one connected to the first, whose queue is short."""
    path = str(directory / "server")
    async with (
        endpoint(loop, local_addr=path, family=socket.AF_UNIX) as server,
        endpoint(loop, local_addr=str(directory / "client"), remote_addr=path, family=socket.AF_UNIX) as client,
    ):
        yield server, client


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


# -- what arrives --------------------------------------------------------------------------------------------------


def test_burst_arrives_in_order(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            for _ in range(3):
                sent = send_burst(peer, address_of(transport))
                await protocol.until(lambda: len(protocol.received) == BURST)
                assert protocol.received == sent
                assert {call[2] for call in protocol.calls[1:]} == {peer.getsockname()}
                del protocol.calls[1:]

    run(scenario())


def test_empty_datagrams_arrive(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            for data in (b"", b"x", b""):
                peer.sendto(data, address_of(transport))
            await protocol.until(lambda: len(protocol.received) == 3)
            assert protocol.received == [b"", b"x", b""]

    run(scenario())


def test_senders_are_told_apart(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            with udp_socket() as other:
                senders = [peer, other, other, peer]
                for sender in senders:
                    sender.sendto(b"x", address_of(transport))
                await protocol.until(lambda: len(protocol.received) == 4)
                assert [call[2] for call in protocol.calls[1:]] == [sender.getsockname() for sender in senders]

    run(scenario())


# Something to do at each datagram, and how it shows when the next one comes too early.
REACTIONS = {
    "nothing": lambda loop, transport, note: None,
    "close": lambda loop, transport, note: transport.close(),
    "abort": lambda loop, transport, note: transport.abort(),
    "pause": lambda loop, transport, note: transport.pause_reading(),
    "pause and resume": lambda loop, transport, note: (transport.pause_reading(), transport.resume_reading()),
    "pause, resume soon": lambda loop, transport, note: (
        transport.pause_reading(),
        loop.call_soon(transport.resume_reading),
    ),
    "another protocol": lambda loop, transport, note: transport.set_protocol(asyncio.DatagramProtocol()),
    "an exception": lambda loop, transport, note: 1 / 0,
}


@pytest.mark.parametrize("size", [3, BURST])
@pytest.mark.parametrize("reaction", REACTIONS)
def test_what_a_datagram_leads_to_at_once_comes_before_the_next_one(same_as_asyncio, reaction, size):
    """However many come from the kernel together. What is scheduled comes behind them: see test_busy_loops.py."""

    async def scenario(loop):
        exceptions = []
        loop.set_exception_handler(lambda _loop, context: exceptions.append(type(context["exception"])))
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            # Once without, so that several are asked for at a time.
            for _ in range(3):
                send_burst(peer, address_of(transport))
                await protocol.until(lambda: len(protocol.received) == BURST)
                del protocol.calls[1:]
            protocol.react = lambda: REACTIONS[reaction](loop, transport, protocol.note)
            send_burst(peer, address_of(transport), size)
            await several_turns(3 * size)
            return [call[:2] for call in protocol.calls[1:]], exceptions

    calls, _exceptions = same_as_asyncio(scenario).returned
    assert calls[0] == ("datagram_received", b"0")


def test_paused_transport_keeps_what_came(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            protocol.react = transport.pause_reading
            sent = send_burst(peer, address_of(transport))
            for count in range(1, BURST + 1):
                await protocol.until(lambda: protocol.received)
                await several_turns()
                assert protocol.received == sent[:count]
                transport.resume_reading()
                await protocol.until(lambda count=count: len(protocol.received) > count or count == BURST)

    run(scenario())


def test_stop_takes_effect_before_the_next_datagram(loop, forever):
    protocol = Recorder()
    transport, _ = run_bounded(loop, loop.create_datagram_endpoint(lambda: protocol, local_addr=(LOCALHOST, 0)))
    with udp_socket() as peer:
        for react in (None, loop.stop):
            protocol.react = react
            sent = send_burst(peer, address_of(transport))
            if react is None:
                run_bounded(loop, protocol.until(lambda: len(protocol.received) == BURST))
                protocol.calls.clear()
            else:
                for count in range(1, BURST + 1):
                    forever()
                    assert protocol.received == sent[:count]
    transport.close()
    run_bounded(loop, until(lambda: descriptor_closed(transport)))


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_nothing_is_lost_by_an_exception_that_ends_the_run(loop, exception):
    protocol = Recorder()
    transport, _ = run_bounded(loop, loop.create_datagram_endpoint(lambda: protocol, local_addr=(LOCALHOST, 0)))
    with udp_socket() as peer:
        send_burst(peer, address_of(transport))
        run_bounded(loop, protocol.until(lambda: len(protocol.received) == BURST))
        protocol.calls.clear()
        sent = send_burst(peer, address_of(transport))

        def react():
            protocol.react = None
            raise exception

        protocol.react = react
        with pytest.raises(exception):
            loop.run_forever()
        assert protocol.received == sent[:1]
        run_bounded(loop, protocol.until(lambda: len(protocol.received) == BURST))
        assert protocol.received == sent
    transport.close()
    run_bounded(loop, until(lambda: descriptor_closed(transport)))


def test_exception_in_the_protocol_ends_nothing(loop, run, unhandled):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            protocol.react = lambda: 1 / 0
            sent = send_burst(peer, address_of(transport))
            await protocol.until(lambda: len(protocol.received) == BURST)
            assert protocol.received == sent
            assert not transport.is_closing()
        assert len(unhandled) == BURST
        assert all(isinstance(context["exception"], ZeroDivisionError) for context in unhandled)

    run(scenario())


def test_what_is_ready_to_run_comes_before_what_has_arrived(loop):
    """A task that is about to wait for a datagram has its turn before the datagram is passed on."""
    waiting = loop.create_future()

    class Answered(asyncio.DatagramProtocol):
        answer = None

        def datagram_received(self, data, addr):
            self.answer.set_result(data)

    async def wait_for_answer(protocol):
        protocol.answer = waiting
        return await waiting

    transport, protocol = run_bounded(loop, loop.create_datagram_endpoint(Answered, local_addr=(LOCALHOST, 0)))
    with udp_socket() as peer:
        peer.sendto(b"early", address_of(transport))
        assert run_bounded(loop, wait_for_answer(protocol)) == b"early"
    transport.close()
    run_bounded(loop, until(lambda: descriptor_closed(transport)))


def test_callbacks_run_in_the_context_of_the_endpoints_maker(loop, run):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    async def scenario():
        variable.set("maker's")
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            variable.set("later")
            protocol.react = lambda: seen.append(variable.get())
            send_burst(peer, address_of(transport), 3)
            await protocol.until(lambda: len(protocol.received) == 3)

    run(scenario())
    assert seen == ["maker's"] * 3


# -- sending -------------------------------------------------------------------------------------------------------


def test_burst_is_sent_in_order(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, _protocol, peer):
            sent = send_burst(transport, peer.getsockname())
            assert [await loop.sock_recv(peer, 100) for _ in sent] == sent
            assert transport.get_write_buffer_size() == 0

    run(scenario())


def test_what_was_sent_may_be_changed(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, _protocol, peer):
            data = bytearray(b"before")
            transport.sendto(data, peer.getsockname())
            transport.sendto(memoryview(data)[2:4], peer.getsockname())
            data[:] = b"after!"
            assert await loop.sock_recv(peer, 100) == b"before"
            assert await loop.sock_recv(peer, 100) == b"fo"

    run(scenario())


def test_empty_datagrams_are_sent(loop, run):
    """From CPython 3.13; before, they were nothing to send."""

    async def scenario():
        with udp_socket() as peer:
            async with (
                endpoint(loop, remote_addr=peer.getsockname()) as (connected, _),
                endpoint(loop) as (unconnected, _),
            ):
                connected.sendto(b"")
                connected.sendto(b"1")
                unconnected.sendto(b"", peer.getsockname())
                unconnected.sendto(b"2", peer.getsockname())
                expected = [b"", b"1", b"", b"2"] if sends_empty else [b"1", b"2"]
                assert [await loop.sock_recv(peer, 100) for _ in expected] == expected

    run(scenario())


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"]], ids=repr)
def test_data_of_another_type(same_as_asyncio, data):
    async def scenario(loop):
        async with endpoint(loop) as (transport, protocol):
            return outcome_of(transport.sendto, data, (LOCALHOST, 9)), transport.is_closing(), protocol.calls[1:]

    assert same_as_asyncio(scenario).returned[0][1] is TypeError


WRONG = {
    "of another host": ("192.0.2.1", 9),
    "without a flow": ("::1", 9),
    "with another flow": ("::1", 9, 1, 0),
    "with another scope": ("::1", 9, 0, 1),
    "list": ["::1", 9, 0, 0],
    "nonsense": "nonsense",
}


@pytest.mark.parametrize("address", WRONG)
def test_address_that_is_not_the_remote_one(same_as_asyncio, address):
    async def scenario(loop):
        with udp_socket("::1") as peer:
            async with endpoint(loop, remote_addr=peer.getsockname()[:2]) as (transport, protocol):
                named = WRONG[address]
                if address not in {"of another host", "nonsense"}:
                    named = type(named)([named[0], peer.getsockname()[1], *named[2:]])
                outcome = outcome_of(transport.sendto, b"x", named)
                transport.sendto(b"own peer", peer.getsockname())
                return outcome, await loop.sock_recv(peer, 100), protocol.calls[1:]

    outcome, received, _calls = same_as_asyncio(scenario).returned
    assert outcome[1] is ValueError
    assert received == b"own peer"


UNSENDABLE = {
    "no address": (b"x", None),
    "host that is no name": (b"x", ("no such host.invalid", 9)),
    "port too high": (b"x", (LOCALHOST, 65536)),
    "port below zero": (b"x", (LOCALHOST, -1)),
    "port that is no number": (b"x", (LOCALHOST, "9")),
    "port of zero": (b"x", (LOCALHOST, 0)),
    "string": (b"x", "nonsense"),
    "IPv6 address": (b"x", ("::1", 9)),
    "too many items": (b"x", (LOCALHOST, 9, 0, 0)),
    "host with a zero": (b"x", ("127.0.0.1\0", 9)),
    "data too long": (b"x" * 70_000, (LOCALHOST, 9)),
    "data with gaps": (memoryview(b"abcdef")[::2], (LOCALHOST, 9)),
}


@pytest.mark.parametrize("case", UNSENDABLE)
def test_what_cannot_be_sent(same_as_asyncio, case):
    """An OSError goes to error_received(); anything else is fatal, and goes to connection_lost()."""

    async def scenario(loop):
        contexts = []
        loop.set_exception_handler(lambda _loop, context: contexts.append(alike(context["message"])))
        async with endpoint(loop) as (transport, protocol):
            outcome = outcome_of(transport.sendto, *UNSENDABLE[case])
            await protocol.until(lambda: len(protocol.calls) > 1)
            return outcome, protocol.calls[1:], transport.is_closing(), contexts

    outcome, calls, _closing, _contexts = same_as_asyncio(scenario).returned
    assert outcome == ("returned", None)
    assert calls[0][0] in {"error_received", "connection_lost"}


def test_error_spares_the_others(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            for size in (1, 70_000, 2, 70_000, 3):
                transport.sendto(b"x" * size, peer.getsockname())
            assert [len(await loop.sock_recv(peer, 100)) for _ in range(3)] == [1, 2, 3]
            await protocol.until(lambda: len(protocol.errors) == 2)
            assert [exc.errno for exc in protocol.errors] == [errno.EMSGSIZE] * 2
            assert not transport.is_closing()

    run(scenario())


def test_icmp_errors(same_as_asyncio):
    """Each error of an earlier datagram costs a later one, and the endpoint goes on."""

    async def scenario(loop):
        async with refused_endpoint(loop) as (transport, protocol):
            for _ in range(5):
                transport.sendto(b"x")
            seen_at_once = list(protocol.errors)
            await protocol.until(lambda: len(protocol.errors) == 3)
            await several_turns()
            return seen_at_once, protocol.calls[1:], transport.is_closing()

    assert len(same_as_asyncio(scenario).returned[0]) == 2


def test_exception_in_error_received_goes_to_the_sender(same_as_asyncio):
    async def scenario(loop):
        loop.set_exception_handler(lambda _loop, _context: None)
        async with refused_endpoint(loop) as (transport, protocol):
            protocol.error_received = lambda exc: 1 / 0
            transport.sendto(b"x")
            return outcome_of(transport.sendto, b"x"), transport.is_closing()

    assert same_as_asyncio(scenario).returned[0][1] is ZeroDivisionError


def test_sending_while_the_loop_does_not_run(loop, run):
    transport, _protocol = run(loop.create_datagram_endpoint(Recorder, local_addr=(LOCALHOST, 0)))
    with udp_socket() as peer:
        transport.sendto(b"x", peer.getsockname())
        assert peer.recv(100) == b"x"
    transport.close()
    run(until(lambda: descriptor_closed(transport)))


def link_local_address():
    """An IPv6 address of this machine that needs a scope, or None."""
    with contextlib.suppress(OSError), open("/proc/net/if_inet6") as table:
        for line in table:
            digits, index, _, scope, _, _ = line.split()
            if scope == "20":
                return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), int(index, 16)
    return None


@pytest.mark.skipif(link_local_address() is None, reason="no interface has a link-local address")
def test_ipv6_scopes(same_as_asyncio):
    async def scenario(loop):
        host, scope = link_local_address()
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((host, 0, 0, scope))
        async with endpoint(loop, sock=sock) as (transport, protocol):
            own = address_of(transport)
            transport.sendto(b"to itself", own)
            await protocol.until(lambda: protocol.received)
            [(_, _, sender)] = protocol.calls[1:]
            async with endpoint(loop, remote_addr=(f"{host}%{scope}", own[1])) as (client, _):
                client.sendto(b"scoped", own)
                await protocol.until(lambda: len(protocol.received) == 2)
                told = client.get_extra_info("peername") == own, protocol.calls[2][2][2:]
            return sender == own, own[2:] == (0, scope), told

    assert same_as_asyncio(scenario).returned == (True, True, (True, (0, link_local_address()[1])))


# -- flow control --------------------------------------------------------------------------------------------------


def fill(transport, protocol, data):
    """Send until the protocol is told to pause; how often."""
    for count in range(1, 100_000):
        transport.sendto(data)
        if protocol.names()[-1] == "pause_writing":
            return count
    raise AssertionError("never full")


def test_flow_control(loop, loop_kind, run, tmp_path):
    """The client is paused when the server's queue and then the buffer are full, and resumed when they are not."""
    data = b"x" * 1000

    async def scenario():
        async with unix_endpoints(loop, tmp_path) as ((server, server_protocol), (client, protocol)):
            server.pause_reading()
            count = fill(client, protocol, data)
            each = len(data) + (8 if counts_headers else 0)
            low, high = client.get_write_buffer_limits()
            assert (low, high) == (16 * 1024, 64 * 1024)
            assert client.get_write_buffer_size() == (high // each + 1) * each
            await several_turns()
            assert protocol.names() == ["connection_made", "pause_writing"]
            server.resume_reading()
            await server_protocol.until(lambda: len(server_protocol.received) == count)
            assert server_protocol.received == [data] * count
            if counts_right(loop_kind):
                await protocol.until_called("resume_writing")
                assert client.get_write_buffer_size() == 0
            assert not protocol.errors

    run(scenario())


@pytest.mark.parametrize("limits", [{}, {"high": 0}, {"low": 10}, {"high": 100}, {"high": 100, "low": 100}], ids=str)
def test_write_buffer_limits(same_as_asyncio, limits):
    async def scenario(loop):
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            transport.set_write_buffer_limits(**limits)
            transport.sendto(b"x" * 1000, peer.getsockname())  # the kernel takes it: nothing to pause for
            return transport.get_write_buffer_limits(), protocol.calls[1:]

    assert same_as_asyncio(scenario).returned[1] == []


@pytest.mark.parametrize("limits", [{"high": 1, "low": 2}, {"low": -1}, {"high": -1}], ids=str)
def test_write_buffer_limits_that_cross(same_as_asyncio, limits):
    async def scenario(loop):
        async with endpoint(loop) as (transport, _protocol):
            return outcome_of(transport.set_write_buffer_limits, **limits)

    assert same_as_asyncio(scenario).returned[1] is ValueError


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
def test_exception_in_flow_control_ends_nothing(loop, loop_kind, run, unhandled, tmp_path, method):
    async def scenario():
        async with unix_endpoints(loop, tmp_path) as ((server, server_protocol), (client, protocol)):
            server.pause_reading()
            client.set_write_buffer_limits(high=100)
            original = getattr(protocol, method)
            setattr(protocol, method, lambda: (original(), 1 / 0))
            count = fill(client, protocol, b"x" * 50)
            server.resume_reading()
            await server_protocol.until(lambda: len(server_protocol.received) == count)
            if method == "pause_writing" or counts_right(loop_kind):
                await until(lambda: unhandled)
                assert f"protocol.{method}() failed" in unhandled[0]["message"]
            assert not client.is_closing()

    run(scenario())


# -- the end -------------------------------------------------------------------------------------------------------


def test_close(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            transport.sendto(b"last", peer.getsockname())
            transport.close()
            assert transport.is_closing()
            transport.close()
            transport.abort()
            peer.sendto(b"late", address_of(transport))
            await protocol.until_called("connection_lost")
            assert protocol.calls == [("connection_made", transport), ("connection_lost", None)]
            assert await loop.sock_recv(peer, 100) == b"last"
            await until(lambda: descriptor_closed(transport))
            assert transport.get_protocol() is None

    run(scenario())


def test_close_waits_for_what_is_queued(loop, run, tmp_path):
    async def scenario():
        async with unix_endpoints(loop, tmp_path) as ((server, server_protocol), (client, protocol)):
            server.pause_reading()
            count = fill(client, protocol, b"x" * 1000)
            client.close()
            await several_turns()
            assert "connection_lost" not in protocol.names()
            server.resume_reading()
            await protocol.until_called("connection_lost")
            assert protocol.calls[-1] == ("connection_lost", None)
            await server_protocol.until(lambda: len(server_protocol.received) == count)

    run(scenario())


def test_abort_drops_what_is_queued(loop, loop_kind, run, tmp_path):
    async def scenario():
        async with unix_endpoints(loop, tmp_path) as ((server, server_protocol), (client, protocol)):
            server.pause_reading()
            count = fill(client, protocol, b"x" * 1000)
            client.abort()
            assert client.get_write_buffer_size() == 0 or loop_kind == "asyncio"
            await protocol.until_called("connection_lost")
            server.resume_reading()
            await several_turns(2 * count)
            assert 0 < len(server_protocol.received) < count
            assert protocol.names() == ["connection_made", "pause_writing", "connection_lost"]

    run(scenario())


def test_abort_lets_go_what_was_sent_in_the_same_turn(loop, run):
    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            transport.sendto(b"last", peer.getsockname())
            transport.abort()
            await protocol.until_called("connection_lost")
            assert await loop.sock_recv(peer, 100) == b"last"

    run(scenario())


@pytest.mark.parametrize("call", ["close", "abort"])
@pytest.mark.parametrize("callback", ["connection_made", "error_received", "connection_lost", "pause_writing"])
def test_ending_inside_a_callback(loop, run, tmp_path, callback, call):
    class Ending(Recorder):
        def note(self, name, *args):
            super().note(name, *args)
            if name == callback:
                getattr(self.transport, call)()

    async def scenario():
        path = str(tmp_path / "peer")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.bind(path)
            transport, protocol = await loop.create_datagram_endpoint(Ending, remote_addr=path, family=socket.AF_UNIX)
            if callback == "pause_writing":
                fill(transport, protocol, b"x" * 1000)
            peer.close()
            if callback == "error_received":
                transport.sendto(b"x")
            if callback == "connection_lost":
                transport.close()
            await protocol.until_called("connection_lost")
            await until(lambda: descriptor_closed(transport))
            assert protocol.names().count("connection_lost") == 1
            assert protocol.names()[-1] == "connection_lost"

    run(scenario())


def test_sending_after_the_end_is_dropped(loop, run, loop_log):
    async def scenario():
        with udp_socket() as peer:
            async with endpoint(loop, remote_addr=peer.getsockname()) as (transport, protocol):
                transport.close()
                for _ in range(10):
                    transport.sendto(b"x")
                await protocol.until_called("connection_lost")
                transport.sendto(b"x")
                assert protocol.names() == ["connection_made", "connection_lost"]
                with pytest.raises(BlockingIOError):
                    peer.recv(100)

    run(scenario())
    assert set(loop_log.take_messages()) == {"socket.send() raised exception."}


@pytest.mark.zloop_only
def test_sending_from_an_unconnected_endpoint_after_the_end_is_dropped(loop, run, loop_log):
    """By accident, asyncio raises AttributeError."""

    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            transport.close()
            await protocol.until_called("connection_lost")
            await until(lambda: descriptor_closed(transport))
            for _ in range(10):
                transport.sendto(b"x", peer.getsockname())
            assert protocol.names() == ["connection_made", "connection_lost"]

    run(scenario())
    assert set(loop_log.take_messages()) == {"socket.send() raised exception."}


def test_closed_loop_leaves_a_transport_that_can_be_closed(make_loop):
    loop = make_loop()
    with resource_warnings() as texts:
        transport, _protocol = run_bounded(loop, loop.create_datagram_endpoint(Recorder, local_addr=(LOCALHOST, 0)))
        loop.close()
        with udp_socket() as peer:
            transport.sendto(b"x", peer.getsockname())
            assert peer.recv(100) == b"x"
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.abort()
        del transport, _protocol
    assert any("unclosed transport" in text for text in texts)


def test_what_is_sent_on_a_closed_loop_behind_others_waits_with_them(make_loop, tmp_path):
    loop = make_loop()
    with resource_warnings(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(str(tmp_path / "peer"))
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.connect(str(tmp_path / "peer"))
        sock.setblocking(False)
        transport, protocol = run_bounded(loop, loop.create_datagram_endpoint(Recorder, sock=sock))
        while transport.get_write_buffer_size() == 0:
            transport.sendto(bytes(1000))
        one = transport.get_write_buffer_size()
        loop.close()
        transport.sendto(bytes(1000))
        assert transport.get_write_buffer_size() == 2 * one
        assert "error_received" not in protocol.names()
        del transport, protocol


def test_transport_that_reads_is_kept_alive(loop, run):
    async def scenario():
        with udp_socket() as peer:
            transport, protocol = await loop.create_datagram_endpoint(Recorder, local_addr=(LOCALHOST, 0))
            address, reference = address_of(transport), weakref.ref(transport)
            protocol.calls.clear()
            protocol.transport = transport = None
            gc.collect()
            peer.sendto(b"x", address)
            await protocol.until(lambda: protocol.received)
            reference().close()
            await protocol.until_called("connection_lost")
            await until(lambda: gc.collect() is not None and reference() is None)

    run(scenario())


def test_debug_mode(loop, run):
    enable_debug(loop)

    async def scenario():
        async with endpoint_and_peer(loop) as (transport, protocol, peer):
            transport.pause_reading()
            transport.resume_reading()
            send_burst(peer, address_of(transport))
            await protocol.until(lambda: len(protocol.received) == BURST)
            transport.sendto(b"x", peer.getsockname())
            assert await loop.sock_recv(peer, 100) == b"x"

    run(scenario())
