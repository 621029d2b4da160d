"""Wrong values for every argument of every method of a loop and of the transports.

Each argument in turn is replaced by each odd value, the others being sound. What comes of it, an exception with its
message or a result, has to be what comes of it with asyncio. (A server is an asyncio.Server, whatever the loop.)
"""

import asyncio
import contextlib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import pkgutil
import signal
import socket
import sys
import warnings

import pytest
from support import LOCALHOST, listening_socket, observe, outcome_of, several_turns, socket_pair, until

import zloop


class Odd:
    """An object that is good for nothing."""

    def __repr__(self):
        return "<odd>"


ODD_VALUES = [None, True, -1, 1.5, "in..valid", b"in..valid", (), {}, Odd(), Odd]
NOT_ODD = [
    ("fd", True),  # the test runner's standard output
    ("ssl", True),
    ("subprocess_factory", Odd),  # asyncio waits for ever for what never says that it is connected
]


class Bench:
    """Makes sound arguments, by sort; everything is closed again in the end."""

    def __init__(self, loop, stack):
        self._loop = loop
        self._stack = stack

    async def sound(self, sort):
        """A sound argument of that sort."""
        argument = getattr(self, sort)()
        return await argument if asyncio.iscoroutine(argument) and sort != "coro" else argument

    def callback(self):
        return print

    def seconds(self):
        return 3600

    def sig(self):
        return signal.SIGUSR1

    def coro(self):
        coro = asyncio.sleep(0)
        self._stack.callback(coro.close)
        return coro

    def report(self):
        return {"message": "expected"}

    def flag(self):
        return False

    def executor(self):
        return None

    def factory(self):
        return asyncio.Protocol

    def datagram_factory(self):
        return asyncio.DatagramProtocol

    def subprocess_factory(self):
        return asyncio.SubprocessProtocol

    def host(self):
        return LOCALHOST

    def port(self):
        return self._stack.enter_context(listening_socket()).getsockname()[1]

    def any_port(self):
        return 0

    def address(self):
        return LOCALHOST, self.port()

    def any_address(self):
        return LOCALHOST, 0

    def path(self):
        sock = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        sock.bind("")  # the kernel finds a name
        sock.listen()
        return sock.getsockname()

    def any_path(self):
        return ""

    def sock(self, kind=socket.SOCK_STREAM):
        """A connected one with something to read."""
        left, right = self._stack.enter_context(socket_pair(kind))
        right.send(b"data")
        return left

    def datagram_sock(self):
        return self.sock(socket.SOCK_DGRAM)

    def fd(self):
        return self.sock().fileno()

    def listener(self):
        """One with a connection to accept."""
        listener = self._stack.enter_context(listening_socket())
        self._stack.enter_context(socket.create_connection(listener.getsockname()))
        return listener

    def unconnected(self):
        sock = self._stack.enter_context(socket.socket())
        sock.setblocking(False)
        return sock

    def size(self):
        return 4

    def buffer(self):
        return bytearray(4)

    def data(self):
        return b"data"

    def lines(self):
        return [b"data"]

    def key(self):
        return "socket"

    def file(self):
        return self._stack.enter_context(open(__file__, "rb"))

    def reading_end(self):
        reading, writing = os.pipe()
        self._stack.callback(os.close, writing)
        return self._stack.enter_context(open(reading, "rb", 0))

    def writing_end(self):
        reading, writing = os.pipe()
        self._stack.callback(os.close, reading)
        return self._stack.enter_context(open(writing, "wb", 0))

    def program(self):
        return "true"

    def word(self):
        return "word"

    def loop(self):
        return self._loop

    def stream_transport(self):
        return self._opened(self._loop.connect_accepted_socket(asyncio.Protocol, self.sock()))

    def datagram_transport(self):
        # Without a peer: what differs for one that has no name is a difference on purpose.
        opening = self._loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
        return self._opened(opening)

    def read_pipe_transport(self):
        return self._opened(self._loop.connect_read_pipe(asyncio.Protocol, self.reading_end()))

    def write_pipe_transport(self):
        return self._opened(self._loop.connect_write_pipe(asyncio.Protocol, self.writing_end()))

    async def _opened(self, opening):
        transport, _protocol = await opening
        self._stack.callback(transport.close)
        return transport


# The sorts of a method's arguments, in order; after the star, the names of keywords, of which one is given, or none.
TLS = "ssl ssl_handshake_timeout ssl_shutdown_timeout"
POPEN = "stdin stdout stderr universal_newlines bufsize encoding errors text cwd env pass_fds"
METHODS = {
    "loop": {
        "call_soon": "callback",
        "call_soon_threadsafe": "callback",
        "call_later": "seconds callback",
        "create_task": "coro * name",
        "call_exception_handler": "report",
        "default_exception_handler": "report",
        "set_debug": "flag",
        "run_in_executor": "executor callback",
        "set_default_executor": "executor",
        "add_reader": "fd callback",
        "add_writer": "fd callback",
        "remove_reader": "fd",
        "remove_writer": "fd",
        "add_signal_handler": "sig callback",
        "remove_signal_handler": "sig",
        "getaddrinfo": "host port * family type proto flags",
        "getnameinfo": "address * flags",
        "sock_recv": "sock size",
        "sock_recv_into": "sock buffer",
        "sock_recvfrom": "datagram_sock size",
        "sock_recvfrom_into": "datagram_sock buffer size",
        "sock_sendall": "sock data",
        "sock_sendto": "datagram_sock data address",
        "sock_connect": "unconnected address",
        "sock_accept": "listener",
        "sock_sendfile": "sock file * offset count fallback",
        "create_connection": f"factory host port * family proto flags sock local_addr server_hostname interleave {TLS}",
        "create_server": "factory host any_port * family flags sock backlog reuse_address reuse_port "
        f"start_serving {TLS}",
        "connect_accepted_socket": f"factory sock * {TLS}",
        "create_unix_connection": f"factory path * sock server_hostname {TLS}",
        "create_unix_server": f"factory any_path * sock backlog start_serving {TLS}",
        "create_datagram_endpoint": "datagram_factory any_address * remote_addr family proto flags reuse_port "
        "allow_broadcast sock",
        "connect_read_pipe": "factory reading_end",
        "connect_write_pipe": "factory writing_end",
        "subprocess_exec": f"subprocess_factory program word * shell {POPEN}",
        "subprocess_shell": f"subprocess_factory program * shell {POPEN}",
        "sendfile": "stream_transport file * offset count fallback",
    },
    "stream_transport": {
        "write": "data",
        "writelines": "lines",
        "set_write_buffer_limits": "* high low",
        "set_protocol": "protocol",
        "get_extra_info": "key * default",
    },
    "datagram_transport": {
        "sendto": "data * addr",
        "set_write_buffer_limits": "* high low",
        "set_protocol": "protocol",
        "get_extra_info": "key * default",
    },
    "read_pipe_transport": {"set_protocol": "protocol", "get_extra_info": "key * default"},
    "write_pipe_transport": {
        "write": "data",
        "writelines": "lines",
        "set_write_buffer_limits": "* high low",
        "set_protocol": "protocol",
        "get_extra_info": "key * default",
    },
}
CASES = [
    (owner, method, place)
    for owner, methods in METHODS.items()
    for method, signature in methods.items()
    for place in signature.replace("*", " ").split()
]


async def tell(call):
    """What came of a call, in terms that two kinds of loop share. What it made is closed."""
    try:
        result = call()
        if asyncio.iscoroutine(result) or asyncio.isfuture(result):
            result = await result
    except AssertionError:  # the test runner explains those of zloop
        return "AssertionError"
    except Exception as exc:
        return type(exc).__name__, str(exc)
    if isinstance(result, tuple) and result and hasattr(result[0], "close"):
        await close_endpoint(*result)
        return f"{len(result)} things"
    for kind, close in CLOSING.items():
        if isinstance(result, kind):
            await close(result)
            return f"a {kind.__name__}"
    return repr(result)


async def close_endpoint(made, _protocol_or_address):
    if isinstance(made, asyncio.SubprocessTransport):
        await until(lambda: made.get_returncode() is not None)
    made.close()


async def cancel(handle):
    handle.cancel()


async def stop_serving(server):
    server.close()
    await server.wait_closed()


CLOSING = {asyncio.Handle: cancel, asyncio.Task: asyncio.wait_for, asyncio.Server: stop_serving}


async def attempt(loop, owner, method, place, value):
    """Call a method with that value in that place, and tell what came of it."""
    positional, _, keywords = METHODS[owner][method].partition("*")
    with contextlib.ExitStack() as stack:
        bench = Bench(loop, stack)
        target = await bench.sound(owner)
        args = [value if sort == place else await bench.sound(sort) for sort in positional.split()]
        options = {place: value} if place in keywords.split() else {}
        told = await tell(lambda: getattr(target, method)(*args, **options))
    await several_turns()
    return told


def observe_untidy(scenario, kind, log):
    """The outcome of a scenario that leaves it to the garbage collector to close what failed, as asyncio often does."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore", ResourceWarning)
        patch.setattr(sys, "unraisablehook", lambda _report: None)  # half made transports fail to tell what they are
        return observe(scenario, kind, log)


@pytest.mark.parametrize(("owner", "method", "place"), CASES)
def test_odd_values(request, loop_log, tmp_path, monkeypatch, owner, method, place):
    monkeypatch.chdir(tmp_path)  # some of the values make a path

    async def scenario(loop):
        told = []
        reports = []
        loop.set_exception_handler(lambda _loop, context: reports.append(context.get("exception")))
        for value in ODD_VALUES:
            if (place, value) in NOT_ODD:
                continue
            told.append((repr(value), await attempt(loop, owner, method, place, value)))
        return told, reports

    expected = observe_untidy(scenario, "asyncio", loop_log)
    assert expected.raised is None
    assert observe(scenario, request.config.getoption("--loop-kind") or "zloop", loop_log) == expected


def first_step(result):
    """What comes of a call's first step, if it is a coroutine's."""
    if not asyncio.iscoroutine(result):
        return type(result).__name__
    try:
        result.send(None)
    except StopIteration as stop:
        if isinstance(stop.value, tuple) and hasattr(stop.value[0], "close"):
            stop.value[0].close()
            return "done"
        return repr(stop.value)
    finally:
        result.close()
    return "waits"


# sendfile() takes a transport, and create_server() a running loop; with asyncio the others leave a child behind.
ELSEWHERE = {"sendfile", "create_server", "subprocess_exec", "subprocess_shell"}


@pytest.mark.parametrize("method", [method for method in METHODS["loop"] if method not in ELSEWHERE])
def test_closed_loop(request, loop_log, tmp_path, monkeypatch, method):
    monkeypatch.chdir(tmp_path)

    def scenario(loop):
        loop.close()
        with contextlib.ExitStack() as stack:
            bench = Bench(loop, stack)
            sorts = METHODS["loop"][method].partition("*")[0].split()
            args = [getattr(bench, sort)() for sort in sorts]
            return outcome_of(lambda: first_step(getattr(loop, method)(*args)))

    expected = observe_untidy(scenario, "asyncio", loop_log)
    assert observe(scenario, request.config.getoption("--loop-kind") or "zloop", loop_log) == expected


@pytest.mark.zloop_only
def test_closed_loop_starts_no_child(loop):
    loop.close()
    coro = loop.subprocess_exec(asyncio.SubprocessProtocol, "true")
    assert outcome_of(first_step, coro) == ("raised", RuntimeError, "Event loop is closed")


def native_methods():
    """Every method that is not written in Python, by where it is."""
    for info in pkgutil.walk_packages(zloop.__path__, "zloop."):
        spec = importlib.util.find_spec(info.name)
        if isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
            names = vars(importlib.import_module(info.name))
            for kind in {value for value in names.values() if isinstance(value, type)}:
                if kind.__module__ == info.name:
                    for name in vars(kind):
                        method = getattr(kind, name)
                        if inspect.isroutine(method) and not hasattr(method, "__self__"):
                            yield f"{info.name}.{kind.__name__}.{name}", method


@pytest.mark.zloop_only
@pytest.mark.parametrize("value", [None, Odd(), Odd])
def test_native_methods_of_something_else(value):
    """What they would take for one of their own may be no object of that size."""
    methods = dict(native_methods())
    assert len(methods) > 100
    for method in methods.values():
        with pytest.raises(TypeError):
            method(value)


# What takes over a socket or a file, given one that is closed.
TAKING_OVER = {
    "create_connection": lambda loop, sock: loop.create_connection(asyncio.Protocol, sock=sock),
    "connect_accepted_socket": lambda loop, sock: loop.connect_accepted_socket(asyncio.Protocol, sock),
    "create_server": lambda loop, sock: loop.create_server(asyncio.Protocol, sock=sock),
    "create_unix_connection": lambda loop, sock: loop.create_unix_connection(asyncio.Protocol, sock=sock),
    "create_unix_server": lambda loop, sock: loop.create_unix_server(asyncio.Protocol, sock=sock),
    "create_datagram_endpoint": lambda loop, sock: loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock),
    "connect_read_pipe": lambda loop, sock: loop.connect_read_pipe(asyncio.Protocol, sock),
    "connect_write_pipe": lambda loop, sock: loop.connect_write_pipe(asyncio.Protocol, sock),
}


@pytest.mark.parametrize("method", TAKING_OVER)
def test_closed_socket(request, loop_log, method):
    async def scenario(loop):
        kind = socket.SOCK_DGRAM if "datagram" in method else socket.SOCK_STREAM
        with socket_pair(kind) as (left, _right):
            left.close()
            return await tell(lambda: TAKING_OVER[method](loop, left))

    expected = observe_untidy(scenario, "asyncio", loop_log)
    assert expected.returned[0] in ("OSError", "ValueError")
    assert observe(scenario, request.config.getoption("--loop-kind") or "zloop", loop_log) == expected
