"""getaddrinfo and getnameinfo: socket's own answers, without blocking the loop."""

import asyncio
import socket
import subprocess
import sys
import threading

import pytest
from support import LOCALHOST, awaited_outcome, enable_debug


@pytest.mark.parametrize(
    ("host", "port", "options"),
    [
        (LOCALHOST, 80, {}),
        ("localhost", 80, {"type": socket.SOCK_STREAM}),
        ("::1", 80, {"family": socket.AF_INET6}),
        (LOCALHOST, "http", {"type": socket.SOCK_STREAM}),
        (LOCALHOST, None, {"type": socket.SOCK_DGRAM}),
        (None, 80, {"flags": socket.AI_PASSIVE}),
        (b"127.0.0.1", b"80", {}),
        (LOCALHOST, 80, {"proto": socket.IPPROTO_UDP}),
        ("0x7f.1", 80, {}),
        ("127.1", 80, {}),
        ("fe80::1%lo", 80, {}),
    ],
    ids=repr,
)
def test_addresses_are_those_of_socket(loop, run, host, port, options):
    assert run(loop.getaddrinfo(host, port, **options)) == socket.getaddrinfo(host, port, **options)


@pytest.mark.parametrize(
    ("host", "port"),
    [("no.such.host.invalid", 80), (LOCALHOST, "no such service"), ("300.300.300.300", 80), (None, None), (42, 80)],
    ids=repr,
)
def test_names_that_do_not_resolve(same_as_asyncio, host, port):
    async def scenario(loop):
        return await awaited_outcome(loop.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST))

    assert same_as_asyncio(scenario).returned[1] in (socket.gaierror, TypeError)


def test_names_of_addresses(loop, run):
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert run(loop.getnameinfo((LOCALHOST, 80), flags)) == (LOCALHOST, "80")
    assert run(loop.getnameinfo((LOCALHOST, 80), socket.NI_NUMERICHOST)) == (LOCALHOST, "http")


def test_address_that_is_none(same_as_asyncio):
    async def scenario(loop):
        return [await awaited_outcome(loop.getnameinfo(address, 0)) for address in [(), ("no number", 80), "text"]]

    assert {outcome[0] for outcome in same_as_asyncio(scenario).returned} == {"raised"}


@pytest.mark.parametrize("host", ["example.org", LOCALHOST])
def test_resolver_that_a_program_replaced_is_used(loop, run, monkeypatch, host):
    """Programs replace socket.getaddrinfo, and rely on being asked, in a thread."""
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCALHOST, 4711))]
    questions = []

    def resolve(*args):
        questions.append((args, threading.get_ident()))
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert run(loop.getaddrinfo(host, 80)) == answer
    ((arguments, thread),) = questions
    assert arguments[:2] == (host, 80)
    assert thread != threading.get_ident()


def test_slow_resolver_does_not_block_the_loop(loop, run, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args: [release.wait()])

    async def scenario():
        question = loop.create_task(loop.getaddrinfo("example.org", 80))
        await asyncio.sleep(0.001)  # the loop runs
        release.set()
        return await question

    assert run(scenario()) == [True]


def test_debug_mode_gives_the_same_answers(loop, run):
    enable_debug(loop)
    assert run(loop.getaddrinfo(LOCALHOST, 80)) == socket.getaddrinfo(LOCALHOST, 80)


def test_overridden_getaddrinfo_is_asked_by_connections(make_loop):
    """Test suites and programs put their resolver into a subclass or on the loop."""
    base = type(make_loop())
    questions = []

    class Resolving(base):
        async def getaddrinfo(self, host, port, **options):
            questions.append((host, port, options))
            raise socket.gaierror(socket.EAI_NONAME, "made up")

    loop = Resolving()
    try:
        with pytest.raises(socket.gaierror, match="made up"):
            loop.run_until_complete(loop.create_connection(asyncio.Protocol, "example.org", 80))
    finally:
        loop.close()
    assert questions == [("example.org", 80, {"family": 0, "type": socket.SOCK_STREAM, "proto": 0, "flags": 0})]


# -- literals, which need no resolver ------------------------------------------------------------------------------

LITERALS = ["127.0.0.1", b"127.0.0.1", "192.0.2.1", "255.255.255.255", "::1", "::", "::ffff:127.0.0.1", "fe80::1"]
NO_LITERALS = [
    "localhost",
    "127.1",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "127.0.0.1 ",
    "1.2.3",
    "fe80::1%lo",
    ":::",
    "[::1]",
    "",
]
PORTS = [0, 80, "80", b"80", 65535, None, "", "http", 65536, -1]
FAMILIES = [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
TYPES = [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, 0]
PROTOCOLS = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP]


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
@pytest.mark.parametrize(
    "host", [*LITERALS, "0:0::0:1", "FE80::1", "127.1", "127.0.0.1 ", "::1\0", "fe80::1%lo"], ids=repr
)
def test_literals_are_answered_as_by_socket(loop, run, host, family):
    """To the types, and with the errors: by repr()."""

    async def ask_socket(*arguments):
        return socket.getaddrinfo(*arguments)

    async def scenario():
        combinations = [(port, kind, 0, 0) for port in (0, 80, True, 65535, 65536, -1, "80", None) for kind in TYPES]
        combinations += [(80, kind, protocol, 0) for kind in TYPES for protocol in PROTOCOLS]
        combinations += [(80, socket.SOCK_STREAM, 0, flag) for flag in (socket.AI_CANONNAME, socket.AI_NUMERICHOST)]
        for port, kind, protocol, flags in combinations:
            options = {"family": family, "type": kind, "proto": protocol, "flags": flags}
            expected = await awaited_outcome(ask_socket(host, port, *options.values()))
            assert repr(await awaited_outcome(loop.getaddrinfo(host, port, **options))) == repr(expected)

    run(scenario())


def test_answers_are_their_callers_own(loop, run):
    async def scenario():
        first, second = [await loop.getaddrinfo(LOCALHOST, 80, type=socket.SOCK_STREAM) for _ in range(2)]
        first.clear()
        return second, await loop.getaddrinfo(LOCALHOST, 80, type=socket.SOCK_STREAM)

    second, third = run(scenario())
    assert second == third == socket.getaddrinfo(LOCALHOST, 80, type=socket.SOCK_STREAM)


@pytest.mark.zloop_only
def test_literal_takes_no_thread(loop, run):
    run(loop.getaddrinfo(LOCALHOST, 80, type=socket.SOCK_STREAM))
    assert loop._default_executor is None


def test_literals_are_refused_like_names_at_the_end(same_as_asyncio):
    async def scenario(loop):
        await loop.shutdown_default_executor()
        return await awaited_outcome(loop.getaddrinfo(LOCALHOST, 80, type=socket.SOCK_STREAM))

    assert same_as_asyncio(scenario).returned[1] is RuntimeError


def test_audit_hooks_see_literals():
    """In a process of its own: a hook stays."""
    program = f"""
import asyncio, socket, sys, {{}} as module
events = []
sys.addaudithook(lambda event, arguments: events.append(arguments) if event == "socket.getaddrinfo" else None)
loop = module.new_event_loop()
loop.run_until_complete(loop.getaddrinfo({LOCALHOST!r}, 80, type=socket.SOCK_STREAM))
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
print(events)
"""
    seen = {
        subprocess.run(
            [sys.executable, "-P", "-c", program.format(module)], capture_output=True, text=True, check=True
        ).stdout
        for module in ("zloop", "asyncio")
    }
    assert seen == {"[('127.0.0.1', 80, 0, 1, 0)]\n"}


@pytest.mark.parametrize("host", LITERALS + NO_LITERALS, ids=repr)
def test_addresses_that_connections_get(same_as_asyncio, monkeypatch, host):
    """What is left to the resolver is the same, too; it is not asked here."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: ["asked", args])

    async def scenario(loop):
        return [
            await awaited_outcome(loop._ensure_resolved((host, port), family=family, type=kind, proto=proto, loop=loop))
            for port in PORTS
            for family in FAMILIES
            for kind in TYPES
            for proto in PROTOCOLS
        ]

    assert same_as_asyncio(scenario).raised is None


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("host", [host for host in LITERALS if isinstance(host, str)])
def test_literals_are_what_the_resolver_makes_of_them(loop, run, host, kind):
    """The C library's own answer, but found without a thread."""
    for family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in host else socket.AF_INET):
        expected = socket.getaddrinfo(host, 80, family, kind)
        assert run(loop._ensure_resolved((host, 80), family=family, type=kind, loop=loop)) == expected
    assert loop._default_executor is None


@pytest.mark.parametrize(
    "connect",
    [
        lambda loop, sock: loop.create_connection(asyncio.Protocol, "made.up", 80),
        lambda loop, sock: loop.create_connection(asyncio.Protocol, "made.up", 80, happy_eyeballs_delay=0.1),
        lambda loop, sock: loop.create_connection(asyncio.Protocol, LOCALHOST, 80, local_addr=("made.up", 0)),
        lambda loop, sock: loop.create_server(asyncio.Protocol, "made.up", 80),
        lambda loop, sock: loop.create_server(asyncio.Protocol, ["made.up", LOCALHOST], 0),
        lambda loop, sock: loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("made.up", 80)),
        lambda loop, sock: loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("made.up", 80)),
        lambda loop, sock: loop.sock_connect(sock, ("made.up", 80)),
    ],
)
def test_replaced_resolver_is_asked_for_every_name(same_as_asyncio, monkeypatch, connect):
    questions = []

    def resolve(*question):
        questions.append(question)
        raise socket.gaierror(socket.EAI_AGAIN, "made up")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def scenario(loop):
        with socket.socket() as sock:
            sock.setblocking(False)
            raised = await awaited_outcome(connect(loop, sock))
        asked = questions[:]
        questions.clear()
        return raised, asked

    raised, asked = same_as_asyncio(scenario).returned
    assert raised == ("raised", socket.gaierror, f"[Errno {socket.EAI_AGAIN}] made up")
    assert {question[0] for question in asked} == {"made.up"}
