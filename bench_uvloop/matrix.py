"""Measures requests/s over message size x server mode x event loop, and prints them as a Markdown table.

run_matrix.sh prepares what this needs and calls it.  Each measurement has a server process of its own (echoserver.py)
and one run of uvloop's client against it.  The loops of a row take turns, round by round, so that a machine that slows
down or speeds up meanwhile does so for all of them; the best round of each counts.

A second table gives the processor time that the server spent on a request.  With few cores the client is often the
slower side: then every fast loop shows the client's requests/s, and only the time spent tells them apart.

Tables go to standard output, progress to standard error.  A cell with a failure in any round has no number: the tables
say so, the reasons follow, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import math
import os
import pathlib
import platform
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

import psutil
import rich.box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

HERE = pathlib.Path(__file__).parent
MODES = {
    "sockets": [],
    "streams": ["--streams"],
    "protocol": ["--proto"],
    "buffered": ["--proto", "--buffered"],
}
MODES_WITHOUT_TLS = {"sockets"}  # the loop's sock_* methods know none
LOOPS = {"asyncio": [], "uvloop": ["--uvloop"], "zloop": ["--zloop"]}
READY = "serving on: "
PATIENCE = 30.0  # seconds that a server may take to start, to answer one message, or to end
MOST_MESSAGES = 40_000  # per worker and run,
MOST_BYTES = 1_000_000_000  # or fewer, where they would come to more bytes than this


class RunFailed(Exception):
    """One measurement gave no number; the message says why."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One place in the table. `size` is a message's length in bytes."""

    size: int
    mode: str
    loop: str


@dataclasses.dataclass(frozen=True)
class Pinning:
    """The cores of each side, and the command prefixes that keep each side on its own."""

    server: list[str]
    client: list[str]
    description: str


def choose_pinning(wanted: bool) -> Pinning:
    """One core for the server, which has one thread, and all the others for the client's workers."""
    cores = sorted(os.sched_getaffinity(0))
    taskset = shutil.which("taskset")
    if not wanted or taskset is None or len(cores) < 2:
        return Pinning([], [], "server and client share all cores")
    others = ",".join(map(str, cores[1:]))
    return Pinning(
        [taskset, "-c", str(cores[0])], [taskset, "-c", others], f"server on core {cores[0]}, client on {others}"
    )


# One measurement


@dataclasses.dataclass(frozen=True)
class Measurement:
    """Of one run of the client: requests/s, and the microseconds of processor time that each took the server."""

    rate: float
    cost: float


def measure(cell: Cell, options: argparse.Namespace, pinning: Pinning) -> Measurement:
    """Run a server and the client against it. Raises RunFailed."""
    messages = options.num or min(MOST_MESSAGES, math.ceil(MOST_BYTES / cell.size))
    with echo_server(cell, options, pinning) as (server, address):
        check_echo(address, cell.size, options.ssl)
        before = processor_time(server)
        rate = run_client(cell.size, messages, address, options, pinning)
        spent = processor_time(server) - before
        check_echo(address, cell.size, options.ssl)
    return Measurement(rate, 1e6 * spent / (messages * options.workers))


def processor_time(process: subprocess.Popen[str]) -> float:
    """Seconds that a process has run, in its own code and in the system's."""
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        raise RunFailed("the server is gone") from None
    return times.user + times.system


@contextlib.contextmanager
def echo_server(
    cell: Cell, options: argparse.Namespace, pinning: Pinning
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process while the block runs; gives it and the address to reach it, as the client takes it.

    Whatever the server writes to standard error, and any exit status but 0, makes the block end in RunFailed.
    """
    with tempfile.TemporaryDirectory(prefix="zloop-bench-") as scratch, tempfile.TemporaryFile("w+") as errors:
        address = f"file:{scratch}/echo.sock" if options.unix else "127.0.0.1:0"
        command = [
            *pinning.server,
            sys.executable,
            str(HERE / "echoserver.py"),
            "--addr",
            address,
            *LOOPS[cell.loop],
            *MODES[cell.mode],
            *(["--ssl"] if options.ssl else []),
        ]
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        complaint = None
        try:
            yield server, read_address(server)
        except RunFailed as failure:
            complaint = str(failure)
        finally:
            complaint = stop(server) or complaint
        last_words = last_line(errors)
        if complaint or last_words:
            raise RunFailed(": ".join(filter(None, [complaint or "the server reported an error", last_words])))


def read_address(server: subprocess.Popen[str]) -> str:
    """The address in the line that the server prints once it listens."""
    assert server.stdout is not None
    if not select.select([server.stdout], [], [], PATIENCE)[0]:
        raise RunFailed("the server did not get ready")
    line = server.stdout.readline()
    if not line.startswith(READY):
        raise RunFailed("the server did not start")
    return line.removeprefix(READY).strip()


def stop(server: subprocess.Popen[str]) -> str | None:
    """End the server as a user would, and say what was wrong with how it ended."""
    died = server.poll() is not None
    server.terminate()
    try:
        server.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        kill_session(server)
        return "the server did not end on SIGTERM"
    if died or server.returncode:
        return f"the server ended {'by itself ' if died else ''}with {describe_status(server.returncode)}"
    return None


def describe_status(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def last_line(stream: IO[str]) -> str:
    stream.seek(0)
    lines = stream.read().split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def check_echo(address: str, size: int, tls: bool) -> None:
    """Send one message and demand the very same bytes back: uvloop's client only counts them."""
    message = os.urandom(size)
    answer = bytearray()
    try:
        with connect(address, tls) as connection:
            connection.sendall(message)
            while len(answer) < size and (data := connection.recv(size)):
                answer += data
    except OSError as error:
        raise RunFailed(f"no echo came back ({error})") from None
    if answer != message:
        raise RunFailed(f"{size} bytes were echoed wrongly")


def connect(address: str, tls: bool) -> socket.socket:
    """A socket that is connected, through TLS to whoever it may be if so wished. Raises OSError."""
    target: str | tuple[str, int]
    if address.startswith("file:"):
        family, target = socket.AF_UNIX, address.removeprefix("file:")
    else:
        host, _, port = address.rpartition(":")
        family, target = socket.AF_INET, (host, int(port))
    connection = socket.socket(family)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(target)
        return trusting_context().wrap_socket(connection) if tls else connection
    except OSError:
        connection.close()
        raise


def trusting_context() -> ssl.SSLContext:
    """A client's context for a certificate that was made for this run."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def run_client(size: int, messages: int, address: str, options: argparse.Namespace, pinning: Pinning) -> float:
    """One run of uvloop's client; the requests/s that it prints."""
    command = [
        *pinning.client,
        sys.executable,
        str(HERE / "checked_client.py"),
        str(options.client),
        "--addr",
        address,
        "--msize",
        str(size),
        "--num",
        str(messages),
        "--workers",
        str(options.workers),
        *(["--ssl"] if options.ssl else []),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as client:
        try:
            output, errors = client.communicate(timeout=options.timeout)
        except subprocess.TimeoutExpired:
            raise RunFailed(f"the client was not done after {options.timeout:g} s") from None
        finally:
            kill_session(client)
    rate = re.search(r"^([\d.]+) requests/sec$", output, re.MULTILINE)
    if client.returncode or rate is None:
        reason = errors.strip().rpartition("\n")[2] or describe_status(client.returncode)
        raise RunFailed(f"the client failed ({reason})")
    return float(rate[1])


def kill_session(process: subprocess.Popen[str]) -> None:
    """Kill a process that leads its session, and its workers, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


# The whole matrix


class Results:
    """What is known of every cell so far."""

    def __init__(self) -> None:
        self.measurements: dict[Cell, list[Measurement]] = {}
        self.failures: dict[Cell, str] = {}

    def rate(self, cell: Cell) -> float | None:
        """The best round's requests/s, or None for a cell that failed in any round."""
        return None if cell in self.failures else max(each.rate for each in self.measurements[cell])

    def cost(self, cell: Cell) -> float | None:
        """The cheapest round's microseconds per request, or None for a cell that failed in any round."""
        return None if cell in self.failures else min(each.cost for each in self.measurements[cell])


def run_matrix(options: argparse.Namespace, pinning: Pinning, console: Console) -> Results:
    results = Results()
    rows = [(size, mode) for size in options.sizes for mode in options.modes]
    turns = [
        (Cell(size, mode, loop), number)
        for size, mode in rows
        for number in range(1, options.repeat + 1)
        for loop in options.loops
    ]
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # No automatic refresh: drawing would take time from what is being measured.  Without a terminal, lines are enough.
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("measuring", total=len(turns))
        for turn, (cell, number) in enumerate(turns, 1):
            name = f"{format_size(cell.size):>8} {cell.mode:<8} {cell.loop:<7} round {number}"
            bar.update(task, description=name, refresh=True)
            outcome = take_turn(cell, results, options, pinning)
            console.print(
                f"[{turn:>{len(str(len(turns)))}}/{len(turns)}] {name}  {outcome}", markup=False, highlight=False
            )
            bar.advance(task)
    return results


def take_turn(cell: Cell, results: Results, options: argparse.Namespace, pinning: Pinning) -> str:
    """Measure a cell once more and say what came out; a cell that failed before is left alone."""
    if cell in results.failures:
        return "skipped, it failed before"
    try:
        measurement = measure(cell, options, pinning)
    except RunFailed as failure:
        results.failures[cell] = str(failure)
        return f"FAILED: {failure}"
    results.measurements.setdefault(cell, []).append(measurement)
    return f"{measurement.rate:>9,.0f} requests/s"


def make_table(options: argparse.Namespace, value: Callable[[Cell], float | None], decimals: int) -> str:
    """A Markdown table of each cell's value, closing with zloop's in proportion to uvloop's where both ran."""
    compares = {"uvloop", "zloop"} <= set(options.loops)
    table = Table(box=rich.box.MARKDOWN)
    table.add_column("message", justify="right")
    table.add_column("mode")
    for heading in [*options.loops, *(["zloop / uvloop"] if compares else [])]:
        table.add_column(heading, justify="right")
    for size in options.sizes:
        for mode in options.modes:
            values = {loop: value(Cell(size, mode, loop)) for loop in options.loops}
            numbers = [format_number(values[loop], decimals) for loop in options.loops]
            ratio = [format_ratio(values["zloop"], values["uvloop"])] if compares else []
            table.add_row(format_size(size), mode, *numbers, *ratio)
    console = Console(width=200, force_terminal=False)
    with console.capture() as text:
        console.print(table)
    return text.get().strip()


def format_size(size: int) -> str:
    return f"{size // 1024} KiB" if size % 1024 == 0 else f"{size} B"


def format_number(number: float | None, decimals: int) -> str:
    return "failed" if number is None else f"{number:,.{decimals}f}"


def format_ratio(above: float | None, below: float | None) -> str:
    return f"{above / below:.2f}" if above and below else "n/a"


def describe_run(options: argparse.Namespace, pinning: Pinning) -> str:
    """What the numbers depend on, in one line."""
    versions = [f"{loop} {importlib.import_module(loop).__version__}" for loop in options.loops if loop != "asyncio"]
    return ", ".join(
        [
            f"CPython {platform.python_version()}",
            *versions,
            f"{platform.system()} {platform.release()}",
            f"{len(os.sched_getaffinity(0))} cores ({pinning.description})",
            "unix socket" if options.unix else "TCP on loopback",
            *(["TLS"] if options.ssl else []),
            f"{options.workers} workers",
            f"best of {options.repeat}",
        ]
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run_matrix.sh", allow_abbrev=False, description=__doc__.partition("\n")[0])
    parser.add_argument("--client", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--sizes",
        type=positive_list,
        default="1024,10240,102400",
        metavar="BYTES,...",
        help="message sizes (default: %(default)s)",
    )
    parser.add_argument(
        "--modes",
        type=lambda text: choices(text, MODES),
        metavar="MODE,...",
        help=f"ways to serve (default: {','.join(MODES)})",
    )
    parser.add_argument(
        "--loops",
        type=lambda text: choices(text, LOOPS),
        default=",".join(LOOPS),
        metavar="LOOP,...",
        help="event loops (default: %(default)s)",
    )
    parser.add_argument(
        "--num",
        type=positive,
        metavar="N",
        help=f"messages per worker and run (default: {MOST_MESSAGES}, or fewer that come to 1 GB)",
    )
    parser.add_argument(
        "--repeat", type=positive, default=3, metavar="N", help="rounds, of which the best counts (default: 3)"
    )
    parser.add_argument("--workers", type=positive, default=3, metavar="N", help="client processes (default: 3)")
    parser.add_argument(
        "--timeout", type=float, default=180.0, metavar="SECONDS", help="limit of one run (default: 180)"
    )
    parser.add_argument("--unix", action="store_true", help="serve on a unix socket instead of TCP")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="leave the choice of cores to the system")
    parser.add_argument("--ssl", action="store_true", help="through TLS, in those modes that have it")
    options = parser.parse_args()
    options.modes = options.modes or [mode for mode in MODES if not options.ssl or mode not in MODES_WITHOUT_TLS]
    if options.ssl and (impossible := MODES_WITHOUT_TLS.intersection(options.modes)):
        parser.error(f"--ssl: there is no TLS in the mode {', '.join(impossible)}")
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def positive_list(text: str) -> list[int]:
    return [positive(word) for word in text.split(",")]


def choices(text: str, known: dict[str, list[str]]) -> list[str]:
    words = text.split(",")
    if unknown := [word for word in words if word not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(known)}")
    return list(dict.fromkeys(words))


def main() -> int:
    options = parse_arguments()
    pinning = choose_pinning(options.pin)
    try:
        conditions = describe_run(options, pinning)
    except ModuleNotFoundError as missing:
        sys.exit(f"{missing.name} is not installed here; bench_uvloop/run_matrix.sh installs it")
    results = run_matrix(options, pinning, Console(stderr=True, soft_wrap=True))
    print(f"\nRequests/s (more is better). {conditions}.\n")
    print(make_table(options, results.rate, decimals=0))
    print("\nProcessor time of the server in µs per request (less is better).\n")
    print(make_table(options, results.cost, decimals=1))
    if results.failures:
        print("\nFailed:\n")
    for cell, reason in results.failures.items():
        print(f"- {format_size(cell.size)}, {cell.mode}, {cell.loop}: {reason}")
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
