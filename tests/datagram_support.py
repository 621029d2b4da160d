"""What the tests of datagrams share: a protocol that keeps a record, endpoints, and sockets beside them."""

import asyncio
import contextlib
import socket
import sys

from support import (
    LOCALHOST,
    _Record,
    descriptor_closed,
    udp_socket,
    until,
)

BURST = 20
"""More datagrams than one system call receives."""


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
