"""Socket objects that are not Python's own: wrappers that hand calls on, and classes that override methods.

gunicorn's listeners wrap a socket; trackers, throttles and mocks override recv(), recv_into(), send() or sendmsg().
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import sys
from unittest import mock

import pytest
from support import (
    LOCALHOST,
    TIME_LIMIT,
    BufferedRecorder,
    Recorder,
    assert_silent,
    awaited_outcome,
    descriptor_closed,
    enable_debug,
    port_of,
    socket_pair,
    until,
)
from tls_support import HOST

BIG = 4 * 1024 * 1024


class Wrapper:
    """No socket, nor one by inheritance: what it lacks it gets from the socket inside. Ends as gunicorn's do."""

    def __init__(self, sock):
        self.sock = sock

    def __getattr__(self, name):
        return getattr(self.sock, name)

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Watched(socket.socket):
    """Keeps a list of the calls that move bytes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def recv(self, *args):
        self.calls.append("recv")
        return super().recv(*args)

    def recv_into(self, *args):
        self.calls.append("recv_into")
        return super().recv_into(*args)

    def send(self, *args):
        self.calls.append("send")
        return super().send(*args)

    def sendmsg(self, *args):
        self.calls.append("sendmsg")
        return super().sendmsg(*args)


class Labelled(socket.socket):
    """Overrides nothing that matters."""

    label = "mine"


def watched(sock):
    """The same descriptor under a Watched."""
    return Watched(sock.family, sock.type, sock.proto, fileno=sock.detach())


@contextlib.contextmanager
def one_end_as(kind, *, buffers=None):
    """Two connected non-blocking sockets, the first made into another kind of object. Both are closed in the end."""
    with socket_pair() as (left, right):
        if buffers is not None:
            left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        ours = kind(left)
        with contextlib.closing(ours):
            yield ours, right


async def lost(protocol):
    await protocol.until_called("connection_lost")
    await until(lambda: descriptor_closed(protocol.transport))


# -- wrappers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["create_server", "start_server"])
def test_server_takes_a_wrapped_listener(loop, run, start):
    async def answer(reader, writer):
        writer.write(await reader.readexactly(4))
        writer.close()

    def factory():
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), answer, loop=loop)

    async def scenario():
        listening = socket.socket()
        listening.bind((LOCALHOST, 0))
        if start == "create_server":
            server = await loop.create_server(factory, sock=Wrapper(listening))
        else:
            server = await asyncio.start_server(answer, sock=Wrapper(listening))
        reader, writer = await asyncio.open_connection(LOCALHOST, port_of(server))
        writer.write(b"ping")
        assert await reader.read() == b"ping"
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return listening.fileno()

    assert run(scenario()) == -1


@pytest.mark.parametrize("cleanup", [True, False])
def test_unix_server_takes_a_wrapped_listener(loop, run, tmp_path, cleanup):
    path = str(tmp_path / "socket")
    options = {"cleanup_socket": cleanup} if sys.version_info >= (3, 13) else {}

    async def scenario():
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        server = await loop.create_unix_server(Recorder, sock=Wrapper(listening), **options)
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        transport.close()
        await lost(protocol)
        server.close()
        await server.wait_closed()
        return listening.fileno(), os.path.exists(path)

    assert run(scenario()) == (-1, not (cleanup and sys.version_info >= (3, 13)))


@pytest.mark.zloop_only
def test_listener_that_its_wrapper_closes_stays_open_until_the_server_does(loop, run):
    """Otherwise the server would accept on whatever gets the number next."""

    async def scenario():
        listening = socket.socket()
        listening.bind((LOCALHOST, 0))
        wrapper = Wrapper(listening)
        server = await loop.create_server(Recorder, sock=wrapper)
        address = listening.getsockname()
        inside = wrapper.sock
        wrapper.close()
        with socket.create_connection(address):
            pass
        wrapper.sock = inside
        server.close()
        await server.wait_closed()
        return listening.fileno()

    assert run(scenario()) == -1


@pytest.mark.parametrize("start", ["create_connection", "create_unix_connection", "connect_accepted_socket"])
def test_connection_takes_a_wrapped_socket(loop, run, start):
    async def scenario():
        with one_end_as(Wrapper) as (ours, peer):
            inside = ours.sock
            transport, protocol = await getattr(loop, start)(Recorder, sock=ours)
            transport.write(b"ping")
            assert await loop.sock_recv(peer, 4) == b"ping"
            await loop.sock_sendall(peer, b"pong")
            await protocol.until(lambda: protocol.received == b"pong")
            assert transport.get_extra_info("socket").fileno() == inside.fileno()
            transport.close()
            await protocol.until_called("connection_lost")
            assert await loop.sock_recv(peer, 1) == b""
            return inside.fileno()

    assert run(scenario()) == -1


def test_open_connection_takes_a_wrapped_socket(loop, run):
    async def scenario():
        with one_end_as(Wrapper) as (ours, peer):
            reader, writer = await asyncio.open_connection(sock=ours)
            writer.write(b"ping")
            assert await loop.sock_recv(peer, 4) == b"ping"
            peer.close()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(scenario())


def test_datagram_endpoint_takes_a_wrapped_socket(loop, run):
    class Endpoint(asyncio.DatagramProtocol):
        def __init__(self):
            self.received = loop.create_future()
            self.lost = loop.create_future()

        def datagram_received(self, data, addr):
            self.received.set_result((data, addr))

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def scenario():
        with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
            ours.bind((LOCALHOST, 0))
            peer.bind((LOCALHOST, 0))
            peer.setblocking(False)
            transport, protocol = await loop.create_datagram_endpoint(Endpoint, sock=Wrapper(ours))
            transport.sendto(b"ping", peer.getsockname())
            data, address = await loop.sock_recvfrom(peer, 10)
            assert (data, address) == (b"ping", ours.getsockname())
            peer.sendto(b"pong", address)
            assert await protocol.received == (b"pong", peer.getsockname())
            transport.close()
            return await protocol.lost

    assert run(scenario()) is None


@pytest.mark.parametrize("method", ["create_server", "create_connection", "connect_accepted_socket"])
def test_wrapped_socket_of_another_kind_is_refused(same_as_asyncio, method):
    async def scenario(loop):
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            kind, *rest = await awaited_outcome(getattr(loop, method)(Recorder, sock=Wrapper(sock)))
            return kind, rest[0]

    assert same_as_asyncio(scenario).returned == ("raised", ValueError)


def test_sock_methods_take_a_wrapped_socket(loop, run):
    async def scenario():
        with one_end_as(Wrapper) as (ours, peer):
            await loop.sock_sendall(ours, b"ping")
            assert await loop.sock_recv(peer, 4) == b"ping"
            receiving = loop.create_task(loop.sock_recv(ours, 4))
            await asyncio.sleep(0)
            await loop.sock_sendall(peer, b"pong")
            assert await receiving == b"pong"

    run(scenario())


# -- methods that a class overrides --------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_methods_that_a_class_overrides_are_called(loop, run, factory):
    async def scenario():
        with one_end_as(watched) as (ours, peer):
            transport, protocol = await loop.create_connection(factory, sock=ours)
            transport.write(b"ping")
            assert ours.calls.count("send") == 1
            assert await loop.sock_recv(peer, 4) == b"ping"
            await loop.sock_sendall(peer, b"pong")
            await protocol.until(lambda: protocol.received == b"pong")
            assert ("recv_into" if factory is BufferedRecorder else "recv") in ours.calls
            transport.close()
            await lost(protocol)
            return ours.fileno()

    assert run(scenario()) == -1


def test_everything_that_is_written_goes_by_the_overridden_methods(loop, run):
    sent = []

    class Throttled(Watched):
        def send(self, data):
            count = socket.socket.send(self, data[:10_000])
            sent.append(count)
            return count

        def sendmsg(self, chunks):
            count = socket.socket.send(self, bytes(next(iter(chunks)))[:10_000])
            sent.append(count)
            return count

    def throttled(sock):
        return Throttled(sock.family, sock.type, sock.proto, fileno=sock.detach())

    async def scenario():
        data = os.urandom(1_000_000)
        with one_end_as(throttled, buffers=32768) as (ours, peer):
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            transport.write(data[:400_000])
            transport.writelines([data[400_000:400_001], data[400_001:]])
            received = b""
            while len(received) < len(data):
                received += await loop.sock_recv(peer, 100_000)
            transport.close()
            await lost(protocol)
            assert sum(sent) == len(data)
            assert max(sent) <= 10_000
            return received == data

    assert run(scenario())


@pytest.mark.parametrize("method", ["recv", "send"])
def test_method_that_an_object_was_given(loop, run, method):
    """Mocks are put into one object."""

    async def scenario():
        with one_end_as(watched) as (ours, peer):
            with mock.patch.object(ours, method, wraps=getattr(ours, method)) as double:
                transport, protocol = await loop.create_connection(Recorder, sock=ours)
                transport.write(b"ping")
                await loop.sock_sendall(peer, b"pong")
                await protocol.until(lambda: protocol.received == b"pong")
                transport.close()
                await lost(protocol)
            assert double.called

    run(scenario())


def test_error_of_an_overridden_method_ends_the_connection(loop, run):
    class Failing(Watched):
        def recv(self, *args):
            raise ConnectionResetError("as if")

    def failing(sock):
        return Failing(sock.family, sock.type, sock.proto, fileno=sock.detach())

    async def scenario():
        with one_end_as(failing) as (ours, peer):
            _transport, protocol = await loop.create_connection(Recorder, sock=ours)
            await loop.sock_sendall(peer, b"x")
            exc = await protocol.until_called("connection_lost")
            await lost(protocol)
            return type(exc), str(exc)

    assert run(scenario()) == (ConnectionResetError, "as if")


def test_tls_goes_by_the_overridden_methods(loop, run, tls):
    async def scenario():
        with one_end_as(watched) as (ours, theirs):
            server, client = await asyncio.gather(
                loop.connect_accepted_socket(Recorder, theirs, ssl=tls.server),
                loop.create_connection(Recorder, sock=ours, ssl=tls.client, server_hostname=HOST),
            )
            await exchange(*server, *client)
            assert {"recv_into", "send"} <= set(ours.calls)

    run(scenario())


def test_start_tls_over_the_overridden_methods(loop, run, tls):
    async def scenario():
        with one_end_as(watched) as (ours, theirs):
            accepted, acceptor = await loop.connect_accepted_socket(Recorder, theirs)
            plain, connector = await loop.create_connection(Recorder, sock=ours)
            ours.calls.clear()
            server, client = await asyncio.gather(
                loop.start_tls(accepted, acceptor, tls.server, server_side=True),
                loop.start_tls(plain, connector, tls.client, server_hostname=HOST),
            )
            await exchange(server, acceptor, client, connector)
            assert {"recv_into", "send"} <= set(ours.calls)

    run(scenario())


async def exchange(server, acceptor, client, connector):
    client.write(b"ping" * 10_000)
    await acceptor.until(lambda: acceptor.received == b"ping" * 10_000)
    server.write(b"pong")
    await connector.until(lambda: connector.received == b"pong")
    assert isinstance(client.get_extra_info("ssl_object"), ssl.SSLObject)
    client.close()
    await acceptor.until_called("connection_lost")
    await connector.until_called("connection_lost")


def test_sendfile_over_a_socket_with_methods_of_its_own(loop, run, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(100_000))

    async def scenario():
        with one_end_as(watched) as (ours, peer), path.open("rb") as file:
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            transport.write(b"before")
            sending = loop.create_task(loop.sendfile(transport, file))
            received = b""
            while len(received) < 100_006:
                received += await loop.sock_recv(peer, 65536)
            assert await sending == 100_000
            transport.write(b"behind")
            assert await loop.sock_recv(peer, 6) == b"behind"
            transport.close()
            await lost(protocol)
            return received

    assert run(scenario()) == b"before" + path.read_bytes()


def test_descriptor_of_such_a_transport_is_its_own(loop, run):
    async def scenario():
        with one_end_as(watched) as (ours, _peer):
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            for method in (loop.add_reader, loop.add_writer):
                with pytest.raises(RuntimeError, match="is used by transport"):
                    method(ours.fileno(), print)
            told = loop._transports[ours.fileno()] is transport, "read=polling" in repr(transport)
            assert loop._selector.get_key(ours.fileno()).fd == ours.fileno()
            transport.pause_reading()
            with pytest.raises(KeyError):
                loop._selector.get_key(ours.fileno())
            transport.close()
            await lost(protocol)
            return told

    assert run(scenario()) == (True, True)


def test_flow_control_of_such_a_transport(loop, run):
    async def scenario():
        with one_end_as(watched, buffers=32768) as (ours, peer):
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            transport.write(b"x" * BIG)
            assert protocol.names()[-1] == "pause_writing"
            count = 0
            while count < BIG:
                count += len(await loop.sock_recv(peer, 1 << 20))
            await protocol.until_called("resume_writing")
            transport.close()
            await lost(protocol)

    run(scenario())


def test_datagram_methods_that_a_class_overrides_are_called(loop, run):
    class WatchedDatagrams(socket.socket):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.calls = []

        def recvfrom(self, *args):
            self.calls.append("recvfrom")
            return super().recvfrom(*args)

        def sendto(self, *args):
            self.calls.append("sendto")
            return super().sendto(*args)

    class Endpoint(asyncio.DatagramProtocol):
        def __init__(self):
            self.received = loop.create_future()
            self.lost = loop.create_future()

        def datagram_received(self, data, addr):
            self.received.set_result(data)

        def connection_lost(self, exc):
            self.lost.set_result(exc)

    async def scenario():
        with WatchedDatagrams(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as peer:
            ours.bind((LOCALHOST, 0))
            peer.bind((LOCALHOST, 0))
            transport, protocol = await loop.create_datagram_endpoint(Endpoint, sock=ours)
            transport.sendto(b"ping", peer.getsockname())
            peer.sendto(b"pong", ours.getsockname())
            assert await protocol.received == b"pong"
            assert {"recvfrom", "sendto"} <= set(ours.calls)
            transport.close()
            await protocol.lost

    run(scenario())


# -- listeners -----------------------------------------------------------------------------------------------------


class OwnAccept(socket.socket):
    """Hands out connections of its own class."""

    def accept(self):
        connection, address = super().accept()
        return watched(connection), address


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_connections_are_what_an_overridden_accept_returns(loop, run, tls, wrapped, secure):
    async def scenario():
        listener = OwnAccept()
        listener.bind((LOCALHOST, 0))
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(
            factory, sock=Wrapper(listener) if wrapped else listener, ssl=tls.server if secure else None
        )
        options = {"ssl": tls.client, "server_hostname": HOST} if secure else {}
        transport, protocol = await loop.create_connection(Recorder, *listener.getsockname(), **options)
        await until(lambda: protocols and protocols[0].transport)
        accepted = protocols[0].transport
        assert type(accepted.get_extra_info("socket")._sock) is Watched
        transport.write(b"ping")
        await protocols[0].until(lambda: protocols[0].received == b"ping")
        if sys.version_info >= (3, 13):
            server.close_clients()
        else:
            accepted.close()
        await protocols[0].until_called("connection_lost")
        await protocol.until_called("connection_lost")
        server.close()
        await server.wait_closed()
        return listener.fileno()

    assert run(scenario()) == -1


def test_connections_of_a_subclass_that_overrides_nothing(loop, run):
    """socket.accept() makes plain ones, whatever the listener is."""

    async def scenario():
        listener = Labelled()
        listener.bind((LOCALHOST, 0))
        protocol = Recorder()
        server = await loop.create_server(lambda: protocol, sock=listener)
        with socket.create_connection(listener.getsockname()):
            await protocol.until_called("connection_made")
            assert type(protocol.transport.get_extra_info("socket")._sock) is socket.socket
        await lost(protocol)
        server.close()
        await server.wait_closed()

    run(scenario())


def test_class_in_the_place_of_pythons_overrides_methods(loop, run, monkeypatch):
    """Accepted and made connections are of it, and go by its methods."""

    async def scenario():
        monkeypatch.setattr(socket, "socket", Watched)
        accepted = Recorder()
        server = await loop.create_server(lambda: accepted, LOCALHOST, 0)
        transport, protocol = await loop.create_connection(Recorder, LOCALHOST, port_of(server))
        transport.write(b"ping")
        await accepted.until(lambda: accepted.received == b"ping")
        ends = [each.get_extra_info("socket")._sock for each in (transport, accepted.transport)]
        assert [type(end) for end in ends] == [Watched, Watched]
        assert ends[0].calls.count("send") == 1
        assert "recv" in ends[1].calls
        transport.close()
        await lost(protocol)
        await lost(accepted)
        server.close()
        await server.wait_closed()

    run(scenario())


@pytest.mark.zloop_only  # asyncio's accepted connections would go by it
def test_what_is_put_into_pythons_class_itself_is_passed_by(loop, run, monkeypatch):
    """Whoever does that looks for calls that block: what such a tool sees run is to be what runs without it."""
    plain = socket.socket.recv

    def guarded(self, *args):
        assert self.getblocking()
        return plain(self, *args)

    async def scenario():
        monkeypatch.setattr(socket.socket, "recv", guarded, raising=False)
        with socket_pair() as (ours, peer):
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            peer.send(b"ping")
            await protocol.until(lambda: protocol.received == b"ping")
            transport.close()
            await lost(protocol)

    run(scenario())


def test_loop_that_is_closed_while_such_a_server_listens(make_loop):
    loop = make_loop()
    with assert_silent(loop), OwnAccept() as listener:
        listener.bind((LOCALHOST, 0))
        server = loop.run_until_complete(loop.create_server(Recorder, sock=listener))
        loop.close()
        del server


def test_debug_mode_tells_of_connections_of_ones_own(loop, run, caplog):
    enable_debug(loop)
    caplog.set_level(logging.DEBUG, logger="asyncio")

    async def scenario():
        async with asyncio.timeout(TIME_LIMIT):
            with one_end_as(watched) as (ours, peer):
                transport, protocol = await loop.create_connection(Recorder, sock=ours)
                transport.pause_reading()
                transport.resume_reading()
                await loop.sock_sendall(peer, b"x")
                await protocol.until(lambda: protocol.received == b"x")
                transport.abort()
                await lost(protocol)

    run(scenario())
    told = [record.getMessage().rpartition("> ")[2] for record in caplog.records]
    assert [text for text in told if "reading" in text] == ["pauses reading", "resumes reading"]


# -- what a program has put into asyncio's transport classes -------------------------------------------------------


@pytest.mark.parametrize("kind", [asyncio.BaseTransport, asyncio.Transport])
@pytest.mark.parametrize(
    "arguments",
    [(("peername",), {}), (("x", None), {}), (("x",), {"default": 1}), ((), {"name": "x"}), ((), {})],
    ids=repr,
)
def test_mock_of_get_extra_info(same_as_asyncio, kind, arguments):
    args, kwargs = arguments

    async def scenario(loop):
        with socket_pair() as (ours, _peer):
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            try:
                with mock.patch.object(kind, "get_extra_info", create=True) as double:
                    double.return_value = "mocked"
                    told = transport.get_extra_info(*args, **kwargs)
                called = double.call_args == mock.call(*args, **kwargs)
            finally:
                transport.close()
                await lost(protocol)
            return told, called

    assert same_as_asyncio(scenario).returned == ("mocked", True)


def test_function_in_the_place_of_get_extra_info(same_as_asyncio):
    def replaced(self, name, default=None):
        return type(self).__mro__[-1], name, default

    async def scenario(loop):
        with socket_pair() as (ours, _peer):
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            with mock.patch.object(asyncio.BaseTransport, "get_extra_info", replaced):
                told = transport.get_extra_info("x", 2)
            transport.close()
            await lost(protocol)
            return told

    assert same_as_asyncio(scenario).returned == (object, "x", 2)


# -- functions that a program has put into the os module -----------------------------------------------------------


def test_functions_of_the_os_module_are_looked_up_when_they_are_called(loop, run, tmp_path, monkeypatch):
    path = str(tmp_path / "socket")
    called = []

    def counting(name):
        plain = getattr(os, name)

        def count(*args, **kwargs):
            called.append(name)
            return plain(*args, **kwargs)

        monkeypatch.setattr(os, name, count)

    async def scenario():
        counting("sendfile")
        counting("stat")
        counting("unlink")
        server = await loop.create_unix_server(Recorder, path)
        server.close()
        await server.wait_closed()
        with socket_pair() as (ours, peer), open(__file__, "rb") as file:
            await loop.sock_sendfile(ours, file, 0, 100)
            assert len(await loop.sock_recv(peer, 100)) == 100

    run(scenario())
    expected = {"sendfile", "stat"} | ({"unlink"} if sys.version_info >= (3, 13) else set())
    assert expected <= set(called)


@pytest.mark.parametrize("name", ["stat", "unlink", "sendfile"])
def test_who_looks_for_blocking_calls_finds_asyncios_names_on_the_stack(loop, run, tmp_path, monkeypatch, name):
    """They are let through where asyncio makes them, by file and function."""
    removal = {"_stop_serving"} if sys.version_info >= (3, 13) else set()
    allowed = {
        "stat": {"create_unix_server"} | removal,
        "unlink": removal,
        "sendfile": {"_sock_sendfile_native_impl"},
    }[name]
    plain = getattr(os, name)
    called = set()

    def guarded(*args, **kwargs):
        frame = sys._getframe(1)
        while frame is not None:
            code = frame.f_code
            if code.co_filename == asyncio.unix_events.__file__ and code.co_name in allowed:
                called.add(code.co_name)
                return plain(*args, **kwargs)
            frame = frame.f_back
        raise AssertionError("a call that blocks")

    async def scenario():
        monkeypatch.setattr(os, name, guarded)
        server = await loop.create_unix_server(Recorder, str(tmp_path / "socket"))
        server.close()
        await server.wait_closed()
        with socket_pair() as (ours, _peer), open(__file__, "rb") as file:
            await loop.sock_sendfile(ours, file, 0, 100)
        monkeypatch.setattr(os, name, plain)

    run(scenario())
    assert called == allowed
