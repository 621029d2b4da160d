"""TLS: handshakes that fail, and those with OpenSSL's own programs."""

import asyncio
import contextlib
import gc
import resource
import shutil
import ssl
import subprocess
import weakref

import pytest
from support import (
    LOCALHOST,
    Recorder,
    alike,
    awaited_outcome,
    pattern,
    port_of,
    several_turns,
    tcp_pair,
    until,
)
from tls_support import HOST, Peers, RawTls, all_tasks_done, stop

# -- handshakes that fail ------------------------------------------------------------------------------------------


async def failed_handshake(loop, client, server, **options):
    """What a client learns, and what the server's exception handler does."""
    contexts = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    peers = Peers()
    listening = await loop.create_server(peers, LOCALHOST, 0, ssl=server)
    loop.set_debug(True)
    loop.slow_callback_duration = 60
    outcome = await awaited_outcome(
        loop.create_connection(Recorder, LOCALHOST, port_of(listening), ssl=client, server_hostname=HOST, **options)
    )
    await until(lambda: contexts)
    loop.set_debug(False)
    await stop(listening)
    seen = [(context["message"], type(context["exception"])) for context in contexts]
    return outcome[0], outcome[1], alike(str(outcome[2])).partition(" (_ssl.c")[0], seen


def test_versions_that_do_not_meet(same_as_asyncio, tls):
    client, server = tls.new_client(), tls.new_server()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    server.minimum_version = ssl.TLSVersion.TLSv1_3

    async def scenario(loop):
        return await failed_handshake(loop, client, server)

    assert same_as_asyncio(scenario).returned[0] == "raised"


def test_no_cipher_in_common(same_as_asyncio, tls):
    client, server = tls.new_client(), tls.new_server()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    server.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")

    async def scenario(loop):
        return await failed_handshake(loop, client, server)

    assert same_as_asyncio(scenario).returned[0] == "raised"


@pytest.mark.parametrize("answer", [ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME, ssl.ALERT_DESCRIPTION_ACCESS_DENIED])
def test_servers_callback_refuses_the_name(same_as_asyncio, tls, answer):
    server = tls.new_server()
    server.sni_callback = lambda _sslobj, _name, _context: answer

    async def scenario(loop):
        return await failed_handshake(loop, tls.client, server)

    assert same_as_asyncio(scenario).returned[0] == "raised"


def test_client_without_the_certificate_that_is_wanted(same_as_asyncio, tls):
    """With TLS 1.3 the client hears of it after its handshake."""
    server = tls.new_server()
    server.verify_mode = ssl.CERT_REQUIRED
    tls.authority.configure_trust(server)

    async def scenario(loop):
        contexts = []
        loop.set_exception_handler(lambda _loop, context: contexts.append(context))
        peers = Peers()
        listening = await loop.create_server(peers, LOCALHOST, 0, ssl=server)
        transport, protocol = await loop.create_connection(
            Recorder, LOCALHOST, port_of(listening), ssl=tls.client, server_hostname=HOST
        )
        exc = await protocol.until_called("connection_lost")
        await all_tasks_done()
        await stop(listening)
        return type(exc), protocol.names(), transport.is_closing(), peers.made[0].names()

    same_as_asyncio(scenario)


@pytest.mark.zloop_only  # asyncio leaves a cycle before some 3.15
@pytest.mark.parametrize("upgrade", [False, True], ids=["connection", "start_tls"])
def test_failed_handshake_leaves_no_cycles(loop, run, tls, upgrade):
    """What was held for it goes without a garbage collection."""

    async def fail(context, port):
        with pytest.raises(ssl.SSLCertVerificationError):
            if upgrade:
                transport, protocol = await loop.create_connection(asyncio.Protocol, LOCALHOST, port)
                await loop.start_tls(transport, protocol, context, server_hostname=HOST)
            else:
                await loop.create_connection(asyncio.Protocol, LOCALHOST, port, ssl=context, server_hostname=HOST)

    async def scenario():
        context = ssl.create_default_context()  # which does not know the authority
        gone = weakref.ref(context)
        if upgrade:
            server = await asyncio.start_server(upgrade_stream, LOCALHOST, 0)
        else:
            server = await loop.create_server(Recorder, LOCALHOST, 0, ssl=tls.server)
        await fail(context, port_of(server))
        del context
        await until(lambda: gone() is None)
        await all_tasks_done()
        await stop(server)

    async def upgrade_stream(_reader, writer):
        with contextlib.suppress(OSError):
            await writer.start_tls(tls.server)
        writer.close()

    gc.collect()
    gc.disable()
    try:
        run(scenario())
    finally:
        gc.enable()


def test_end_of_the_stream_in_the_handshake(loop, run, tls):

    async def scenario():
        with tcp_pair() as (left, right):
            accepting = loop.create_task(loop.connect_accepted_socket(Recorder, left, ssl=tls.server))
            await several_turns()
            peer = RawTls(loop, right, tls.client, server_hostname=HOST)
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.object.do_handshake()
            await loop.sock_sendall(right, peer.outgoing.read()[:20])
            await several_turns()
            right.close()
            outcome = await awaited_outcome(accepting)
            assert outcome[:2] == ("raised", ConnectionResetError)
            assert left.fileno() == -1

    run(scenario())


@pytest.mark.zloop_only  # a matter of seconds
def test_many_handshakes_at_once(loop, run, tls):
    """As many as there are descriptors for, up to 500; each connection gets its own answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(500, (hard - 200) // 2)

    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    async def talk(port, number):
        reader, writer = await asyncio.open_connection(LOCALHOST, port, ssl=tls.client, server_hostname=HOST)
        writer.write(b"%6d" % number)
        assert await reader.readexactly(6) == b"%6d" % number
        writer.close()
        await writer.wait_closed()

    async def scenario():
        server = await loop.create_server(Echo, LOCALHOST, 0, ssl=tls.server, backlog=count)
        await asyncio.gather(*(talk(port_of(server), number) for number in range(count)))
        await stop(server)

    try:
        run(scenario())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- OpenSSL's own programs ----------------------------------------------------------------------------------------


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")


@pytest.fixture
def certificate(tls, tmp_path):
    """The server's certificate, its key and the authority's certificate, in files."""
    issued = tls.authority.issue_cert(HOST)
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    tls.authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    return tmp_path


async def program(*arguments):
    return await asyncio.create_subprocess_exec(
        "openssl",
        *map(str, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssls_client(loop, run, tls, certificate, version):
    async def scenario():
        peers = Peers()
        server = await loop.create_server(peers, LOCALHOST, 0, ssl=tls.server)
        address = f"127.0.0.1:{port_of(server)}"
        authority = certificate / "authority.pem"
        client = await program("s_client", "-connect", address, version, "-quiet", "-servername", HOST,
                               "-verify_return_error", "-verify_hostname", HOST, "-CAfile", authority)  # fmt: skip
        client.stdin.write(b"from OpenSSL\n" + pattern(100_000))
        accepted = await peers.first()
        await accepted.until(lambda: len(accepted.received) == 100_013)
        assert accepted.received == b"from OpenSSL\n" + pattern(100_000)
        accepted.transport.write(b"to OpenSSL\n" + pattern(100_000))
        accepted.transport.close()
        output, _ = await client.communicate()
        assert output == b"to OpenSSL\n" + pattern(100_000)
        await accepted.until_called("connection_lost")
        await stop(server)

    run(scenario())


@needs_openssl
def test_renegotiation_is_refused(loop, run, tls):
    """And others are served after it."""

    async def scenario():
        peers = Peers()
        server = await loop.create_server(peers, LOCALHOST, 0, ssl=tls.server)
        client = await program(
            "s_client", "-connect", f"127.0.0.1:{port_of(server)}", "-tls1_2", "-legacy_renegotiation"
        )
        client.stdin.write(b"before\n")
        accepted = await peers.first()
        await accepted.until(lambda: accepted.received == b"before\n")
        client.stdin.write(b"R\n")
        await client.stdin.drain()
        await accepted.until_called("connection_lost")
        assert accepted.received == b"before\n"
        await client.communicate()
        transport, protocol = await loop.create_connection(
            Recorder, LOCALHOST, port_of(server), ssl=tls.client, server_hostname=HOST
        )
        transport.close()
        await protocol.until_called("connection_lost")
        await stop(server)

    run(scenario())


@needs_openssl
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssls_server(loop, run, tls, certificate, version):
    async def scenario():
        server = await program("s_server", "-accept", "127.0.0.1:0", version, "-cert", certificate / "server.pem",
                               "-key", certificate / "server.pem", "-naccept", 1, "-rev")  # fmt: skip
        port = None
        while port is None:
            line = await server.stdout.readline()
            assert line, "s_server did not start"
            if line.startswith(b"ACCEPT "):
                port = int(line.rpartition(b":")[2])
        transport, protocol = await loop.create_connection(
            Recorder, "127.0.0.1", port, ssl=tls.client, server_hostname=HOST
        )
        transport.write(b"stressed\n")
        await protocol.until(lambda: protocol.received == b"desserts\n")
        transport.close()
        await protocol.until_called("connection_lost")
        await server.communicate()

    run(scenario())
