"""One server, one attack, and a probe: an echo over a connection of its own, every few milliseconds."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

from attacks import ATTACKS
from server import WAITED, Waiting

HERE = pathlib.Path(__file__).parent
LOCALHOST = "127.0.0.1"
INTERVAL = 0.004
PATIENCE = 20.0
"""Seconds that an answer may take; the server hangs if it takes more."""
FEW_DESCRIPTORS = 200
QUESTION = bytes(range(64))


class Hanging(Exception):
    """The server does not answer."""


@contextlib.contextmanager
def running(command, **options):
    """A program that ends when its standard input does, at the latest when it is killed."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as program:
        try:
            line = program.stdout.readline()
            if not line:
                raise Hanging(f"{command[2:4]} did not start")
            yield program, line
        finally:
            program.stdin.close()
            try:
                program.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                program.send_signal(signal.SIGKILL)


def measure(loop, attack, seconds, files, cores, scale):
    """The probe's delays in seconds, and the memory that the server has taken, under one attack on one loop."""
    certificate, key = files
    command = [sys.executable, "-P", str(HERE / "server.py"), loop, "--certificate", certificate, "--key", key]
    if cores:
        command += ["--core", str(cores[0])]
    if attack == "descriptor limit":
        command += ["--descriptors", str(FEW_DESCRIPTORS)]
    with running(command) as (server, line):
        told = json.loads(line)
        with Client(told["ports"]["probe"]) as probe:
            memory = memory_of(server.pid)
            probe.ask(WAITED)
            environment = os.environ | {"OVERLOAD_PORTS": json.dumps(told["ports"]), "OVERLOAD_SCALE": str(scale)}
            with running([sys.executable, "-P", str(HERE / "attacks.py"), attack], env=environment):
                delays = probe.watch(seconds, server.pid)
            result = {"delays": delays, "memory": peak_of(server.pid) - memory}
            # The attack is over: those who come now are served.
            began = time.monotonic()
            with Client(told["ports"]["echo"]) as newcomer:
                newcomer.ask()
            result["recovery"] = time.monotonic() - began
            probe.ask(WAITED)
    if server.returncode:
        raise Hanging(f"the server ended with {server.returncode}")
    return result


class Client:
    """A client that waits for its answers."""

    def __init__(self, port):
        self.sock = socket.create_connection((LOCALHOST, port), timeout=PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def ask(self, more=0):
        """Send the question, and wait for its echo; return the bytes that follow it, so many."""
        try:
            self.sock.sendall(QUESTION)
            answer = b""
            while len(answer) < len(QUESTION) + more:
                data = self.sock.recv(len(QUESTION) + more - len(answer))
                if not data:
                    raise Hanging("the server has ended the connection")
                answer += data
        except TimeoutError:
            raise Hanging(f"no answer within {PATIENCE:.0f} seconds") from None
        if not answer.startswith(QUESTION):
            raise Hanging(f"{answer} came back from {QUESTION}")
        return answer[len(QUESTION) :]

    def watch(self, seconds, server):
        """Ask again and again, and return the delays in seconds, without what other programs took of the cores."""
        delays = []
        with Waiting(server) as servers, Waiting(os.getpid()) as own:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                servers_before, own_before, began = servers.nanoseconds(), own.nanoseconds(), time.perf_counter_ns()
                servers_after = int.from_bytes(self.ask(WAITED), "big")
                delay = time.perf_counter_ns() - began
                delay -= servers_after - servers_before + own.nanoseconds() - own_before
                # The kernel counts a wait when it ends: of one that began before the question, too much has been taken.
                if delay > 0:
                    delays.append(delay / 1e9)
                time.sleep(INTERVAL)
        return delays


def memory_of(process):
    return _status(process, "VmRSS:")


def peak_of(process):
    return _status(process, "VmHWM:")


def _status(process, name):
    with open(f"/proc/{process}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))


__all__ = ["ATTACKS", "Hanging", "measure"]
