"""TLS: the way that a context's connections take, and the ssl.SSLObject that programs get, whichever it is."""

import _ssl
import ctypes
import gc
import logging
import os
import ssl
import sys
import tracemalloc
import weakref

import pytest
from support import FREE_THREADED, pattern, run_script, several_turns, tcp_pair
from tls_support import HOST, Contexts, connection_to_raw, session_of, tls_connection

DIRECT = f"straight to {ssl.OPENSSL_VERSION}"


@pytest.fixture
def chosen(caplog):
    """What the debug log says of each context's way, in order."""
    caplog.set_level(logging.DEBUG, "asyncio")
    return lambda: [record.getMessage().partition(">: ")[2] for record in caplog.records if "TLS of" in record.msg]


@pytest.fixture
def direct(monkeypatch):
    """Contexts whose connections go straight to OpenSSL."""
    if not hasattr(_ssl, "__file__"):
        pytest.skip("the ssl module is built into this interpreter")
    monkeypatch.setenv("ZLOOP_TLS", "direct")
    return Contexts()


@pytest.fixture
def traced():
    """How many bytes of Python's memory a call has taken and not given back."""
    tracemalloc.start()

    def taken(function, *args):
        before, _ = tracemalloc.get_traced_memory()
        function(*args)
        after, _ = tracemalloc.get_traced_memory()
        return after - before

    yield taken
    tracemalloc.stop()


async def talk(loop, tls, **options):
    """A message in both directions; what the server got, and what the client got."""
    async with tls_connection(loop, tls, **options) as (transport, protocol, accepted):
        transport.write(b"ping")
        await accepted.until(lambda: accepted.received == b"ping")
        accepted.transport.write(b"pong")
        await protocol.until(lambda: protocol.received == b"pong")
        return accepted.received, protocol.received


# -- the choice ----------------------------------------------------------------------------------------------------


@pytest.mark.zloop_only
@pytest.mark.skipif(not hasattr(_ssl, "__file__"), reason="the ssl module is built into this interpreter")
def test_way_is_chosen_once_for_each_context(loop, run, chosen, monkeypatch):
    monkeypatch.setenv("ZLOOP_TLS", "direct")
    tls = Contexts()
    run(talk(loop, tls))
    run(talk(loop, tls))
    assert chosen() == [DIRECT] * 2  # the client's and the server's


@pytest.mark.zloop_only
def test_environment_asks_for_the_portable_way(loop, run, chosen, monkeypatch):
    monkeypatch.setenv("ZLOOP_TLS", "portable")
    run(talk(loop, Contexts()))
    assert chosen() == ["through the ssl module, as ZLOOP_TLS demands"] * 2


def verdicts_after(change):
    """The ways that the two contexts of a connection take in a process of its own, after a change to the ssl module."""
    lines = run_script(
        "zloop",
        f"""
import asyncio, logging, ssl, sys
import _ssl
sys.path.insert(0, {os.path.dirname(__file__)!r})
{change}
from test_tls_backend import Contexts, talk
logger = logging.getLogger("asyncio")
logger.addHandler(logging.StreamHandler(sys.stdout))
logger.setLevel(logging.DEBUG)
loop = new_event_loop()
loop.run_until_complete(talk(loop, Contexts()))
loop.close()
""",
    )
    return [line.partition(">: ")[2] for line in lines if line.startswith("TLS of ")]


DIFFERENCES = {
    "another library": ("ssl.OPENSSL_VERSION = 'LibreSSL 3.9.0'", "whose library is LibreSSL 3.9.0"),
    "an old one": ("ssl.OPENSSL_VERSION_INFO = (1, 1, 1, 0, 0)", f"whose library is {ssl.OPENSSL_VERSION}"),
    "not the one that is found": ("ssl.OPENSSL_VERSION_NUMBER += 1", "whose OpenSSL is not to be found"),
    "none that is found": ("_ssl.__file__ = '/no/such/module.so'", "whose OpenSSL is not to be found"),
    "none of its own": ("del _ssl.__file__", "which is built into the interpreter"),
    "other answers": (
        "ssl.SSLContext.security_level = property(lambda self: 7)",
        "which says other things than its OpenSSL",
    ),
}


@pytest.mark.zloop_only
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_what_does_not_fit_together_is_left_alone(difference):
    """All goes on, by the portable way. What is found of the library is the process's: each has one of its own."""
    change, reason = DIFFERENCES[difference]
    assert verdicts_after(change) == [f"through the ssl module, {reason}"] * 2


def test_context_goes_when_its_last_connection_has(loop, run, monkeypatch):
    """Zloop remembers what it found of a context, but not the context."""
    monkeypatch.setenv("ZLOOP_TLS", "direct")
    tls = Contexts()
    run(talk(loop, tls))
    run(talk(loop, Contexts()))  # a loop lets go of a listening socket at its next event
    gone = [weakref.ref(tls.server), weakref.ref(tls.client)]
    del tls
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


# -- straight to OpenSSL -------------------------------------------------------------------------------------------


@pytest.mark.zloop_only
@pytest.mark.parametrize("ending", ["farewell", "wrong record"])
def test_error_that_others_have_left(loop, run, direct, ending):
    """OpenSSL's errors are queued for the thread. The ssl module takes an old one for its own: the peer sees none."""
    library = ctypes.CDLL(_ssl.__file__)
    library.BIO_new_file.restype = ctypes.c_void_p

    def leave_error():
        assert library.BIO_new_file(b"/no/such/file", b"r") is None

    async def scenario():
        with tcp_pair() as sockets:
            async with connection_to_raw(loop, direct, sockets) as (transport, protocol, peer):
                for record in peer.sealed(b"one ", b"two"):
                    for piece in (record[:7], record[7:]):
                        leave_error()
                        await loop.sock_sendall(peer.sock, piece)
                        await several_turns()
                leave_error()
                transport.write(b"an answer")
                library.ERR_clear_error()
                assert await peer.receive(9) == b"an answer"
                last = b"no record"
                if ending == "farewell":
                    with pytest.raises(ssl.SSLWantReadError):
                        peer.object.unwrap()
                    last = peer.outgoing.read()
                leave_error()
                await loop.sock_sendall(peer.sock, last)
                exc = await protocol.until_called("connection_lost")
                assert protocol.received == b"one two"
                return exc, "eof_received" in protocol.names()

    exc, at_end = run(scenario())
    library.ERR_clear_error()
    assert at_end == (ending == "farewell")
    assert exc is None if at_end else exc.library == "SSL"


@pytest.mark.zloop_only
def test_records_that_the_kernel_takes_are_made_in_memory_that_serves_again(loop, run, direct, traced):
    async def scenario():
        async with tls_connection(loop, direct) as (transport, _protocol, accepted):
            message = pattern(16384)
            taken = []
            for count in range(1, 4):
                taken.append(traced(transport.write, message))
                await accepted.until(lambda count=count: accepted.received == message * count)
            return taken[1:]

    assert max(run(scenario())) < 4096


# -- what is the program's own -------------------------------------------------------------------------------------


def test_object_class_of_the_programs_own(loop, run, tls):
    """What it does with data is done: its methods are called for every record."""
    calls = []

    class Watched(ssl.SSLObject):
        def read(self, *args):
            calls.append("read")
            return super().read(*args)

        def write(self, data):
            calls.append("write")
            return super().write(data)

    class Own:
        server = tls.server
        client = tls.new_client()

    Own.client.sslobject_class = Watched

    async def scenario():
        async with tls_connection(loop, Own) as (transport, protocol, accepted):
            assert type(transport.get_extra_info("ssl_object")) is Watched
            transport.write(b"ping")
            await accepted.until(lambda: accepted.received == b"ping")
            accepted.transport.write(b"pong")
            await protocol.until(lambda: protocol.received == b"pong")

    run(scenario())
    assert set(calls) == {"read", "write"}


def test_message_callback(loop, run, tls):
    """It sees the records of the connection, too."""
    seen = []

    class Own:
        server = tls.server
        client = tls.new_client()

    Own.client._msg_callback = lambda _conn, direction, _version, _type, _message, _data: seen.append(direction)
    run(talk(loop, Own))
    assert {"read", "write"} <= set(seen)


def test_names_by_callback_and_protocols_by_alpn(loop, run, tls):
    names = []

    class Own:
        server = tls.new_server()
        client = tls.new_client()

    Own.server.sni_callback = lambda _sslobj, name, _context: names.append(name)
    Own.server.set_alpn_protocols(["h2", "http/1.1"])
    Own.client.set_alpn_protocols(["http/1.1"])

    async def scenario():
        async with tls_connection(loop, Own) as (transport, _protocol, accepted):
            for end in (transport, accepted.transport):
                assert end.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(scenario())
    assert names == [HOST]


def test_context_changed_by_the_callback(loop, run, tls):
    """A server of many names answers with the context of the one that is asked for."""

    class Own:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = tls.client

    Own.server.sni_callback = lambda sslobj, _name, _context: setattr(sslobj, "context", tls.server)
    assert run(talk(loop, Own)) == (b"ping", b"pong")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_are_resumed(loop, run, tls, version):
    class Own:
        server = tls.new_server()
        client = tls.new_client()

    Own.server.maximum_version = version
    sessions = []

    class Resuming(ssl.SSLObject):
        def do_handshake(self):
            if sessions and session_of(self) is None:
                self.session = sessions[0]
            super().do_handshake()

    Own.client.sslobject_class = Resuming

    async def scenario():
        async with tls_connection(loop, Own) as (transport, protocol, accepted):
            accepted.transport.write(b"after the ticket")
            await protocol.until(lambda: protocol.received == b"after the ticket")
            sslobj = transport.get_extra_info("ssl_object")
            sessions.append(session_of(sslobj))
            transport.close()
            await protocol.until_called("connection_lost")
            return sslobj.session_reused

    assert run(scenario()) is False
    assert run(scenario()) is True


@pytest.mark.skipif(FREE_THREADED and sys.version_info < (3, 14), reason="3.13t's ssl module keeps the file open")
def test_keys_are_logged(loop, run, tls, tmp_path):
    class Own:
        server = tls.server
        client = tls.new_client()

    Own.client.keylog_filename = str(tmp_path / "keys")
    run(talk(loop, Own))
    assert "SERVER_HANDSHAKE_TRAFFIC_SECRET" in (tmp_path / "keys").read_text()


def test_client_certificates(loop, run, tls):
    class Own:
        server = tls.new_server()
        client = tls.new_client()

    Own.server.verify_mode = ssl.CERT_REQUIRED
    tls.authority.configure_trust(Own.server)
    tls.authority.issue_cert("client.example").configure_cert(Own.client)

    async def scenario():
        async with tls_connection(loop, Own) as (_transport, _protocol, accepted):
            assert accepted.transport.get_extra_info("peercert")["subjectAltName"] == (("DNS", "client.example"),)

    run(scenario())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="CPython 3.13 brought keys that are shared beforehand")
def test_keys_that_are_shared_beforehand(loop, run):
    """No certificate on either side: RFC 4279."""

    class Own:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    asked = []

    def key_of(identity):
        asked.append(identity)
        return b"a secret"

    for context in (Own.server, Own.client):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK")
    Own.client.check_hostname = False
    Own.client.verify_mode = ssl.CERT_NONE
    Own.server.set_psk_server_callback(key_of)
    Own.client.set_psk_client_callback(lambda _hint: ("somebody", b"a secret"))
    run(talk(loop, Own))
    assert asked == ["somebody"]


def test_certificate_asked_for_after_the_handshake(loop, run, tls):
    class Own:
        server = tls.new_server()
        client = tls.new_client()

    Own.server.verify_mode = ssl.CERT_REQUIRED
    Own.server.post_handshake_auth = Own.client.post_handshake_auth = True
    tls.authority.configure_trust(Own.server)
    tls.authority.issue_cert("client.example").configure_cert(Own.client)

    async def scenario():
        async with tls_connection(loop, Own) as (transport, protocol, accepted):
            sslobj = accepted.transport.get_extra_info("ssl_object")
            assert sslobj.getpeercert() is None
            sslobj.verify_client_post_handshake()
            accepted.transport.write(b"who are you?")
            await protocol.until(lambda: protocol.received == b"who are you?")
            transport.write(b"see my certificate")
            await accepted.until(lambda: accepted.received == b"see my certificate")
            assert sslobj.getpeercert()["subjectAltName"] == (("DNS", "client.example"),)

    run(scenario())


# -- the object ----------------------------------------------------------------------------------------------------


def test_object_answers_every_question(same_as_asyncio, tls):
    async def scenario(loop):
        async with tls_connection(loop, tls) as (transport, protocol, accepted):
            accepted.transport.write(b"after the ticket")
            await protocol.until(lambda: protocol.received == b"after the ticket")
            sslobj = transport.get_extra_info("ssl_object")
            return [
                sslobj.version(),
                sslobj.cipher(),
                sslobj.compression(),
                sslobj.pending(),
                sslobj.server_side,
                sslobj.server_hostname,
                sslobj.session_reused,
                session_of(sslobj) is not None,
                sslobj.selected_alpn_protocol(),
                len(sslobj.get_channel_binding("tls-unique")),
                sslobj.getpeercert()["subject"],
                len(sslobj.getpeercert(binary_form=True)) > 0,
                sslobj.context is tls.client,
                [cipher[0] for cipher in accepted.transport.get_extra_info("ssl_object").shared_ciphers()],
            ]

    assert same_as_asyncio(scenario).returned[0] == "TLSv1.3"


def test_object_outlives_its_connection(loop, run, tls):
    """Nothing is received and nothing sent through it any more, whatever is tried."""

    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, _accepted):
            sslobj = transport.get_extra_info("ssl_object")
            transport.abort()
            await protocol.until_called("connection_lost")
        return sslobj

    sslobj = run(scenario())
    gc.collect()
    with pytest.raises(ssl.SSLWantReadError):
        sslobj.read(1)
    assert sslobj.write(b"into the void") == 13
    with pytest.raises(ssl.SSLWantReadError):
        sslobj.unwrap()
    assert sslobj.version() == "TLSv1.3"
    assert sslobj.pending() == 0


def test_object_is_no_part_of_what_is_logged(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, _protocol, _accepted):
            return repr(transport), repr(transport._ssl_protocol)

    for text in run(scenario()):
        assert "SSLObject" not in text
        assert "secret" not in text


@pytest.mark.zloop_only
def test_transport_tells_what_it_is_over(loop, run, tls):
    async def scenario():
        async with tls_connection(loop, tls) as (transport, protocol, _accepted):
            assert repr(transport).startswith("<SSLTransport over <SocketTransport fd=")
            transport.close()
            assert repr(transport).startswith("<SSLTransport closing over <SocketTransport fd=")
            await protocol.until_called("connection_lost")
            assert repr(transport) == "<SSLTransport closed>"
            with pytest.raises(TypeError):
                type(transport)()

    run(scenario())


def test_connection_and_its_certificates_go_with_the_last_reference(loop, run, tls):
    """A protocol that keeps its transport, and is closed twice, keeps nothing else."""

    class Own:
        server = tls.server
        client = tls.new_client()

    async def scenario():
        async with tls_connection(loop, Own) as (transport, protocol, _accepted):
            transport.close()
            await protocol.until_called("connection_lost")
            transport.close()
            return protocol

    gc.disable()
    try:
        protocol = run(scenario())
        run(several_turns())
        gone = weakref.ref(Own.client)
        del Own.client
        kept = gone()
        assert protocol.transport.is_closing()
    finally:
        gc.enable()
    assert kept is None
