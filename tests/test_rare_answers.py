"""What the resolver, the socket module, protocols and handlers seldom answer: the error is asyncio's."""

import asyncio
import logging
import os
import signal
import socket

import pytest
from server_support import needs_ipv6
from support import (
    LOCALHOST,
    Recorder,
    connection,
    enable_debug,
    listening_socket,
    several_turns,
    socket_pair,
    udp_socket,
    until,
)


async def answer_nothing(*_args, **_kwargs):
    return []


OPENERS = {
    "server": lambda loop: loop.create_server(Recorder, "nobody.example", 1),
    "connection": lambda loop: loop.create_connection(Recorder, "nobody.example", 1),
    "connection from": lambda loop: loop.create_connection(Recorder, LOCALHOST, 1, local_addr=("nobody.example", 0)),
    "datagrams": lambda loop: loop.create_datagram_endpoint(Recorder, ("nobody.example", 1)),
}


@pytest.mark.parametrize("name", OPENERS)
def test_resolver_that_finds_nothing_and_says_so(same_as_asyncio, name):
    async def scenario(loop):
        loop.getaddrinfo = answer_nothing
        await OPENERS[name](loop)

    assert same_as_asyncio(scenario).raised is OSError


@pytest.mark.parametrize("why", ["absent", "refused"])
def test_port_that_cannot_be_shared(same_as_asyncio, monkeypatch, why):
    class Refusing(socket.socket):
        def setsockopt(self, level, option, *value):
            if option == getattr(socket, "SO_REUSEPORT", None):
                raise OSError("not here")
            super().setsockopt(level, option, *value)

    async def scenario(loop):
        await loop.create_server(Recorder, LOCALHOST, 0, reuse_port=True)

    if why == "absent":
        monkeypatch.delattr(socket, "SO_REUSEPORT")
    else:
        monkeypatch.setattr(socket, "socket", Refusing)
    outcome = same_as_asyncio(scenario)
    assert outcome.raised is ValueError
    assert outcome.message.startswith("reuse_port not supported by socket module")


def test_family_whose_sockets_cannot_be_made_is_skipped_and_logged(same_as_asyncio):
    async def scenario(loop):
        enable_debug(loop)
        loop.getaddrinfo = bogus
        server = await loop.create_server(Recorder, "any", 0)
        count = len(server.sockets)
        server.close()
        await server.wait_closed()
        return count

    async def bogus(*_args, **_kwargs):
        stream = socket.SOCK_STREAM
        return [(255, stream, 6, "", ("any", 0)), (socket.AF_INET, stream, 6, "", (LOCALHOST, 0))]

    outcome = same_as_asyncio(scenario)
    assert outcome.returned == 1
    assert [entry[1] for entry in outcome.logged if "create_server() failed to create socket.socket" in entry[1]]


def test_address_that_is_not_this_machines_is_skipped_and_logged(same_as_asyncio):
    """From CPython 3.13 on; before, it is an error."""

    async def scenario(loop):
        enable_debug(loop)
        server = await loop.create_server(Recorder, [LOCALHOST, "192.0.2.1"], 0)
        count = len(server.sockets)
        server.close()
        await server.wait_closed()
        return count

    outcome = same_as_asyncio(scenario)
    assert outcome.returned == 1 or outcome.raised is OSError


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_datagram_endpoint_on_another_kind_of_socket(same_as_asyncio, kind):
    async def scenario(loop):
        with socket_pair(kind) as (left, _right):
            transport, _protocol = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=left)
            transport.abort()
            await until(lambda: left.fileno() == -1)

    assert same_as_asyncio(scenario).raised in (ValueError, None)


def logged_in_debug(loop, run, scenario, caplog):
    """What asyncio's logger is told by a loop in debug mode."""
    enable_debug(loop)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        run(scenario)
    return [record.getMessage() for record in caplog.records]


def test_debug_mode_tells_of_datagram_endpoints(loop, run, caplog):
    async def scenario():
        with udp_socket() as peer:
            transport, _protocol = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=peer.getsockname()
            )
            transport.abort()
            await several_turns()

    messages = logged_in_debug(loop, run, scenario(), caplog)
    assert any(message.startswith("Datagram endpoint remote_addr=") for message in messages)


def test_debug_mode_tells_of_accepted_sockets(loop, run, caplog):
    async def scenario():
        with listening_socket() as listening, socket.create_connection(listening.getsockname()):
            accepted, _address = listening.accept()
            transport, _protocol = await loop.connect_accepted_socket(Recorder, accepted)
            transport.abort()
            await several_turns()

    messages = logged_in_debug(loop, run, scenario(), caplog)
    assert any(" handled: (" in message for message in messages)


def test_file_for_a_transport_that_takes_none(same_as_asyncio):
    async def scenario(loop):
        with udp_socket() as peer, open(__file__, "rb") as file:
            transport, _protocol = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol, remote_addr=peer.getsockname()
            )
            try:
                await loop.sendfile(transport, file)
            finally:
                transport.abort()
                await several_turns()

    assert same_as_asyncio(scenario).raised is RuntimeError


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt, ValueError])
def test_exception_handlers_that_fail_both(same_as_asyncio, exception):
    """A handler of the program's, and the default one of its loop."""

    def scenario(loop):
        def fail(*_args):
            raise ValueError("of the program's handler")

        def fail_by_default(_context):
            raise exception("of the default handler")

        loop.set_exception_handler(fail)
        loop.default_exception_handler = fail_by_default
        left = []
        try:
            loop.call_exception_handler({"message": "something"})
        except BaseException as exc:
            left.append((type(exc), str(exc)))
        return left

    outcome = same_as_asyncio(scenario)
    if exception is ValueError:
        assert outcome.returned == []
        assert outcome.logged[0][1].startswith("Exception in default exception handler while handling")
    else:
        assert outcome.returned == [(exception, "of the default handler")]


@pytest.mark.zloop_only
def test_reader_is_taken_back_by_who_has_set_it(loop):
    with socket_pair() as (left, _right):
        handle = loop._add_reader(left, print)
        other = loop.call_soon(print)
        other.cancel()
        assert not loop._take_back_reader(left.fileno(), other)
        assert loop._take_back_reader(left.fileno(), handle)
        assert not loop._take_back_reader(left.fileno(), handle)
        loop.close()
        assert loop._take_back_reader(left.fileno(), handle)


def test_exporter_that_is_not_contiguous(same_as_asyncio):
    async def scenario(loop):
        reported = []
        loop.set_exception_handler(lambda _loop, context: reported.append(type(context["exception"])))
        async with connection(loop) as (transport, _protocol, _peer):
            try:
                transport.write(memoryview(b"0123456789")[::2])
            except BaseException as exc:
                reported.append(type(exc))
            await several_turns()
            return reported, transport.is_closing()

    assert same_as_asyncio(scenario).returned == ([BufferError], True)


def test_signal_handler_cancelled_by_its_handle_is_removed_by_the_signal(same_as_asyncio):
    async def scenario(loop):
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        loop._signal_handlers[signal.SIGUSR1].cancel()
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: not loop._signal_handlers)
        return seen, signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL

    assert same_as_asyncio(scenario).returned == ([], True)


def test_memory_that_is_out_in_the_exception_handler_ends_the_run_and_the_rest_is_run_later(loop):
    def call_exception_handler(_context):
        raise MemoryError

    ran = []
    loop.call_exception_handler = call_exception_handler
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(ran.append, "after")
    with pytest.raises(MemoryError):
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["after"]


ODD_ADDRESSES = {
    "of a family that is none": lambda _port, _path: (255, ("any", 1)),
    "short": lambda port, _path: (socket.AF_INET6, ("::1", port)),
    "of the file system": lambda _port, path: (socket.AF_UNIX, path),
}


@needs_ipv6
@pytest.mark.parametrize("kind", ODD_ADDRESSES)
def test_resolver_whose_addresses_are_odd(same_as_asyncio, tmp_path, kind):
    path = str(tmp_path / "socket")

    async def scenario(loop):
        async def bogus(*_args, **_kwargs):
            return [(family, socket.SOCK_STREAM, 0, "", address)]

        with (
            socket.create_server(("::1", 0), family=socket.AF_INET6) as listening,
            socket.socket(socket.AF_UNIX) as listening_by_path,
        ):
            listening_by_path.bind(path)
            listening_by_path.listen()
            family, address = ODD_ADDRESSES[kind](listening.getsockname()[1], path)
            loop.getaddrinfo = bogus
            try:
                transport, _protocol = await loop.create_connection(Recorder, "any", 1)
                peer = transport.get_extra_info("peername")
                transport.abort()
                await several_turns()
            finally:
                os.unlink(path)
            return peer == path or peer[0]

    outcome = same_as_asyncio(scenario)
    assert outcome.raised is OSError if kind == "of a family that is none" else outcome.returned in (True, "::1")
