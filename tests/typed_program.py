"""A program with types that calls every public method of a zloop.Loop: mypy and pyright, strict, find nothing to say.

What the methods are typed to return is asserted to be what typeshed has for asyncio's loops; where zloop's own handles
come back, they are more than that. The program can be run, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, assert_type, cast

import zloop

T = TypeVar("T")

LOCALHOST = "127.0.0.1"


class Stream(asyncio.Protocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Datagrams(asyncio.DatagramProtocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self.received.append(data)


class Child(asyncio.SubprocessProtocol):
    """Waits for a child's end."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        self.exited.set()


def pair() -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    return left, right


async def connections(loop: zloop.Loop) -> None:
    server = assert_type(await loop.create_server(Stream, LOCALHOST, 0, backlog=10), asyncio.Server)
    address: tuple[str, int] = server.sockets[0].getsockname()
    host, port = address
    transport, protocol = await loop.create_connection(Stream, host, port, happy_eyeballs_delay=0.25)
    assert_type(transport, asyncio.Transport)
    assert_type(protocol, Stream)
    transport.close()
    await protocol.lost
    left, right = pair()
    transport, protocol = await loop.create_connection(Stream, sock=left)
    accepted, accepted_protocol = await loop.connect_accepted_socket(Stream, right)
    assert_type(accepted, asyncio.Transport)
    assert_type(accepted_protocol, Stream)
    with tempfile.TemporaryFile() as file:
        file.write(b"content")
        assert_type(await loop.sendfile(transport, file, 0, 7, fallback=True), int)
    transport.close()
    await accepted_protocol.lost
    server.close()
    await server.wait_closed()


async def unix_connections(loop: zloop.Loop, folder: str) -> None:
    path = os.path.join(folder, "socket")
    server = assert_type(await loop.create_unix_server(Stream, path), asyncio.Server)
    transport, protocol = await loop.create_unix_connection(Stream, path)
    assert_type(transport, asyncio.Transport)
    assert_type(protocol, Stream)
    transport.close()
    await protocol.lost
    server.close()
    await server.wait_closed()


async def tls(loop: zloop.Loop, context: ssl.SSLContext) -> None:
    left, right = pair()
    transport, protocol = await loop.create_connection(Stream, sock=left)
    upgrading = loop.start_tls(transport, protocol, context, server_hostname=LOCALHOST, ssl_handshake_timeout=0.01)
    with right:
        try:
            secure: asyncio.Transport = await upgrading
        except OSError:
            return
    secure.close()


async def datagrams(loop: zloop.Loop) -> None:
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=(LOCALHOST, 0))
    assert_type(transport, asyncio.DatagramTransport)
    assert_type(protocol, Datagrams)
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((LOCALHOST, 0))
        sock.setblocking(False)
        transport.sendto(b"to the socket", sock.getsockname())
        data, _address = await loop.sock_recvfrom(sock, 100)
        assert_type(data, bytes)
        transport.sendto(b"once more", sock.getsockname())
        size, _address = await loop.sock_recvfrom_into(sock, bytearray(100))
        assert_type(size, int)
        assert_type(await loop.sock_sendto(sock, data, transport.get_extra_info("sockname")), int)
    transport.close()


async def sockets(loop: zloop.Loop) -> None:
    with socket.create_server((LOCALHOST, 0)) as listener, socket.socket() as sock:
        listener.setblocking(False)
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.getsockname())
        accepted, _address = await loop.sock_accept(listener)
        assert_type(accepted, socket.socket)
        with accepted, tempfile.TemporaryFile() as file:
            await loop.sock_sendall(sock, memoryview(b"content"))
            assert_type(await loop.sock_recv(accepted, 3), bytes)
            assert_type(await loop.sock_recv_into(accepted, bytearray(100)), int)
            file.write(b"content")
            assert_type(await loop.sock_sendfile(sock, file), int)
            loop.add_writer(sock, print, "writable", sys.stderr)
            loop.add_reader(accepted.fileno(), int, "42")
            assert_type(loop.remove_writer(sock), bool)
            assert_type(loop.remove_reader(accepted.fileno()), bool)


async def names(loop: zloop.Loop) -> None:
    for family, kind, _proto, _name, address in await loop.getaddrinfo(LOCALHOST, 80, type=socket.SOCK_STREAM):
        assert family == socket.AF_INET
        assert_type(kind, socket.SocketKind)
        assert address[1] == 80
    name, service = await loop.getnameinfo((LOCALHOST, 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    assert_type(name + service, str)


async def pipes(loop: zloop.Loop) -> None:
    reading, writing = os.pipe()
    reader, read_protocol = await loop.connect_read_pipe(Stream, os.fdopen(reading, "rb", 0))
    writer, write_protocol = await loop.connect_write_pipe(Stream, os.fdopen(writing, "wb", 0))
    assert_type(reader, asyncio.ReadTransport)
    assert_type(read_protocol, Stream)
    assert_type(writer, asyncio.WriteTransport)
    assert_type(write_protocol, Stream)
    writer.close()
    await read_protocol.lost


async def processes(loop: zloop.Loop) -> None:
    shell, shell_protocol = await loop.subprocess_shell(Child, "true", stdout=subprocess.DEVNULL)
    program, program_protocol = await loop.subprocess_exec(Child, "true", stdin=None, env={}, cwd="/")
    assert_type(shell, asyncio.SubprocessTransport)
    assert_type(shell_protocol, Child)
    assert_type(program, asyncio.SubprocessTransport)
    assert_type(program_protocol, Child)
    for transport, protocol in ((shell, shell_protocol), (program, program_protocol)):
        await protocol.exited.wait()
        assert_type(transport.get_returncode(), int | None)
        transport.close()


async def callbacks(loop: zloop.Loop) -> None:
    context = contextvars.copy_context()
    handles: list[asyncio.Handle] = [loop.call_soon(print, "soon", context=context), loop.call_soon_threadsafe(print)]
    timers: list[asyncio.TimerHandle] = [loop.call_later(1, print, "later"), loop.call_at(loop.time() + 1, print, 1, 2)]
    assert_type(timers[0].when(), float)
    for handle in [*handles, *timers]:
        handle.cancel()
        assert handle.cancelled()
    future: asyncio.Future[int] = loop.create_future()
    loop.call_soon(future.set_result, 42)
    assert_type(await future, int)
    assert_type(await loop.run_in_executor(None, max, 1, 2), int)
    with ThreadPoolExecutor(1) as pool:
        assert_type(await loop.run_in_executor(pool, str.upper, "text"), str)


class LoudTask(asyncio.Task[T]):
    """A task of the program's own."""


def make_loud_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any
) -> LoudTask[T]:
    return LoudTask(cast("Coroutine[Any, Any, T]", coro), loop=loop, **options)


async def answer() -> int:
    return 42


async def tasks(loop: zloop.Loop) -> None:
    task = loop.create_task(answer(), name="answer", context=contextvars.copy_context())
    assert_type(task, asyncio.Task[int])
    assert_type(await task, int)
    loop.set_task_factory(make_loud_task)
    assert loop.get_task_factory() is make_loud_task
    await loop.create_task(answer())
    loop.set_task_factory(None)


def on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert context["message"] == "told"


async def settings(loop: zloop.Loop) -> None:
    loop.set_exception_handler(on_exception)
    handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = loop.get_exception_handler()
    assert handler is on_exception
    loop.call_exception_handler({"message": "told"})
    loop.set_exception_handler(None)
    loop.set_debug(True)
    assert_type(loop.get_debug(), bool)
    loop.set_debug(False)
    assert_type(loop.slow_callback_duration, float)
    with contextlib.redirect_stderr(io.StringIO()):
        loop.print_debug_info()
    loop.set_default_executor(ThreadPoolExecutor(1))
    loop.add_signal_handler(signal.SIGUSR1, print, "signal")
    assert_type(loop.remove_signal_handler(signal.SIGUSR1), bool)


async def use(loop: zloop.Loop, context: ssl.SSLContext) -> str:
    await connections(loop)
    with tempfile.TemporaryDirectory() as folder:
        await unix_connections(loop, folder)
    await tls(loop, context)
    for part in (datagrams, sockets, names, pipes, processes, callbacks, tasks, settings):
        await part(loop)
    assert loop.is_running()
    return "used"


def run(loop: zloop.Loop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert_type(loop.run_until_complete(use(loop, ssl.create_default_context())), str)
    assert_type(loop.run_until_complete(loop.create_task(answer())), int)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert loop.is_closed()


def main() -> None:
    asyncio_loop: asyncio.AbstractEventLoop = zloop.new_event_loop()
    asyncio_loop.default_exception_handler({"message": "told"})
    asyncio_loop.close()
    run(assert_type(zloop.new_event_loop(), zloop.Loop))
    assert_type(zloop.run(answer(), debug=False), int)
    assert_type(zloop.run(answer(), loop_factory=zloop.Loop), int)
    with asyncio.Runner(loop_factory=zloop.new_event_loop) as runner:
        assert_type(runner.run(answer()), int)
    zloop.install_as_uvloop()


class Case(unittest.IsolatedAsyncioTestCase):
    """A test case on zloop."""

    loop_factory = zloop.new_event_loop


if __name__ == "__main__":
    main()
