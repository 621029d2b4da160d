"""The server under attack: echoes on TCP, TLS and UDP, on the loop that it is told, on one core.

Prints its ports and its process as JSON, once it listens; ends when its standard input does.
"""

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import resource
import ssl
import sys

LOCALHOST = "127.0.0.1"
BACKLOG = 1000
WAITED = 8
"""Bytes of the number that follows an answer to the probe."""


class Echo(asyncio.Protocol):
    """Sends back what comes, and reads no more while the peer does not read: memory is bounded by the water marks."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class Waiting:
    """How long the first thread of a process could have run, had other programs not; 0 if nobody counts."""

    def __init__(self, process):
        self.file = None
        with contextlib.suppress(OSError):
            self.file = open(f"/proc/{process}/schedstat", "rb", buffering=0)  # noqa: SIM115  (which this object is)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.file:
            self.file.close()

    def nanoseconds(self):
        return int(os.pread(self.file.fileno(), 100, 0).split()[1]) if self.file else 0


class ProbeEcho(Echo):
    """Tells behind what it sends back how long other programs have let it wait so far: they are not the loop's."""

    def __init__(self, waiting):
        self.waiting = waiting

    def data_received(self, data):
        self.transport.write(data + self.waiting.nanoseconds().to_bytes(WAITED, "big"))


class CarelessEcho(asyncio.Protocol):
    """Sends back what comes, whether the peer reads or not."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class DatagramEcho(asyncio.DatagramProtocol):
    """Sends each datagram back."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        self.transport.sendto(data, address)

    def error_received(self, exc):
        pass  # the attacker's socket is closed


def tell_nobody(_loop, _context):
    """Descriptors that run out are reported once a second."""


async def serve(options):
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(tell_nobody)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)
    waiting = Waiting(os.getpid())
    servers = {
        "probe": await loop.create_server(lambda: ProbeEcho(waiting), LOCALHOST, 0, backlog=BACKLOG),
        "echo": await loop.create_server(Echo, LOCALHOST, 0, backlog=BACKLOG),
        "careless": await loop.create_server(CarelessEcho, LOCALHOST, 0, backlog=BACKLOG),
        "tls": await loop.create_server(Echo, LOCALHOST, 0, backlog=BACKLOG, ssl=context),
    }
    datagrams, _ = await loop.create_datagram_endpoint(DatagramEcho, (LOCALHOST, 0))
    ports = {name: server.sockets[0].getsockname()[1] for name, server in servers.items()}
    ports["datagrams"] = datagrams.get_extra_info("sockname")[1]
    print(json.dumps({"process": os.getpid(), "ports": ports}), flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop", choices=("asyncio", "uvloop", "zloop"))
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--descriptors", type=int, help="the most that it may have (all that the system allows)")
    parser.add_argument("--core", type=int, help="which it runs on")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = min(options.descriptors or most, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    new_event_loop = importlib.import_module(options.loop).new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
