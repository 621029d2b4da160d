"""What the system may refuse: descriptors that run out, memory for the network, connections that go before they come.

Descriptors run out for real, by a limit. The rest is made up by a library that comes before the C library, in a process
of its own (LD_PRELOAD); the script there prints what it saw, which has to be what asyncio lets it see.
"""

import asyncio
import contextlib
import errno
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
from support import (
    LOCALHOST,
    TIME_LIMIT,
    Recorder,
    awaited_outcome,
    compile_library,
    listening_socket,
    new_loop,
    outcome_of,
    run_bounded,
    run_script,
    several_turns,
    until,
)

# -- descriptors ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def descriptors_left(count):
    """Let the process open no more than that many descriptors."""
    spare = [os.dup(0) for _ in range(count + 1)]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    for fd in spare:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare[count], limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def udp_endpoint(loop, _address):
    return loop.create_datagram_endpoint(asyncio.DatagramProtocol, (LOCALHOST, 0))


# Each needs one descriptor.
OPENERS = {
    "create_connection": lambda loop, address: loop.create_connection(Recorder, *address),
    "create_connection by happy eyeballs": lambda loop, address: loop.create_connection(
        Recorder, *address, happy_eyeballs_delay=0.1
    ),
    "create_unix_connection": lambda loop, _address: loop.create_unix_connection(Recorder, "\0nobody"),
    "create_server": lambda loop, _address: loop.create_server(Recorder, LOCALHOST, 0),
    "create_unix_server": lambda loop, _address: loop.create_unix_server(Recorder, ""),
    "create_datagram_endpoint": udp_endpoint,
    "open_connection": lambda _loop, address: asyncio.open_connection(*address),
    "start_server": lambda _loop, _address: asyncio.start_server(print, LOCALHOST, 0),
    "create_subprocess_exec": lambda _loop, _address: asyncio.create_subprocess_exec("true", stdin=subprocess.PIPE),
}


def test_no_descriptor_left_to_ask_a_closed_connection_for_its_socket(loop, run):
    async def scenario():
        accepted = loop.create_future()

        class Accepting(Recorder):
            def connection_made(self, transport):
                super().connection_made(transport)
                accepted.set_result(self)

        server = await loop.create_server(Accepting, LOCALHOST, 0)
        socket.create_connection(server.sockets[0].getsockname()).close()
        protocol = await accepted
        await protocol.until_called("connection_lost")
        with descriptors_left(0):
            assert protocol.transport.get_extra_info("socket").fileno() == -1
        server.close()
        await server.wait_closed()

    run(scenario())


@pytest.mark.parametrize("name", OPENERS)
def test_no_descriptor_left(same_as_asyncio, name):
    async def scenario(loop):
        with listening_socket() as listener:
            await several_turns()
            with descriptors_left(0):
                kind, *told = await awaited_outcome(OPENERS[name](loop, listener.getsockname()))
        return kind, *(told if kind == "raised" else map(repr, told))

    kind, *raised = same_as_asyncio(scenario).returned
    if kind == "returned":
        assert name in ("create_server", "start_server")  # up to 3.12 they listen to what they can, which is nothing
        assert sys.version_info < (3, 13)
    else:
        assert issubclass(raised[0], OSError)
        assert "Too many open files" in raised[1] or "could not bind" in raised[1]


def test_no_descriptor_left_to_accept_a_connection_by_hand(same_as_asyncio):
    async def scenario(loop):
        with listening_socket() as listener, socket.create_connection(listener.getsockname()):
            with descriptors_left(0):
                refused = await awaited_outcome(loop.sock_accept(listener))
            accepted, _address = await loop.sock_accept(listener)
            accepted.close()
        return refused

    assert same_as_asyncio(scenario).returned[1:] == (OSError, "[Errno 24] Too many open files")


@pytest.mark.parametrize("exception", [SystemExit, KeyboardInterrupt])
def test_server_goes_on_where_the_report_of_no_descriptor_leaves_the_loop(same_as_asyncio, exception):
    def scenario(loop):
        made = []

        def factory():
            made.append(Recorder())
            return made[-1]

        def handler(_loop, _context):
            raise exception("enough")

        server = loop.run_until_complete(loop.create_server(factory, LOCALHOST, 0))
        with socket.create_connection(server.sockets[0].getsockname()):
            loop.set_exception_handler(handler)
            with descriptors_left(0), pytest.raises(exception, match="enough"):
                loop.run_until_complete(asyncio.sleep(TIME_LIMIT))
            run_bounded(loop, until(lambda: made and made[0].transport))
            made[0].transport.abort()
            server.close()
            run_bounded(loop, several_turns())
        return len(made)

    assert same_as_asyncio(scenario).returned == 1


@pytest.mark.parametrize("count", [0, 1])
def test_loop_runs_with_no_descriptor_left(loop_kind, count):
    """The pipe that signals come by is made when a loop runs first; a loop that has none still runs."""
    loop = new_loop(loop_kind)
    try:
        with descriptors_left(count):
            assert run_bounded(loop, asyncio.sleep(0, "ran")) == "ran"
        assert run_bounded(loop, asyncio.sleep(0, "ran again")) == "ran again"
    finally:
        loop.close()


@pytest.mark.zloop_only  # asyncio has made its pipe with the loop
def test_no_descriptor_left_for_a_signal_handler(loop):
    before = signal.getsignal(signal.SIGUSR1)
    with descriptors_left(0):
        raised = outcome_of(loop.add_signal_handler, signal.SIGUSR1, print)
    assert raised[:2] == ("raised", RuntimeError)
    assert "Too many open files" in raised[2]
    assert signal.getsignal(signal.SIGUSR1) is before
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert loop.remove_signal_handler(signal.SIGUSR1)


def test_connections_go_on_while_descriptors_are_short(loop, loop_kind, run, unhandled, monkeypatch):
    """A server that cannot accept more serves those it has."""
    monkeypatch.setattr(asyncio.constants, "ACCEPT_RETRY_DELAY", 0.05)

    async def scenario():
        peers = []

        def factory():
            peers.append(Recorder())
            return peers[-1]

        server = await loop.create_server(factory, LOCALHOST, 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address) as first, socket.socket() as second:
            first.setblocking(False)
            await until(lambda: peers and peers[0].transport)
            with descriptors_left(0):
                second.connect(address)
                await until(lambda: unhandled)
                for _ in range(3):
                    first.send(b"ping")
                    await peers[0].until_called("data_received")
                    peers[0].transport.write(b"pong")
                    assert await loop.sock_recv(first, 4) == b"pong"
                    peers[0].calls.clear()
            await until(lambda: len(peers) == 2 and peers[1].transport)
            for peer in peers:
                peer.transport.abort()
                await peer.until_called("connection_lost")
        server.close()
        await server.wait_closed()

    run(scenario())
    errors = [context["exception"] for context in unhandled]
    if loop_kind == "asyncio":  # whose timers for another try may find the server closed
        errors = [error for error in errors if not isinstance(error, ValueError)]
    assert {error.errno for error in errors} == {errno.EMFILE}


# -- what the kernel refuses once ----------------------------------------------------------------------------------

FAILING_CALLS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

/* The program sets them. As long as there are failures left, every call of the kind fails with that error. */
int send_failures = 0, accept_failures = 0, failing_error = 0;

static int fails(int *left) {
  if (*left == 0) return 0;
  --*left;
  errno = failing_error;
  return 1;
}

#define FAILING(type, name, left, parameters, arguments)                            \
  type name parameters {                                                            \
    if (fails(&left)) return -1;                                                    \
    return ((type(*) parameters)dlsym(RTLD_NEXT, #name)) arguments;                 \
  }

FAILING(ssize_t, send, send_failures, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
FAILING(ssize_t, sendto, send_failures,
        (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size),
        (fd, data, size, flags, to, to_size))
FAILING(ssize_t, sendmsg, send_failures, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
FAILING(int, sendmmsg, send_failures, (int fd, struct mmsghdr *messages, unsigned count, int flags),
        (fd, messages, count, flags))
FAILING(int, accept, accept_failures, (int fd, struct sockaddr *from, socklen_t *size), (fd, from, size))
FAILING(int, accept4, accept_failures, (int fd, struct sockaddr *from, socklen_t *size, int flags),
        (fd, from, size, flags))
"""

PRELUDE = """
import asyncio, ctypes, errno, socket
library = ctypes.CDLL(None)
asyncio.constants.ACCEPT_RETRY_DELAY = 0.01

def let_fail(calls, error, count=1):
    ctypes.c_int.in_dll(library, "failing_error").value = error
    ctypes.c_int.in_dll(library, calls + "_failures").value = count

class Telling(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self):
        self.lost = asyncio.Event()

    def error_received(self, exc):
        print("error_received", repr(exc))

    def connection_lost(self, exc):
        print("connection_lost", repr(exc))
        self.lost.set()

def tell(_loop, context):
    print(context["message"], repr(context["exception"]))
"""


@pytest.fixture(scope="module")
def failing_calls(tmp_path_factory):
    """The library that makes calls fail, as a path."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("nothing makes calls fail")
    directory = tmp_path_factory.mktemp("preload")
    source, library = directory / "failing_calls.c", directory / "failing_calls.so"
    source.write_text(FAILING_CALLS)
    return compile_library(compiler, source, library)


@pytest.fixture
def tell_alike(request, failing_calls, monkeypatch):
    """Run a coroutine function's body on both kinds of loop where calls can be made to fail; the lines it printed."""
    # A sanitizer, if there is one, has to stay the first.
    monkeypatch.setenv("LD_PRELOAD", " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(failing_calls)])))

    def compare(body):
        other = request.config.getoption("--loop-kind") or "zloop"
        script = f"""{PRELUDE}
async def main(loop):
    loop.set_exception_handler(tell)
{textwrap.indent(textwrap.dedent(body), "    ")}
loop = new_event_loop()
loop.run_until_complete(asyncio.wait_for(main(loop), {TIME_LIMIT}))
loop.close()
"""
        told = run_script("asyncio", script)
        assert run_script(other, script) == told
        return told

    return compare


def test_no_buffers_for_a_datagram(tell_alike):
    """It is told, that datagram is lost, and the endpoint goes on."""
    told = tell_alike("""
        receiver = socket.socket(type=socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(Telling, ("127.0.0.1", 0))
        let_fail("send", errno.ENOBUFS)
        transport.sendto(b"lost", receiver.getsockname())
        await asyncio.sleep(0.001)
        transport.sendto(b"sent", receiver.getsockname())
        print(await loop.sock_recv(receiver, 10))
        transport.close()
        await protocol.lost.wait()
        receiver.close()
    """)
    assert told == ["error_received OSError(105, 'No buffer space available')", "b'sent'", "connection_lost None"]


def test_no_buffers_for_a_connected_endpoint(tell_alike):
    told = tell_alike("""
        receiver = socket.socket(type=socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        transport, protocol = await loop.create_datagram_endpoint(Telling, remote_addr=receiver.getsockname())
        let_fail("send", errno.ENOBUFS)
        transport.sendto(b"lost")
        transport.sendto(b"sent")
        print(await loop.sock_recv(receiver, 10))
        transport.close()
        await protocol.lost.wait()
        receiver.close()
    """)
    assert told == ["error_received OSError(105, 'No buffer space available')", "b'sent'", "connection_lost None"]


@pytest.mark.parametrize("error", ["ENOBUFS", "EPIPE", "EHOSTUNREACH"])
def test_stream_that_cannot_be_sent_is_lost(tell_alike, error):
    """An error ends the connection, whatever it is: what was not sent would leave a hole in the stream."""
    told = tell_alike(f"""
        left, right = socket.socketpair()
        left.setblocking(False)
        transport, protocol = await loop.create_connection(Telling, sock=left)
        let_fail("send", errno.{error})
        transport.write(b"lost")
        await protocol.lost.wait()
        right.close()
    """)
    assert len(told) == 1
    assert f"{getattr(errno, error)}, " in told[0]


@pytest.mark.parametrize("error", ["EINTR", "EAGAIN"])
def test_send_that_has_to_be_repeated(tell_alike, error):
    told = tell_alike(f"""
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        transport, protocol = await loop.create_connection(Telling, sock=left)
        let_fail("send", errno.{error}, 3)
        transport.write(b"data")
        print(await loop.sock_recv(right, 10))
        transport.close()
        await protocol.lost.wait()
        right.close()
    """)
    assert told == ["b'data'", "connection_lost None"]


def test_no_buffers_for_a_plain_socket(tell_alike):
    told = tell_alike("""
        left, right = socket.socketpair()
        left.setblocking(False)
        for send in (loop.sock_sendall(left, b"data"), loop.sock_sendto(left, b"data", "nowhere")):
            let_fail("send", errno.ENOBUFS)
            try:
                await send
            except OSError as exc:
                print(repr(exc))
        left.close()
        right.close()
    """)
    assert told == ["OSError(105, 'No buffer space available')"] * 2


@pytest.mark.parametrize("error", ["ECONNABORTED", "EAGAIN", "EMFILE", "ENOBUFS"])
def test_server_that_could_not_accept_tries_again(tell_alike, error):
    """Some errors are the connection's, some the system's, of which it tells; the next connection is accepted."""
    told = tell_alike(f"""
        class Greeting(Telling):
            def connection_made(self, transport):
                transport.write(b"welcome")
                transport.close()

            def connection_lost(self, exc):
                pass

        server = await loop.create_server(Greeting, "127.0.0.1", 0)
        let_fail("accept", errno.{error})
        for _ in range(2):
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            print(await reader.read())
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()
    """)
    assert told[-2:] == ["b'welcome'"] * 2
