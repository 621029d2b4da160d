"""What the tests of connections and servers share: protocols and arguments, and the end of a server."""

import asyncio
import socket
import ssl

import pytest
from support import (
    Recorder,
    descriptor_closed,
    until,
)


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


def tls_socket():
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(socket.socket(), server_hostname="example.org")


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class ServerProtocols(list):
    """A protocol factory that keeps the protocols it makes."""

    def __call__(self):
        self.append(Recorder())
        return self[-1]

    async def until_connected(self, count):
        await until(lambda: sum("connection_made" in protocol.names() for protocol in self) >= count)


async def close_and_wait(server, *transports):
    """Close a server and these transports of its connections, and wait for their ends."""
    server.close()
    for transport in transports:
        transport.abort()
    await until(lambda: all(map(descriptor_closed, transports)))
    await server.wait_closed()
