"""Datagrams: what arrives and in which order, sending, errors, flow control, and the end."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import socket
import sys
import weakref

import pytest
from datagram_support import (
    BURST,
    Recorder,
    address_of,
    counts_right,
    endpoint,
    endpoint_and_peer,
    refused_endpoint,
    send_burst,
    unix_endpoints,
)
from support import (
    LOCALHOST,
    alike,
    descriptor_closed,
    enable_debug,
    outcome_of,
    resource_warnings,
    run_bounded,
    several_turns,
    udp_socket,
    until,
)

counts_headers = sends_empty = sys.version_info >= (3, 13)


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
            return protocol.received

    assert run(scenario()) == [b"x"]


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
