"""What the sweeps of memory_out_program.py share: allocations that fail, turns of a loop, and its connections."""

import asyncio
import contextlib
import ctypes
import errno
import functools
import gc
import importlib
import os
import socket
import sys

LOCALHOST = "127.0.0.1"
WIDTHS = (1, 100)
"""So many allocations fail. Not all of them: CPython tries to begin its exception handlers until it can."""

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


# ---- failing allocations


@contextlib.contextmanager
def memory_out(n, width):
    """Each allocation from the n-th on fails, `width` of them."""
    begin, end = allocator()
    begin(n, width)
    try:
        yield
    finally:
        end()


@functools.cache
def allocator():
    """What makes its allocations fail, from the n-th on so many, and what ends that."""
    if sys.argv[1] == "python":
        import _testcapi

        return lambda n, width: _testcapi.set_nomemory(n, n + width), _testcapi.remove_mem_hooks
    fail = ctypes.CDLL(sys.argv[1]).fail_allocations
    fail.argtypes = (ctypes.c_long, ctypes.c_long)
    return fail, lambda: fail(0, 0)


def descriptors(expected=None):
    """How many are open. Those of garbage are not, if there are others than expected."""
    count = len(os.listdir("/proc/self/fd"))
    if count != expected:
        gc.collect()
        count = len(os.listdir("/proc/self/fd"))
    return count


def is_of_memory(exception):
    """Whether it says that memory is out: the engine does by the kernel's number for it."""
    return isinstance(exception, MemoryError) or (isinstance(exception, OSError) and exception.errno == errno.ENOMEM)


def sweep(attempt):
    """Of attempts that MemoryError leaves: until none does any more."""
    before = descriptors()
    for width in WIDTHS:
        failed = None
        for n in range(300):
            try:
                attempt(n, width)
            except (MemoryError, OSError) as exc:
                failed = n
                if not is_of_memory(exc):
                    raise
            if descriptors(before) != before:
                print("descriptors stay, at", n, width)
            if n > (failed or 0) + 10:
                break
        if failed is None:
            print("nothing failed")


def sweep_quietly(attempt, most):
    """Of attempts that no MemoryError leaves, each of which says what is wrong: until one returns True, for all ran."""
    before = descriptors()
    for width in WIDTHS:
        done = 0
        for n in range(most):
            done = done + 1 if attempt(n, width) else 0
            if descriptors(before) != before:
                print("descriptors stay, at", n, width)
                before = descriptors()
            if done > 3:
                break
        else:
            print("memory is still out, after", most)


class Turns:
    """Turns of a loop, none of which waits, with allocations failing. `failed` if one did."""

    def __init__(self, loop, n, width):
        self.loop = loop
        self.window = n, width
        self.failed = False

    def run(self, count, *before):
        self.loop._run_forever_setup()
        self.loop.stop()
        steps = (*before, *[self.loop._run_once] * count)
        try:
            with memory_out(*self.window):
                for step in steps:
                    try:
                        step()
                    except MemoryError:
                        self.failed = True
        except MemoryError:
            self.failed = True
        finally:
            self.loop._run_forever_cleanup()


def runs_until(loop, condition):
    for _ in range(500):
        loop.call_soon(loop.stop)
        loop.run_forever()
        if condition():
            return True
    return False


# ---- protocols


class Protocol(asyncio.Protocol):
    def __init__(self):
        self.made = self.lost = 0
        self.received = bytearray()
        self.exception = self.transport = None

    def connection_made(self, transport):
        self.made += 1
        self.transport = transport

    def data_received(self, data):
        self.received += data

    def connection_lost(self, exc):
        self.lost += 1
        self.exception = exc

    def is_over(self):
        """As often lost as made."""
        return self.lost == self.made <= 1


class Echo(Protocol):
    def data_received(self, data):
        self.transport.write(data)


def listen_quietly(loop):
    """Says what exception handlers are told, unless it is that memory is out, or what that did to the other end."""
    troubles = []

    def handler(_loop, context):
        exception = context.get("exception")
        troubles.append(None)
        if not isinstance(exception, (MemoryError, OSError)) and "without setting an exception" not in str(exception):
            print(context)  # the latter is what the ssl module makes of the first at times

    loop.set_exception_handler(handler)
    return troubles


@contextlib.contextmanager
def loop_that_goes_on(n, width):
    """A loop that works in the end, whatever came before: a connection echoes."""
    loop = importlib.import_module("zloop").new_event_loop()
    loop.troubles = listen_quietly(loop)
    yield loop
    left, right = socket.socketpair()
    echo, asker = Echo(), Protocol()
    transports = []
    for sock, protocol in ((left, echo), (right, asker)):
        sock.setblocking(False)
        transports.append(loop._make_socket_transport(sock, protocol))
    transports[1].write(b"ping")
    if not runs_until(loop, lambda: asker.received == b"ping"):
        print("the loop is dead, at", n, width)
    for transport in transports:
        transport.close()
    if not runs_until(loop, lambda: echo.is_over() and asker.is_over()):
        print("the loop's transports do not end, at", n, width)
    loop.close()


def pair_of_transports(loop, protocols):
    """Two transports of the loop, joined."""
    transports = []
    for sock, protocol in zip(socket.socketpair(), protocols, strict=True):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.setblocking(False)
        transports.append(loop._make_socket_transport(sock, protocol))
    runs_until(loop, lambda: all(protocol.made for protocol in protocols))
    return transports


def transport_and_peer(loop):
    """A transport of the loop, its protocol, and the other end."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    protocol = Protocol()
    transport = loop._make_socket_transport(left, protocol)
    runs_until(loop, lambda: protocol.made)
    return transport, protocol, right
