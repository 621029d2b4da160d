"""Loops in threads: echo servers on one, two and four loops of a process, without a GIL.

Each loop has a thread and a port of its own, and the same load. The value is the processor time of the whole process,
per echo: it shows what loops cost each other. How connections are shared out is not part of it, and neither is how many
cores there are: the clients, which are other processes, may have some of the time that the threads would like.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time

from rows.declare import KIB, Bench, Place, listening_socket, measurement, server_context

LOOPS = (1, 2, 4)
WARM_UP = 0.3
"""Seconds; for the load, and for the interpreter to specialize what it runs."""
LONGEST_START = 1.0
"""Seconds that the load goes on for longer than it is watched: it takes a while until all have begun."""
SIZE = 1 * KIB


class Serving(threading.Thread):
    """A loop with an echo server, until it is told to stop; `echoes` counts what it has sent back."""

    def __init__(self, bench: Bench, tls: bool) -> None:
        super().__init__()
        self.bench = bench
        self.tls = tls
        self.port = 0
        self.echoes = 0
        self.begun = threading.Event()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=self.bench.find_factory()) as runner:
            runner.run(self.serve())

    async def serve(self) -> None:
        class Echo(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.WriteTransport)
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                self.transport.write(data)
                serving.echoes += 1

        serving = self
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        bound = listening_socket("tcp", "")
        self.port = bound.getsockname()[1]
        context = server_context(self.bench.certificate, self.bench.key) if self.tls else None
        server = await Place(bound, context).serve(Echo)
        self.begun.set()
        await self.stopping.wait()
        server.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.join()


def has_gil() -> bool:
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def cost(bench: Bench, count: int, tls: bool) -> float:
    """Microseconds of processor time per echo, of a process with so many loops."""
    bench.find_factory()  # imports it
    if has_gil():
        raise SystemExit(f"{bench.loop} turns the GIL on")
    os.sched_setaffinity(0, os.sched_getaffinity(os.getppid()))
    serving = [Serving(bench, tls) for _ in range(count)]
    try:
        for one in serving:
            one.start()
        for one in serving:
            one.begun.wait()
        loads = [load(bench, one.port, tls) for one in serving]
        while not all(one.echoes for one in serving) and all(process.poll() is None for process in loads):
            time.sleep(0.01)
        time.sleep(WARM_UP)
        echoes, used = sum(one.echoes for one in serving), time.process_time()
        time.sleep(bench.budget)
        used, echoes = time.process_time() - used, sum(one.echoes for one in serving) - echoes
        for process in loads:
            _, errors = process.communicate()
            if process.returncode:
                raise SystemExit(f"the load generator: {errors.strip()}")
    finally:
        for one in serving:
            if one.begun.is_set():
                one.stop()
    return used / echoes * 1e6


def load(bench: Bench, port: int, tls: bool) -> subprocess.Popen[str]:
    """The load generator, on its way."""
    window = LONGEST_START + bench.budget
    command = [str(bench.tools / "load"), "echo", *(("--tls", "new") if tls else ()), "--size", str(SIZE)]
    command += ["--server", f"tcp:{port}", "--pid", str(os.getpid())]
    command += ["--warm-up", str(round(1000 * WARM_UP)), "--window", str(round(1000 * window))]
    if bench.core is not None:
        command += ["--core", str(bench.core)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def declare(label: str, about: str, tls: bool) -> None:
    for count in LOOPS:
        title = f"{about}, on {count} loop{'s' if count > 1 else ''} without a GIL"

        @measurement(f"threads-{label}-{count}", title, topic="threads", unit="µs", lower_is_better=True)
        def measure(bench: Bench, count: int = count) -> float:
            return cost(bench, count, tls)


declare("echo", "an echo of 1 KiB", False)
declare("tls", "an echo of 1 KiB, TLS", True)
