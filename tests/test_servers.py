"""Servers: serving, closing, waiting for the end, and connections that cannot be accepted."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import struct
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from server_support import Echo, ServerProtocols, close_and_wait, needs_ipv6, protocol_that_must_not_be_made
from support import (
    LOCALHOST,
    Recorder,
    awaited_outcome,
    descriptor_closed,
    full_listener,
    info_of,
    listening_socket,
    outcome_of,
    port_of,
    run_script,
    several_turns,
    until,
)

HAS_CLOSE_CLIENTS = sys.version_info >= (3, 13)


# -- Server --------------------------------------------------------------------------------------------------------


def test_closed_server_is_freed_although_no_descriptor_is_ready_any_more(loop, run):
    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0)
        freed = weakref.ref(server)
        server.close()
        await server.wait_closed()
        del server
        await several_turns()
        gc.collect()
        return freed() is None

    assert run(scenario())


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
        told = [info_of(server)]
        await close_and_wait(server)
        return [*told, info_of(server)]

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


@pytest.mark.zloop_only  # asyncio does not close the accepted socket
def test_keyboard_interrupt_of_the_factory_of_a_tls_server_leaves_the_loop(loop, loop_log):
    def interrupt():
        raise KeyboardInterrupt

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server = loop.run_until_complete(loop.create_server(interrupt, LOCALHOST, 0, ssl=context))
    with socket.create_connection(server.sockets[0].getsockname()):
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(asyncio.sleep(60))
        server.close()
        loop.run_until_complete(several_turns())
    gc.collect()
    assert [entry[1].splitlines()[0] for entry in loop_log.take()] == ["Task exception was never retrieved"]
