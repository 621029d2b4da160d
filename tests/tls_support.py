"""What the tests of TLS share: contexts for a run, the two ways of doing TLS, and peers in a test's own hands."""

import asyncio
import contextlib
import functools
import ssl

import trustme
from support import LOCALHOST, Recorder, no_leak_detection, port_of, until

HOST = "tls.example"
"""The name in the server's certificate."""

BACKENDS = ("direct", "portable")
"""How zloop does TLS: straight to OpenSSL, and through the ssl module."""


class Contexts:
    """A server's context, and a client's that trusts its certificate, which is HOST's; each is made on demand."""

    def __init__(self):
        self.authority = trustme.CA()
        self.server = self.new_server()
        self.client = self.new_client()
        self.stranger = ssl.create_default_context(cafile=None)

    def new_server(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(HOST).configure_cert(context)
        return context

    def new_client(self):
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@functools.cache
def contexts_for(backend):
    """The contexts of all tests of one TLS backend, which is chosen once for each context."""
    return Contexts()


async def stop(server):
    server.close()
    await server.wait_closed()


class Peers:
    """A protocol factory that keeps the Recorders it has made."""

    def __init__(self, factory=Recorder):
        self.factory = factory
        self.made = []

    def __call__(self):
        self.made.append(self.factory())
        return self.made[-1]

    async def first(self):
        """The first protocol, once it has its transport."""
        await until(lambda: self.made and self.made[0].transport is not None)
        return self.made[0]


def session_of(sslobj):
    """Its session. Each read loses a copy of it in the ssl module of CPython 3.11.7."""
    with no_leak_detection():
        return sslobj.session


@contextlib.asynccontextmanager
async def tls_connection(loop, tls, *, client=Recorder, accepted=Recorder, **options):
    """Both ends of a TLS connection: (client's transport, its protocol, the server's protocol)."""
    peers = Peers(accepted)
    server = await loop.create_server(peers, LOCALHOST, 0, ssl=tls.server)
    transport, protocol = await loop.create_connection(
        client, LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST, **options
    )
    accepted = await peers.first()
    sockets = [transport.get_extra_info("socket"), accepted.transport.get_extra_info("socket")]
    try:
        yield transport, protocol, accepted
    finally:
        transport.abort()
        accepted.transport.abort()
        await until(lambda: all(sock.fileno() == -1 for sock in sockets))
        await stop(server)


class RawTls:
    """The other end of a TLS connection in a test's own hands: an SSLObject over a plain socket."""

    def __init__(self, loop, sock, context, **options):
        self.loop = loop
        self.sock = sock
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self.incoming, self.outgoing, **options)

    async def do(self, operation, *args):
        """operation(*args) of the SSLObject, and what has to be sent and received for it."""
        while True:
            try:
                result = operation(*args)
            except ssl.SSLWantReadError:
                await self.send()
                self.incoming.write(await self.loop.sock_recv(self.sock, 65536))
            else:
                await self.send()
                return result

    async def shake_hands_but_hold_the_end(self):
        """The handshake; what its end has to send goes with the next send()."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return self.object.do_handshake()
            await self.send()
            self.incoming.write(await self.loop.sock_recv(self.sock, 65536))

    async def send(self):
        await self.loop.sock_sendall(self.sock, self.outgoing.read())

    def sealed(self, *messages):
        """Each message as the bytes of a record that would be sent for it."""
        return [self.object.write(message) and self.outgoing.read() for message in messages]

    async def receive(self, count):
        """Read so many bytes."""
        received = bytearray()
        while len(received) < count:
            received += await self.do(self.object.read, count - len(received))
        return bytes(received)


@contextlib.asynccontextmanager
async def connection_to_raw(loop, tls, sockets, protocol_factory=Recorder, *, context=None, **options):
    """A client of the loop and a server in the test's hands, over a pair of sockets: (transport, protocol, peer)."""
    left, right = sockets
    peer = RawTls(loop, right, context or tls.server, server_side=True)
    shaking = loop.create_task(peer.do(peer.object.do_handshake))
    transport, protocol = await loop.create_connection(
        protocol_factory, sock=left, ssl=tls.client, server_hostname=HOST, **options
    )
    await shaking
    try:
        yield transport, protocol, peer
    finally:
        transport.abort()
        await until(lambda: left.fileno() == -1)


async def all_tasks_done():
    """Wait for every other task of the loop."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
