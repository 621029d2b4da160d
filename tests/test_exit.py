"""How a process ends whose loops have not: the interpreter ends daemon threads, takes loops apart, or is left at once.

A daemon thread that wants the interpreter's lock while the interpreter finalizes never gets it. CPython 3.11 to 3.13
end the thread by pthread_exit(), which unwinds the stack: through everything that has called Python code. From 3.14 on
the thread stops for ever.
"""

import os
import re
import subprocess
import sys
import textwrap
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import pytest
from exit_program import KINDS
from support import FREE_THREADED, NEW_EVENT_LOOP, TIME_LIMIT

pytestmark = pytest.mark.skipif(
    FREE_THREADED and sys.version_info < (3, 14),
    reason="3.13 without a GIL hangs at its end beside threads that run, on whichever loop",
)

PROGRAM = Path(__file__).with_name("exit_program.py")

PROCESSES = int(os.environ.get("ZLOOP_EXITS", "1"))
"""How many processes there are of each kind; if but one, several kinds share it."""

STATES = ("blocked,waiting,spinning", "blocked", "waiting", "spinning")
"""Those of the first process, of the second, and so on, over and over."""


def groups(names):
    names, size = list(names), 1 if PROCESSES > 1 else 4
    return [",".join(names[i : i + size]) for i in range(0, len(names), size)]


CLEAN = (0, "", "")


class End(NamedTuple):
    """How a process ended, and what it wrote."""

    status: int
    output: str
    errors: str


def end_of(*arguments):
    # An interpreter for debugging shows what others leave out unless asked.
    command = [sys.executable, "-P", "-W", "ignore::ResourceWarning", *map(str, arguments)]
    # What a thread holds is lost where it is stopped: that is no leak.
    env = os.environ | {"ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:detect_leaks=0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=2 * TIME_LIMIT, check=False)
    return End(done.returncode, done.stdout, done.stderr)


# ---- loops in daemon threads


@pytest.mark.parametrize("names", groups(name for name in KINDS if not name.startswith("tls_")))
def test_process_ends_while_a_daemon_thread_is_in_python_code(loop_kind, names):
    for states in islice(cycle(STATES), PROCESSES):
        assert end_of(PROGRAM, loop_kind, names, states) == CLEAN, states


@pytest.mark.parametrize("names", groups(name for name in KINDS if name.startswith("tls_")))
def test_process_ends_while_a_daemon_thread_is_in_python_code_over_tls(
    loop_kind, backend, names, certificate_files, monkeypatch
):
    monkeypatch.setenv("ZLOOP_TLS", backend)
    for states in islice(cycle(STATES), PROCESSES):
        assert end_of(PROGRAM, loop_kind, names, states, *certificate_files) == CLEAN, states


# ---- loops in the main thread

ENDINGS = {
    "a loop that is not closed": """
        loop = new_event_loop()
        loop.call_soon(print, "never")
        loop.call_later(1000, print, "never")
        loop.call_later(0, loop.stop)
        loop.run_forever()
        loop.call_soon(print, "never")
    """,
    "a loop that is not closed, with all that can be tied to it": """
        async def main():
            left, right = socket.socketpair()
            own, peer = socket.socketpair()
            loop.add_reader(left, print, "never")
            loop.add_writer(right, print, "never")
            transport, protocol = await loop.create_connection(asyncio.Protocol, sock=own)
            transport.write(bytes(1 << 22))
            endpoint, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            out, into = os.pipe()
            pipe, _ = await loop.connect_read_pipe(asyncio.Protocol, open(out, "rb", 0))
            return left, right, transport, peer, endpoint, server, pipe

        loop = new_event_loop()
        kept = loop.run_until_complete(main())
    """,
    "an object that goes last": """
        class Last:
            def __init__(self, name):
                self.name = name

            def __del__(self, write=os.write):
                write(1, self.name)

        loop = new_event_loop()
        loop.call_soon(print, Last(b"callback "))
        loop.call_later(1000, print, Last(b"timer "))
        loop.attribute = Last(b"attribute ")
    """,
    "a callback that is a part of a cycle": """
        class Node:
            def __del__(self, write=os.write):
                write(1, b"gone")

            def call(self):
                pass

        node = Node()
        node.loop = loop = new_event_loop()
        node.timer = loop.call_later(1000, node.call)
        loop.call_soon(node.call)
        del node, loop
    """,
    "a task that is pending": """
        async def main():
            global task
            task = loop.create_task(asyncio.sleep(1000), name="pending")
            await asyncio.sleep(0)

        loop = new_event_loop()
        loop.run_until_complete(main())
    """,
    "a loop used at exit": """
        def at_exit():
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                print(runner.run(asyncio.sleep(0.001, "ran")))

        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        atexit.register(at_exit)
    """,
    "a loop left running by sys.exit() at exit": """
        loop = new_event_loop()
        loop.call_soon(sys.exit, 3)
        atexit.register(loop.run_forever)
    """,
    "a generator that is not exhausted": """
        async def numbers():
            try:
                yield 1
            finally:
                os.write(1, b"finally")

        async def main():
            global generator
            generator = numbers()
            return await anext(generator)

        loop = new_event_loop()
        loop.run_until_complete(main())
    """,
    "a thread that is not a daemon": """
        def run():
            loop.run_until_complete(asyncio.sleep(0.05))
            loop.close()
            print("ran")

        loop = new_event_loop()
        threading.Thread(target=run).start()
    """,
    "an executor that is at work": """
        async def main():
            loop.run_in_executor(None, time.sleep, 0.05)

        loop = new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    """,
    "a class made in Python": """
        class Loop(type(new_event_loop())):
            pass

        loop = Loop()
        loop.call_soon(print, loop)
        loop.itself = loop
    """,
}

LEAVING = ("sys.exit(3)", "os._exit(3)", "raise SystemExit('a message')")

PLACES = {
    "a callback": "loop.call_soon(leave)",
    "a timer": "loop.call_later(0.001, leave)",
    "a reader": "right.send(b'x'); loop.add_reader(left, leave)",
    "a writer": "loop.add_writer(left, leave)",
    "a task": "await asyncio.sleep(0); leave()",
    "data_received": "right.send(b'x'); await loop.create_connection(Protocol, sock=left)",
    "connection_lost": "right.close(); await loop.create_connection(Protocol, sock=left)",
    "get_buffer": "right.send(b'x'); await loop.create_connection(Buffered, sock=left)",
    "datagram_received": """
        endpoint, _ = await loop.create_datagram_endpoint(Protocol, local_addr=("127.0.0.1", 0))
        endpoint.sendto(b"x", endpoint.get_extra_info("sockname"))
    """,
    "a protocol factory": """
        server = await loop.create_server(leave, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
    """,
    "an exception handler": "loop.set_exception_handler(leave); loop.call_soon(lambda: 1 / 0)",
}

PRELUDE = "import asyncio, atexit, os, socket, sys, threading, time\n"

LEAVE_FROM = """
def leave(*args):
    {leaving}

class Protocol(asyncio.Protocol, asyncio.DatagramProtocol):
    def data_received(self, data):
        leave()

    def connection_lost(self, exc):
        leave()

    def datagram_received(self, data, address):
        leave()

class Buffered(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        leave()

async def main():
    left, right = socket.socketpair()
    left.setblocking(False)
{place}
    await asyncio.sleep(10)

loop = new_event_loop()
try:
    loop.run_until_complete(main())
finally:
    print("left")
    sys.stdout.flush()
"""


def end_of_script(kind, source, *options):
    return end_of(*options, "-c", f"{PRELUDE}{NEW_EVENT_LOOP[kind]}\n{source}")


COMPLAINT = re.compile(
    r"Warning: unclosed (?:event loop|transport)|Task was destroyed|never awaited|in atexit callback"
)


def gist(end):
    """Status, words and complaints of a process. Who goes first is the collector's business."""
    return end.status, sorted(end.output.split()), set(COMPLAINT.findall(end.errors))


@pytest.mark.zloop_only
@pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["", "dev"])
@pytest.mark.parametrize("source", ENDINGS.values(), ids=ENDINGS)
def test_process_ends_as_with_asyncio(source, options):
    source = textwrap.dedent(source)
    end, reference = (end_of_script(kind, source, *options) for kind in ("zloop", "asyncio"))
    assert gist(end) == gist(reference)
    assert end.errors.count("Exception ignored") <= reference.errors.count("Exception ignored")


@pytest.mark.zloop_only
@pytest.mark.parametrize(("place", "leaving"), list(zip(PLACES.values(), cycle(LEAVING))), ids=PLACES)
def test_process_is_left_as_with_asyncio(place, leaving):
    source = LEAVE_FROM.format(leaving=leaving, place=textwrap.indent(textwrap.dedent(place), "    "))
    end, reference = (end_of_script(kind, source) for kind in ("zloop", "asyncio"))
    assert end[:2] == reference[:2]
    assert end.errors in reference.errors  # asyncio makes a task of an accepted connection, and reports that, too
