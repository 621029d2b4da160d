"""``python -m zloop --check``: what zloop finds on this machine, and whether it works here.

The self-test runs one thing of each kind on a loop of zloop's, against itself, for LONGEST seconds at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import faulthandler
import os
import platform
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import zloop

try:
    import ssl
except ImportError:  # pragma: no cover: an interpreter built without OpenSSL
    ssl = None  # type: ignore[assignment]

LONGEST = 4.0  # seconds for the whole self-test
STUCK = 5.0  # seconds after which the process is ended with a traceback, because the loop hangs
HOST = "127.0.0.1"
PAYLOAD = bytes(range(256)) * 1024


class NotTested(Exception):
    """The reason why a test could not run."""


def check() -> int:
    """Print the facts and the results of the self-test; return the exit status, 0 if no test failed."""
    for name, value in facts():
        print(f"{name:<12}{value}")
    try:
        failures = self_test()
    except Exception as exc:
        print(f"{'Loop':<12}FAILED: {type(exc).__name__}: {exc}")
        return 1
    print("All is well." if not failures else f"{failures} of these failed.")
    return 1 if failures else 0


# ---- facts


def facts() -> list[tuple[str, str]]:
    """(name, value) of everything that a problem report needs."""
    found = [
        ("zloop", f"{zloop.__version__} (C++), in {zloop.__path__[0]}"),
        ("Package", distribution()),
        ("Python", f"{sys.version.split()[0]}, {sys.executable}"),
        ("System", f"{platform.system()} {platform.release()}, {platform.machine()}"),
    ]
    if sys.platform == "linux":
        found += [("Poller", "epoll")]
        found += [("Kernel", ", ".join(f"{name}: {answer}" for name, answer in kernel_features()))]
    else:  # pragma: no cover: not Linux
        found += [("Poller", "kqueue")]
    return [*found, ("TLS", tls_backend_and_reason())]


def distribution() -> str:
    """The name and version of what was installed: another project on the package index has the same import name."""
    from importlib import metadata  # noqa: PLC0415  # of no use before

    names = set(metadata.packages_distributions().get("zloop", ()))
    for plugin in metadata.entry_points(group="pytest11"):  # an editable installation has no files by which to find it
        if plugin.value == "zloop.pytest_plugin" and plugin.dist is not None:
            names.add(plugin.dist.name)
    return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(names)) or "none, a folder on sys.path"


def tls_backend_and_reason() -> str:
    """The TLS backend that is used here, and why."""
    if ssl is None:  # pragma: no cover: an interpreter built without OpenSSL
        return "none: this Python has no ssl module"
    from zloop.tls.direct import tls_backend  # noqa: PLC0415  # there is none without OpenSSL

    try:
        return tls_backend()
    except ValueError as exc:
        return str(exc)


def kernel_features() -> list[tuple[str, str]]:
    """(call, result) for the system calls that zloop can do without."""
    return [
        ("epoll_pwait2", call_answers("syscall", 441, -1, None, 0, None, None, 0)),  # the number on nearly all systems
        ("recvmmsg", call_answers("recvmmsg", -1, None, 0, 0, None)),
        ("sendmmsg", call_answers("sendmmsg", -1, None, 0, 0)),
        ("pidfd_open", pidfd_answers()),
    ]


def call_answers(function: str, *arguments: int | None) -> str:
    """Whether a C library call fails with EBADF for an invalid descriptor: then the kernel has the system call."""
    try:
        import ctypes  # noqa: PLC0415  # missing from some interpreters

        call = getattr(ctypes.CDLL(None, use_errno=True), function)
    except (ImportError, OSError, AttributeError):  # pragma: no cover: a C library of another kind
        return "unknown"
    call.restype = ctypes.c_long if function == "syscall" else ctypes.c_int
    call(*[each if each is None else ctypes.c_long(each) for each in arguments])
    return "yes" if ctypes.get_errno() == errno.EBADF else f"no ({os.strerror(ctypes.get_errno())})"


def pidfd_answers() -> str:
    """Whether children can be watched by a pidfd."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as exc:  # pragma: no cover: a kernel without pidfds
        return f"no ({exc})"
    return "yes"


# ---- self-test


def self_test() -> int:
    """Run one test of each kind and print its result; return the number of failures."""
    faulthandler.dump_traceback_later(STUCK, exit=True)
    try:
        with asyncio.Runner(loop_factory=zloop.new_event_loop) as runner:
            runner.get_loop()  # raises before there is a coroutine that would never be awaited
            return runner.run(try_all())
    finally:
        faulthandler.cancel_dump_traceback_later()


async def try_all() -> int:
    """Run the tests one after the other; return the number of failures."""
    loop = asyncio.get_running_loop()
    errors: list[str] = []
    loop.set_exception_handler(lambda _loop, context: errors.append(context["message"]))
    deadline = loop.time() + LONGEST
    failures = 0
    for name, test in TESTS.items():
        try:
            async with asyncio.timeout_at(deadline):
                outcome = f"ok: {await test()}"
            if errors:
                raise RuntimeError(errors.pop(0))
        except NotTested as exc:
            outcome = f"not tested: {exc}"
        except TimeoutError:
            outcome = "FAILED: it did not end in time"
            failures += 1
        except Exception as exc:
            outcome = f"FAILED: {type(exc).__name__}: {exc}"
            failures += 1
        print(f"{name:<12}{outcome}", flush=True)
    return failures


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back all that is received, until the end of the stream."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def serving(server: asyncio.Server) -> AsyncIterator[asyncio.Server]:
    """A server that is closed at the end, without waiting for its connections."""
    try:
        yield server
    finally:
        server.close()


async def there_and_back(connecting: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> str:
    """Send the payload to an echo server while receiving it back; a description of the test."""
    reader, writer = await connecting
    try:
        writer.write(PAYLOAD)
        received = await reader.readexactly(len(PAYLOAD))
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    if received != PAYLOAD:
        raise RuntimeError("other bytes came back than were sent")
    return f"{len(PAYLOAD) // 1024} KiB there and back"


async def try_tcp() -> str:
    """An echo over TCP."""
    async with serving(await asyncio.start_server(echo, HOST, 0)) as server:
        return await there_and_back(asyncio.open_connection(*server.sockets[0].getsockname()))


async def try_tls() -> str:
    """An echo over TLS, with a cipher that needs no certificate."""
    if ssl is None:
        raise NotTested("this Python has no ssl module")
    try:
        server_context = anonymous_context(ssl.PROTOCOL_TLS_SERVER)
        client_context = anonymous_context(ssl.PROTOCOL_TLS_CLIENT)
    except ssl.SSLError as exc:
        raise NotTested(f"this OpenSSL has no cipher that does without a certificate ({exc})") from exc
    async with serving(await asyncio.start_server(echo, HOST, 0, ssl=server_context)) as server:
        return await there_and_back(asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context))


def anonymous_context(side: int) -> ssl.SSLContext:
    """A context without authentication, for a connection within this machine."""
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones have no such ciphers
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


async def try_unix() -> str:
    """An echo over a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "socket")
        async with serving(await asyncio.start_unix_server(echo, path)):
            return await there_and_back(asyncio.open_unix_connection(path))


class Datagrams(asyncio.DatagramProtocol):
    """Sends back the datagrams that a server receives; counts those that a client receives."""

    def __init__(self, expected: int = 0) -> None:
        self.received: list[bytes] = []
        self.expected = expected
        self.complete = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Tell where to send to."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Count, or send back."""
        if not self.expected:
            self.transport.sendto(data, addr)
            return
        self.received.append(data)
        if len(self.received) == self.expected:
            self.complete.set_result(None)


async def try_udp() -> str:
    """Datagrams there and back."""
    loop = asyncio.get_running_loop()
    sent = [bytes([number]) * 512 for number in range(32)]
    server, _ = await loop.create_datagram_endpoint(Datagrams, (HOST, 0), family=socket.AF_INET)
    address = server.get_extra_info("sockname")
    client, protocol = await loop.create_datagram_endpoint(lambda: Datagrams(len(sent)), remote_addr=address)
    try:
        for data in sent:
            client.sendto(data)
        await protocol.complete
    finally:
        client.close()
        server.close()
    if sorted(protocol.received) != sent:
        raise RuntimeError("other datagrams came back than were sent")
    return f"{len(sent)} datagrams there and back"


async def try_child() -> str:
    """A child process: input, output and exit."""
    program = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(7)"
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", program, stdin=pipe, stdout=pipe)
    try:
        output, _ = await child.communicate(b"through two pipes")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if (output, child.returncode) != (b"THROUGH TWO PIPES", 7):
        raise RuntimeError(f"it answered {output!r} and ended with {child.returncode}")
    return "input, output and exit status"


async def try_timers() -> str:
    """Timers: in order, and none early."""
    loop = asyncio.get_running_loop()
    called: list[tuple[float, float]] = []  # (due time, time of the call) of each
    done = loop.create_future()
    begin = loop.time()
    due = [begin + 0.001 * number for number in range(1, 51)]

    def note(when: float) -> None:
        called.append((when, time.monotonic()))

    for when in reversed(due):
        loop.call_at(when, note, when)
    loop.call_at(due[-1], lambda: loop.call_soon(done.set_result, None))
    await done
    if [when for when, _ in called] != due:
        raise RuntimeError("they were not called in order")
    if any(now < when for when, now in called):
        raise RuntimeError("one was called before its time")
    return f"{len(due)} in order, the latest {max(now - when for when, now in called) * 1000:.1f} ms after its time"


TESTS: dict[str, Callable[[], Awaitable[str]]] = {
    "TCP": try_tcp,
    "TLS echo": try_tls,
    "Unix socket": try_unix,
    "UDP": try_udp,
    "Child": try_child,
    "Timers": try_timers,
}
