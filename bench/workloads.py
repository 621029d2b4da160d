"""The hot rows as fixed amounts of work, for counting instructions: instructions.py runs this under callgrind.

    python workloads.py

Before and after each part it calls getppid(), at which callgrind writes down what it has counted.  The parts come in
the order of WORKLOADS, each once for SHORT operations and once for LONG: what is the same for both, as what it takes to
begin, cancels out.  Everything happens in one thread, so that it happens in the same order each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable

from rows.declare import BACKLOG, Place, batches
from rows.echo import serve_buffered, serve_protocol, serve_read
from rows.scheduling import call_soon, create_task, nothing, sleep_one
from rows.timers import cancel

# Not quite 1 KiB: glibc keeps up to 1,032 bytes (tcache) apart from the heap, and what malloc() takes for more depends
# on how the heap happens to look.
MESSAGE_SIZE = 960
SHORT, LONG = 1000, 3000

# Blocking, and of another process, which callgrind does not follow.
CLIENT = """
import socket, sys
port, count, size = map(int, sys.argv[1:])
message = bytes(size)
with socket.create_connection(("127.0.0.1", port)) as connection:
    for _ in range(count):
        connection.sendall(message)
        assert len(connection.recv(size, socket.MSG_WAITALL)) == size
"""

Workload = Callable[[int], Awaitable[None]]


def echo(serve: Callable[[Place], Awaitable[object]]) -> Workload:
    """A client's messages, one after the other, and their echoes."""

    async def run(count: int) -> None:
        loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        listener.setblocking(False)
        port = listener.getsockname()[1]
        server = await serve(Place(listener, None))
        command = [sys.executable, "-c", CLIENT, str(port), str(count), str(MESSAGE_SIZE)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            ended = loop.create_future()
            loop.add_reader(client.stdout, ended.set_result, None)
            await ended
            loop.remove_reader(client.stdout)
        assert client.returncode == 0
        assert isinstance(server, asyncio.AbstractServer)
        server.close()

    return run


async def threadsafe(count: int) -> None:
    """From the loop's own thread: another would come at any moment."""
    loop = asyncio.get_running_loop()
    for batch in batches(count, 1000):
        for _ in range(batch):
            loop.call_soon_threadsafe(nothing)
        await asyncio.sleep(0)


WORKLOADS: dict[str, Workload] = {
    "echo-1k-protocol": echo(serve_protocol),
    "echo-1k-buffered": echo(serve_buffered),
    "echo-1k-streams": echo(serve_read),
    "call-soon": call_soon,
    "timer-cancel": cancel,
    "threadsafe": threadsafe,
    "create-task": create_task,
    "sleep-0": sleep_one,
}


async def main() -> None:
    for workload in WORKLOADS.values():
        await workload(SHORT)  # by now the interpreter has specialized what it will
        for count in (SHORT, LONG):
            gc.collect()
            os.getppid()
            await workload(count)
            os.getppid()


if __name__ == "__main__":
    import zloop

    gc.disable()
    with asyncio.Runner(loop_factory=zloop.new_event_loop) as runner, contextlib.suppress(KeyboardInterrupt):
        runner.run(main())
