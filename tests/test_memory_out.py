"""Memory that is out, at each allocation of Python in turn: MemoryError; nothing crashes, leaks or stays half-made."""

import importlib.util

import pytest
from support import run_script

pytestmark = [
    pytest.mark.zloop_only,  # CPython's own loops lose descriptors, and the interpreter, in some of these
    pytest.mark.skipif(importlib.util.find_spec("_testcapi") is None, reason="nothing makes allocations fail"),
]

# Each allocation from the n-th on fails, `width` of them; 0: all of them until the block ends.
PRELUDE = """
import _testcapi, asyncio, contextlib, gc, os, socket, sys, warnings

@contextlib.contextmanager
def memory_out(n, width):
    _testcapi.set_nomemory(n, n + width if width else 0)
    try:
        yield
    finally:
        _testcapi.remove_mem_hooks()

def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))

def sweep(attempt):
    before = descriptors()
    for width in (1, 3, 0):
        failed = 0
        for n in range(300):
            try:
                attempt(n, width)
            except MemoryError:
                failed = n
            if descriptors() != before:
                print("descriptors stay, at", n, width)
            if n > failed + 10:
                break
        if not failed:
            print("nothing failed")

def sweep_quietly(attempt, most):
    # Of attempts that no MemoryError leaves, each of which says what is wrong.
    sys.unraisablehook = lambda _unraisable: None
    warnings.simplefilter("ignore", ResourceWarning)
    before = descriptors()
    for width in (1, 3, 0):
        for n in range(most):
            attempt(n, width)
            if descriptors() != before:
                print("descriptors stay, at", n, width)

def turns_without_memory(loop, count, n, width, *before):
    # They do not wait. There is to be no task: CPython's own may not outlive it (3.13.0's dict.setdefault() breaks).
    loop._run_forever_setup()
    loop.stop()
    steps = (*before, *[loop._run_once] * count)
    try:
        with memory_out(n, width):
            for step in steps:
                try:
                    step()
                except MemoryError:
                    pass
    except MemoryError:
        pass
    finally:
        loop._run_forever_cleanup()

def runs_until(loop, condition):
    for _ in range(500):
        loop.call_soon(loop.stop)
        loop.run_forever()
        if condition():
            return True
    return False

def tell(_loop, context):
    if not isinstance(context.get("exception"), (MemoryError, OSError)):
        print(context)

class Protocol(asyncio.Protocol):
    def __init__(self):
        self.made = self.lost = 0
        self.received = bytearray()
        self.exception = None

    def connection_made(self, transport):
        self.made += 1

    def data_received(self, data):
        self.received += data

    def connection_lost(self, exc):
        self.lost += 1
        self.exception = exc

first = new_event_loop()
first.run_until_complete(asyncio.sleep(0.001))
first.close()
"""


def test_loop_that_is_made():
    assert (
        run_script(
            "zloop",
            PRELUDE
            + """
def attempt(n, width):
    with memory_out(n, width):
        loop = new_event_loop()
    assert loop.run_until_complete(asyncio.sleep(0, "ran")) == "ran"
    loop.close()

sys.unraisablehook = lambda _unraisable: None  # a loop whose __init__ has failed cannot be closed
sweep(attempt)
""",
        )
        == []
    )


def test_callbacks_that_are_scheduled():
    """What was accepted runs, once; what was not does not."""
    assert (
        run_script(
            "zloop",
            PRELUDE
            + """
def attempt(n, width):
    loop = new_event_loop()
    ran, accepted = [], [0]
    ran.extend(range(64))
    ran.clear()
    callback = lambda: ran.append(None)
    try:
        with memory_out(n, width):
            for _ in range(4):
                loop.call_soon(callback)
                accepted[0] += 1
                loop.call_later(0, callback)
                accepted[0] += 1
                loop.call_soon_threadsafe(callback)
                accepted[0] += 1
    finally:
        loop.run_until_complete(asyncio.sleep(0.001))
        if len(ran) != accepted[0]:
            print(len(ran), "of", accepted[0], "ran, at", n, width)
        loop.close()

sweep(attempt)
""",
        )
        == []
    )


def test_bytes_that_are_written():
    """What was accepted arrives, in order, or the connection ends with an exception; what was refused does not."""
    assert (
        run_script(
            "zloop",
            PRELUDE
            + """
def attempt(n, width):
    loop = new_event_loop()
    loop.set_exception_handler(tell)
    pair = left, right = socket.socketpair()
    for sock in pair:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        sock.setblocking(False)
    transport, protocol = loop.run_until_complete(loop.create_connection(Protocol, sock=left))
    chunks = [bytes([i]) * 3000 for i in range(8)]
    items = [chunks[0], bytearray(chunks[1]), memoryview(chunks[2]), chunks[3], memoryview(bytearray(chunks[4]))]
    lists = [[chunks[5], memoryview(chunks[6])], [chunks[7], chunks[7]]]
    calls = [(transport.write, item) for item in items] + [(transport.writelines, item) for item in lists]
    accepted = bytearray(len(calls))
    numbers = tuple(range(len(calls)))
    counts = [sys.getrefcount(chunk) for chunk in chunks]

    def write():
        for i in numbers:
            method, item = calls[i]
            try:
                method(item)
                accepted[i] = 1
            except MemoryError:
                accepted[i] = 2

    turns_without_memory(loop, 3, n, width, write)
    received = bytearray()

    def all_sent():
        with contextlib.suppress(BlockingIOError):
            while data := right.recv(65536):
                received.extend(data)
        return protocol.lost or transport.get_write_buffer_size() == 0

    if not runs_until(loop, all_sent):
        print("not sent, at", n, width)
    transport.close()
    if not runs_until(loop, lambda: protocol.lost):
        print("not closed, at", n, width)
    all_sent()
    written = [bytes(item) for item in items] + [b"".join(item) for item in lists]
    expected = b"".join(written[i] for i in numbers if accepted[i] == 1)
    # writelines() may have got as far as its first item.
    begun = b"".join(
        chunks[5] if i == 5 and accepted[i] == 2 else written[i] for i in numbers if accepted[i] == 1 or i == 5
    )
    if protocol.exception is None and received not in (expected, begun):
        print("something else was received, at", n, width)
    right.close()
    loop.close()
    del written
    if any(sys.getrefcount(chunk) < count for chunk, count in zip(chunks, counts, strict=True)):
        print("references were given up twice, at", n, width)

sweep_quietly(attempt, 30)
""",
        )
        == []
    )


def test_collection_at_each_allocation_while_a_loop_is_made():
    assert (
        run_script(
            "zloop",
            """
import asyncio, gc
gc.set_threshold(1)
loop = new_event_loop()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
""",
        )
        == []
    )
