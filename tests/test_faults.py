"""System calls that fail, each use of each call in turn: the error that came, once, and nothing left behind.

Interrupted calls, calls that are not ready and those that transfer less do not show: every byte arrives. The sweeps are
fault_program.py's; the library that makes calls fail is preloaded, so that nothing of it is in a build of zloop.
ZLOOP_FAULTS is how many uses of each call are tried.
"""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from fault_program import BROKEN, NOT_COMPARED, SCENARIOS
from support import TIME_LIMIT, compile_library, run_script

compiler = shutil.which("c++")
pytestmark = [
    pytest.mark.zloop_only,  # a sweep compares with asyncio by itself
    pytest.mark.skipif(compiler is None or sys.platform != "linux", reason="nothing makes calls fail"),
]

HERE = Path(__file__).parent
MOST = int(os.environ.get("ZLOOP_FAULTS", "1"))
COMPARED = [name for name in SCENARIOS if name not in {"signals", "tls_sendfile"}]
"""For signals zloop has other calls; and asyncio reaches the time limit of a case in most of the other."""
ALIKE = {"recvmmsg": "recvfrom"}
"""Calls of zloop that asyncio has another for."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    target = tmp_path_factory.mktemp("library") / "failing_calls.so"
    return compile_library(compiler, HERE / "failing_calls.cpp", target, "-std=c++17")


def preloading(library):
    """The environment in which calls can fail. A sanitizer comes second: then the callers are not its functions."""
    return {
        "LD_PRELOAD": f"{library} {os.environ.get('LD_PRELOAD', '')}".strip(),
        "ASAN_OPTIONS": f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0",
    }


@pytest.fixture(scope="module")
def sweep(library, certificate_files):
    """Run the sweeps of some loops over some scenarios in one process; what came of each, by both."""

    def run(kinds, names, most, *only):
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-W", "ignore::ResourceWarning", HERE / "fault_program.py", library),
                *(",".join(kinds), ",".join(names), *certificate_files, str(most), *only),
            ],
            env=os.environ | preloading(library),
            capture_output=True,
            text=True,
            timeout=20 * TIME_LIMIT,  # a case that is stuck has its own
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        told = map(json.loads, done.stdout.splitlines())
        return {(one["kind"], one["name"]): one for one in told}

    return run


@pytest.fixture(scope="module")
def of_zloop(sweep):
    return sweep(["zloop"], SCENARIOS, MOST)


@pytest.fixture(scope="module")
def of_asyncio(sweep):
    return sweep(["asyncio"], COMPARED, 1)


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_call_fails(name, of_zloop):
    done = of_zloop["zloop", name]
    assert done["wrong"] == []
    assert done["cases"] > 10


@pytest.mark.parametrize("name", COMPARED)
def test_first_use_of_each_call_fails_as_with_asyncio(name, of_zloop, of_asyncio):
    mine, reference = of_zloop["zloop", name]["outcomes"], of_asyncio["asyncio", name]["outcomes"]
    compared = 0
    for case, outcome in mine.items():
        call, *error = case.split()
        other = reference.get(" ".join((ALIKE.get(call, call), *error)))
        if other is not None:
            assert (case, outcome) == (case, other)
            compared += 1
    assert compared >= 6
    assert not any(f"{name} {case.split()[0]}" in NOT_COMPARED for case in reference)


def test_sweep_finds_loops_that_are_broken(sweep):
    found = sweep(BROKEN, ["tcp"], 1, "recv")
    for kind, complaint in {
        "Swallowing": "nobody is told",
        "Repeating": "connection_lost with [None, None]",
        "Leaking": "descriptors: ",
        "Losing": "stuck",
        "Hanging": "stuck",
    }.items():
        assert any(complaint in line for line in found[kind, "tcp"]["wrong"]), kind


def test_sweep_finds_bytes_that_change(sweep):
    """Datagrams that are cut."""
    found = sweep(["zloop"], ["cut_datagrams"], 1, "send")
    assert any("shows" in line for line in found["zloop", "cut_datagrams"]["wrong"])


PRELUDE = f"""
import asyncio, ctypes, errno, os, socket, sys
sys.path.insert(0, {str(HERE)!r})
from fault_program import Faults
faults = Faults(os.environ["LD_PRELOAD"].split()[0])
faults.choose_zloop()

class Telling(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self):
        self.lost = asyncio.Event()

    def connection_lost(self, exc):
        print("connection_lost", exc and errno.errorcode[exc.errno])
        self.lost.set()

loop = new_event_loop()
contexts = []
loop.set_exception_handler(lambda _, context: contexts.append(context))
def run(main):
    loop.run_until_complete(asyncio.wait_for(main, {TIME_LIMIT}))
    loop.close()
    for context in contexts:
        print(errno.errorcode[context["exception"].errno])
"""


@pytest.fixture
def lines_of(library, monkeypatch):
    """Run a script in which calls can be made to fail; the lines that it prints."""
    for name, value in preloading(library).items():
        monkeypatch.setenv(name, value)
    return lambda script: run_script("zloop", PRELUDE + textwrap.dedent(script))


def test_transports_that_the_system_does_not_watch_end(lines_of):
    """connection_lost() has the error, and the exception handler, as with asyncio, where nothing would ever come."""
    lines = lines_of("""
        async def main():
            near, far = socket.socketpair()
            out, into = os.pipe()
            for make in (
                lambda: loop.create_connection(Telling, sock=near),
                lambda: loop.connect_read_pipe(Telling, open(out, "rb", 0)),
                lambda: loop.connect_write_pipe(Telling, open(into, "wb", 0)),
                lambda: loop.create_datagram_endpoint(Telling, ("127.0.0.1", 0)),
            ):
                faults.plan("epoll_add", errno.ENOSPC)
                transport, protocol = await make()
                await protocol.lost.wait()
                assert transport.is_closing()
            far.close()

        run(main())
    """)
    assert lines == ["connection_lost ENOSPC"] * 4 + ["ENOSPC"] * 4


def test_loop_that_the_system_has_nothing_for_is_not_made(lines_of):
    lines = lines_of("""
        def descriptors():
            return len(os.listdir("/proc/self/fd"))

        loop.close()
        before = descriptors()
        for call in ("epoll_create1", "eventfd", "epoll_add"):
            faults.plan(call, errno.EMFILE)
            try:
                new_event_loop()
            except OSError as exc:
                print(call, errno.errorcode[exc.errno], descriptors() - before)
    """)
    assert lines == [f"{call} EMFILE 0" for call in ("epoll_create1", "eventfd", "epoll_add")]


def test_poll_that_fails_ends_the_run_and_the_loop_goes_on(lines_of):
    lines = lines_of("""
        async def main():
            await asyncio.sleep(0.001)
            faults.plan("epoll_wait", errno.EBADF)
            await asyncio.sleep(0.001)
            return "slept"

        task = loop.create_task(main())
        try:
            loop.run_until_complete(task)
        except OSError as exc:
            print(errno.errorcode[exc.errno])
        print(loop.run_until_complete(task))
        run(asyncio.sleep(0))
    """)
    assert lines == ["EBADF", "slept"]


def test_second_server_that_the_system_does_not_watch_leaves_the_socket_to_the_first(lines_of):
    lines = lines_of("""
        class Greeting(asyncio.Protocol):
            def connection_made(self, transport):
                transport.write(b"welcome")
                transport.close()

        async def main():
            listener = socket.create_server(("127.0.0.1", 0))
            first = await loop.create_server(Greeting, sock=listener)
            faults.plan("epoll_add", errno.ENOSPC)
            try:
                await loop.create_server(Telling, sock=listener)
            except OSError as exc:
                print("create_server", errno.errorcode[exc.errno])
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            print(await reader.read())
            writer.close()
            await writer.wait_closed()
            first.close()

        run(main())
    """)
    assert lines == ["create_server ENOSPC", "b'welcome'"]


def test_pipe_whose_queue_cannot_be_written_is_lost(lines_of):
    lines = lines_of("""
        async def main():
            out, into = os.pipe()
            transport, protocol = await loop.connect_write_pipe(Telling, open(into, "wb", 0))
            transport.write(bytes(1_000_000))
            assert transport.get_write_buffer_size() > 0
            faults.plan("write", errno.EIO)
            os.read(out, 500_000)
            await protocol.lost.wait()
            assert transport.get_write_buffer_size() == 0
            os.close(out)

        run(main())
    """)
    assert lines == ["connection_lost EIO"]


def test_connection_that_the_system_does_not_watch_for_room_ends(lines_of):
    """Of memory that may change afterwards: a part of it is sent, and the rest would never be."""
    lines = lines_of("""
        class Writing(Telling):
            def connection_made(self, transport):
                transport.pause_reading()
                faults.plan("epoll_add", errno.ENOSPC)
                transport.write(bytearray(10_000_000))

        async def main():
            near, far = socket.socketpair()
            transport, protocol = await loop.create_connection(Writing, sock=near)
            await protocol.lost.wait()
            assert transport.get_write_buffer_size() == 0
            far.close()

        run(main())
    """)
    assert lines == ["connection_lost ENOSPC"]


def test_datagrams_that_fail_and_are_sent_anew_for_ever_leave_the_turn_to_others(lines_of):
    lines = lines_of("""
        class Stubborn(asyncio.DatagramProtocol):
            failed = 0

            def connection_made(self, transport):
                self.transport = transport

            def error_received(self, exc):
                self.failed += 1
                self.transport.sendto(b"again")

        async def main():
            receiver = socket.socket(type=socket.SOCK_DGRAM)
            receiver.bind(("127.0.0.1", 0))
            transport, protocol = await loop.create_datagram_endpoint(Stubborn, remote_addr=receiver.getsockname())
            faults.plan("send", errno.EAGAIN)
            transport.sendto(b"first")
            transport.sendto(b"second")
            faults.plan("sendmmsg", errno.ECONNREFUSED, times=1_000_000)
            for _ in range(20):
                await asyncio.sleep(0)
            print(0 < protocol.failed < 100)
            transport.abort()
            receiver.close()

        run(main())
    """)
    assert lines == ["True"]


def test_family_that_only_the_socket_module_knows_has_errors_too(lines_of):
    lines = lines_of("""
        class Hearing(asyncio.DatagramProtocol):
            def error_received(self, exc):
                print("error_received", errno.errorcode[exc.errno])
                heard.set()

            def datagram_received(self, data, address):
                print("datagram_received", address)
                heard.set()

        async def main():
            sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
            transport, _ = await loop.create_datagram_endpoint(Hearing, sock=sock)
            faults.count_interpreter({"recvfrom"})
            faults.plan("recvfrom", errno.ENOBUFS)
            transport.sendto(struct.pack("=IHHIIB3x", 20, 18, 0x301, 1, 0, socket.AF_UNSPEC), (0, 0))
            await heard.wait()
            heard.clear()
            await heard.wait()
            transport.abort()

        import struct
        heard = asyncio.Event()
        run(main())
    """)
    assert lines[:2] == ["error_received ENOBUFS", "datagram_received (0, 0)"]


def test_file_whose_connection_is_gone_after_a_part_of_it(lines_of):
    lines = lines_of("""
        import tempfile

        async def main():
            near, far = socket.socketpair()
            near.setblocking(False)
            with tempfile.TemporaryFile() as file:
                file.write(bytes(10_000_000))
                faults.count_interpreter({"sendfile"})
                faults.plan("sendfile", errno.ENOTCONN, n=2)
                sending = loop.create_task(loop.sock_sendfile(near, file))
                await asyncio.sleep(0)
                far.recv(1_000_000)
                try:
                    await sending
                except OSError as exc:
                    print(type(exc).__name__, exc.args[0], file.tell() > 0)
            near.close()
            far.close()

        run(main())
    """)
    assert lines == ["ConnectionError socket is not connected True"]
