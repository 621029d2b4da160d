"""Memory that connections and loops have in common: bytes of one never reach another, whatever runs meanwhile."""

import _ssl
import asyncio
import ctypes
import functools
import select
import ssl
import sys
import threading
import weakref

import pytest
from support import (
    BufferedRecorder,
    Recorder,
    close_loop,
    connection,
    new_loop,
    run_bounded,
    socket_pair,
    tcp_pair,
)
from tls_support import HOST, Contexts, RawTls, connection_to_raw

OTHERS = b"bytes of somebody else, " * 200


def receive_at_once(loop, sock):
    """What sock_recv() returns, in this very callback: as a task does that begins eagerly."""
    with pytest.raises(StopIteration) as stop:
        loop.sock_recv(sock, 65536).send(None)
    return stop.value.value


def receiving_in_callbacks(base, loop, ours, theirs, **options):
    """A protocol that receives from a socket of the program's own in each callback, before it looks at its bytes."""

    class Receiving(base):
        def receive(self):
            theirs.send(OTHERS)
            assert receive_at_once(loop, ours) == OTHERS

        def connection_made(self, transport):
            self.receive()
            super().connection_made(transport)

        def get_buffer(self, sizehint):
            self.receive()
            return memoryview(super().get_buffer(sizehint))  # asyncio takes slices of it

        def buffer_updated(self, nbytes):
            self.receive()
            super().buffer_updated(nbytes)

        def data_received(self, data):
            self.receive()
            super().data_received(data)

    return Receiving(**options)


PROTOCOLS = {"protocol": (Recorder, {}), "small buffer": (BufferedRecorder, {"size": 16})}


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_receiving_inside_the_callbacks_of_tls(loop, run, tls, kind):
    """The end of the handshake and several records come in one segment: most of it is unread in each callback."""
    base, options = PROTOCOLS[kind]
    messages = [bytes([65 + i]) * 500 for i in range(8)]

    async def scenario():
        with tcp_pair() as (left, right), socket_pair() as (ours, theirs):
            peer = RawTls(loop, right, tls.client, server_hostname=HOST)
            protocol = receiving_in_callbacks(base, loop, ours, theirs, **options)
            accepting = loop.create_task(loop.connect_accepted_socket(lambda: protocol, left, ssl=tls.server))
            await peer.shake_hands_but_hold_the_end()
            for message in messages:
                peer.object.write(message)
            await peer.send()
            transport, _protocol = await accepting
            await protocol.until(lambda: len(protocol.received) >= 4000 or transport.is_closing())
            assert protocol.received == b"".join(messages)
            transport.abort()
            await protocol.until_called("connection_lost")

    run(scenario())


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_receiving_inside_the_callbacks_of_a_plain_connection(loop, run, kind):
    base, options = PROTOCOLS[kind]

    async def scenario():
        with socket_pair() as (ours, theirs):
            factory = functools.partial(receiving_in_callbacks, base, loop, ours, theirs, **options)
            async with connection(loop, factory) as (_transport, protocol, peer):
                peer.send(b"our own bytes " * 100)
                await protocol.until(lambda: len(protocol.received) >= 1400)
                assert protocol.received == b"our own bytes " * 100

    run(scenario())


class CallbackReference(weakref.ref):
    """A weak reference that a foreign function takes as one argument more."""

    _as_parameter_ = 0


class Token:
    """What a weak reference can be to."""


class HandingOver(Recorder):
    """Its data_received() ends with bytes sent to another thread's loop, and a wait, without Python code in between.

    The interpreter is held all the time. When it is released next, that thread has been waiting for it and gets it; and
    whatever this thread is in the middle of then, the other one receives.
    """

    def __init__(self):
        super().__init__()
        self.references = []

    def prepare(self, sock, data):
        libc = ctypes.PyDLL(None)
        libc.send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
        libc.usleep.argtypes = (ctypes.c_uint,)
        self.calls_at_the_end = (
            functools.partial(libc.send, sock.fileno(), data, len(data), 0),
            functools.partial(libc.usleep, 200_000),
        )

    def data_received(self, data):
        super().data_received(data)
        first, second = Token(), Token()  # they go with this frame
        for token, call in zip((first, second), self.calls_at_the_end, strict=True):
            self.references.append(CallbackReference(token, call))
        del token


class OtherLoop(threading.Thread):
    """A loop in a thread of its own, with a TLS connection that receives a message."""

    def __init__(self, tls, message):
        super().__init__()
        self.tls = tls
        self.message = message
        self.ready = threading.Event()
        self.received = b""

    def run(self):
        loop = new_loop("zloop")
        try:
            run_bounded(loop, self.receive(loop))
        finally:
            self.ready.set()
            close_loop(loop)

    async def receive(self, loop):
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, self.tls, sockets) as (_transport, protocol, peer):
                self.sock = peer.sock
                (self.sealed,) = peer.sealed(self.message)
                self.ready.set()
                await protocol.until_called("data_received")
                self.received = protocol.received


@pytest.fixture
def eager_switching():
    """A thread that waits for the interpreter gets it when it is released next, and not only when it is asked to."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.zloop_only
@pytest.mark.skipif(not hasattr(_ssl, "__file__"), reason="the ssl module is built into this interpreter")
def test_another_loop_decrypts_while_an_error_is_asked_for(loop, run, monkeypatch, eager_switching):
    """A sound record is followed by a broken one: the interpreter is released between decrypting and passing on."""
    monkeypatch.setenv("ZLOOP_TLS", "direct")
    tls = Contexts()
    secret = b"S" * 1000

    async def scenario():
        other = OtherLoop(Contexts(), secret)
        other.start()
        await loop.run_in_executor(None, other.ready.wait)
        with tcp_pair() as sockets, tcp_pair() as more:
            async with (
                connection_to_raw(loop, tls, sockets, HandingOver) as (_transport, handing_over, peer),
                connection_to_raw(loop, tls, more) as (_other_transport, protocol, broken_peer),
            ):
                handing_over.prepare(other.sock, other.sealed)
                sound, broken = broken_peer.sealed(b"our own", b"x" * 100)
                broken = broken[:-1] + bytes([broken[-1] ^ 1])
                await asyncio.sleep(0.01)  # what was ready before does not come between
                # In one turn, in this order.
                for sender, data, receiver in (
                    (peer.sock, *peer.sealed(b"now"), sockets[0]),
                    (broken_peer.sock, sound + broken, more[0]),
                ):
                    sender.send(data)
                    select.select([receiver], [], [])
                exc = await protocol.until_called("connection_lost")
                await loop.run_in_executor(None, other.join)
                assert isinstance(exc, ssl.SSLError)
                assert protocol.received == b"our own"
                assert other.received == secret

    run(scenario())
