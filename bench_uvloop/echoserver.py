"""An echo server on asyncio, uvloop or zloop: the server's side of uvloop's echo benchmark.

It takes the command line of uvloop's examples/bench/echoserver.py, and --zloop beside --uvloop; without either it runs
on asyncio.  What a connection does is the same there and here, so that numbers compare:

    (default)            loop.sock_recv of up to 1,000,000 bytes, then loop.sock_sendall
    --streams            StreamReader.read of up to 1,000,000 bytes, then StreamWriter.write
    --proto              Protocol.data_received, then Transport.write
    --proto --buffered   BufferedProtocol over one 256 KiB buffer per connection, writing a copy of what was filled

With --ssl the last three speak TLS, with a certificate that is made for the run (by trustme).

Once it listens it prints "serving on: ADDRESS", with the port that was given out where --addr asks for port 0.
SIGTERM and SIGINT end it with status 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import pathlib
import signal
import socket
import ssl
import sys
from typing import Any, ClassVar

READ_SIZE = 1_000_000
BUFFER_SIZE = 256 * 1024

Address = str | tuple[str, int]  # the path of a unix socket, or host and port

log = logging.getLogger("echoserver")


async def serve_sockets(address: Address) -> None:
    """Echo with the loop's sock_* methods."""
    loop = asyncio.get_running_loop()
    with listening_socket(address) as listener:
        announce(listener)
        async with asyncio.TaskGroup() as connections:
            while True:
                connection, peer = await loop.sock_accept(listener)
                log.info("connection from %s", peer)
                connections.create_task(echo_socket(connection))


def listening_socket(address: Address) -> socket.socket:
    """A non-blocking listening socket; a unix socket left behind at the address is replaced."""
    if isinstance(address, str):
        path = pathlib.Path(address)
        if path.is_socket():
            path.unlink()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen()
    else:
        listener = socket.create_server(address)
    listener.setblocking(False)
    return listener


async def echo_socket(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    if connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(ConnectionError):
        while data := await loop.sock_recv(connection, READ_SIZE):
            await loop.sock_sendall(connection, data)
    log.info("connection closed")


async def serve_streams(address: Address, context: ssl.SSLContext | None) -> None:
    """Echo with asyncio's streams."""
    if isinstance(address, str):
        server = await asyncio.start_unix_server(echo_stream, address, ssl=context)
    else:
        server = await asyncio.start_server(echo_stream, *address, ssl=context)
    await serve_until_cancelled(server)


async def echo_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    log.info("connection from %s", writer.get_extra_info("peername"))
    # Cancelled when the server ends; Python 3.11 would log a traceback for a handler that stays cancelled.
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(READ_SIZE):
            writer.write(data)
    writer.close()
    log.info("connection closed")


class EchoConnection(asyncio.BaseProtocol):
    """What the two echo protocols share: a transport, which closes when the server ends."""

    transport: asyncio.Transport
    open_transports: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self.open_transports.add(transport)
        log.info("connection from %s", transport.get_extra_info("peername"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.open_transports.discard(self.transport)
        log.info("connection closed")


class EchoProtocol(EchoConnection, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class EchoBufferedProtocol(EchoConnection, asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.buffer = bytearray(BUFFER_SIZE)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # The slice is a copy: the transport may still hold it when the next read fills the buffer again.
        self.transport.write(self.buffer[:nbytes])


async def serve_protocol(address: Address, protocol: type[EchoConnection], context: ssl.SSLContext | None) -> None:
    """Echo with a transport and a protocol per connection."""
    loop = asyncio.get_running_loop()
    if isinstance(address, str):
        server: Any = await loop.create_unix_server(protocol, address, ssl=context)
    else:
        server = await loop.create_server(protocol, *address, ssl=context)
    try:
        await serve_until_cancelled(server)
    finally:
        for transport in EchoConnection.open_transports:
            transport.abort()


async def serve_until_cancelled(server: asyncio.Server) -> None:
    # Not Server.serve_forever(): since Python 3.12 that ends only after the last client has left.
    announce(server.sockets[0])
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()


def announce(listener: Any) -> None:
    """Say where the listening socket is, written as --addr takes it."""
    name = listener.getsockname()
    where = f"file:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"
    print(f"serving on: {where}", flush=True)


def make_tls_context() -> ssl.SSLContext:
    """A server's context with a certificate that nobody trusts: the client does not look at it."""
    trustme = importlib.import_module("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context


async def serve(arguments: argparse.Namespace) -> None:
    """Serve in the chosen mode until SIGINT or SIGTERM cancels this task."""
    this_task = asyncio.current_task()
    assert this_task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, this_task.cancel)
    context = make_tls_context() if arguments.ssl else None
    if arguments.streams:
        await serve_streams(arguments.addr, context)
    elif arguments.proto:
        await serve_protocol(arguments.addr, EchoBufferedProtocol if arguments.buffered else EchoProtocol, context)
    else:
        await serve_sockets(arguments.addr)


def parse_address(text: str) -> Address:
    if text.startswith("file:"):
        return text.removeprefix("file:")
    host, _, port = text.rpartition(":")
    return host, int(port)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Echo whatever a client sends; SIGTERM or Ctrl-C ends it.")
    loops = parser.add_mutually_exclusive_group()
    loops.add_argument("--uvloop", dest="loop", action="store_const", const="uvloop", help="run on uvloop")
    loops.add_argument("--zloop", dest="loop", action="store_const", const="zloop", help="run on zloop")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--streams", action="store_true", help="use asyncio's streams instead of loop.sock_*")
    modes.add_argument("--proto", action="store_true", help="use a transport and a protocol instead of loop.sock_*")
    parser.add_argument("--buffered", action="store_true", help="with --proto: a BufferedProtocol")
    parser.add_argument("--ssl", action="store_true", help="with --streams or --proto: TLS")
    parser.add_argument(
        "--addr",
        type=parse_address,
        default="127.0.0.1:25000",
        metavar="HOST:PORT|file:PATH",
        help="where to listen (default: %(default)s); port 0 takes any free one",
    )
    parser.add_argument("--print", action="store_true", help="report connections as they come and go")
    parser.set_defaults(loop="asyncio")
    arguments = parser.parse_args()
    if arguments.buffered and not arguments.proto:
        parser.error("--buffered goes with --proto")
    if arguments.ssl and not (arguments.streams or arguments.proto):
        parser.error("--ssl goes with --streams or --proto: loop.sock_* methods know no TLS")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    if arguments.print:
        log.addHandler(logging.StreamHandler(sys.stdout))
        log.setLevel(logging.INFO)
    new_event_loop = importlib.import_module(arguments.loop).new_event_loop
    with (
        asyncio.Runner(loop_factory=new_event_loop, debug=False) as runner,
        contextlib.suppress(asyncio.CancelledError),
    ):
        runner.run(serve(arguments))
    if isinstance(arguments.addr, str):
        pathlib.Path(arguments.addr).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
