"""Servers that accept: connections that cannot be made, and code that ends the server or the loop meanwhile."""

import os
import socket

import pytest
from support import LOCALHOST, Recorder, enable_debug, port_of, several_turns, until


@pytest.mark.zloop_only  # asyncio accepts what is left of the burst
def test_factory_that_closes_its_server_gets_no_more_of_the_burst(loop, run):
    async def scenario():
        made = []

        def factory():
            server.close()
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, LOCALHOST, 0)
        clients = [socket.create_connection((LOCALHOST, port_of(server))) for _ in range(3)]
        await until(lambda: made)
        await several_turns()
        for protocol in made:
            if protocol.transport is not None:
                protocol.transport.abort()
        for client in clients:
            client.close()
        await server.wait_closed()
        await several_turns()
        return len(made)

    assert run(scenario()) == 1


@pytest.mark.zloop_only  # asyncio says it of the callback, again and again
def test_listening_socket_that_is_shut_down_is_reported(loop, run, unhandled):
    async def scenario():
        server = await loop.create_server(Recorder, LOCALHOST, 0)
        with socket.socket(fileno=os.dup(server.sockets[0].fileno())) as listening:
            listening.shutdown(socket.SHUT_RDWR)
            await until(lambda: unhandled)
        server.close()
        await server.wait_closed()
        return unhandled[0]

    context = run(scenario())
    assert context["message"] == "socket.accept() failed"
    assert isinstance(context["exception"], OSError)


class Refusing(socket.socket):
    """Is not made of a descriptor, and has a method of its own."""

    refusals = 0

    def __init__(self, family=-1, kind=-1, proto=-1, fileno=None):
        if fileno is not None:
            Refusing.refusals += 1
            raise ValueError("not this one")
        super().__init__(family, kind, proto, fileno)

    def recv(self, *args):
        return super().recv(*args)


@pytest.mark.zloop_only  # asyncio leaves the descriptor open
def test_connection_that_cannot_be_made_an_object_is_closed(loop, run, unhandled, monkeypatch):
    """With a class in socket.socket's place that refuses; the next one is accepted."""

    async def scenario():
        enable_debug(loop)
        peers = []

        def factory():
            peers.append(Recorder())
            return peers[-1]

        server = await loop.create_server(factory, LOCALHOST, 0)
        with socket.create_connection((LOCALHOST, port_of(server))) as first:
            first.setblocking(False)
            monkeypatch.setattr(socket, "socket", Refusing)
            await until(lambda: Refusing.refusals)
            monkeypatch.undo()
            await several_turns()
            assert first.recv(1) == b""
        with socket.create_connection((LOCALHOST, port_of(server))):
            await until(lambda: peers and peers[0].transport)
            peers[0].transport.abort()
            await several_turns()
        server.close()
        await server.wait_closed()
        return [type(context["exception"]) for context in unhandled]

    assert run(scenario()) == [ValueError]
