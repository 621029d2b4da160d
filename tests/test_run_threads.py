"""zloop.run_threads(): a loop per thread, that start, serve and end together."""

import asyncio
import contextvars
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from support import LOCALHOST, TIME_LIMIT, Script

import zloop
from zloop import threads as module

pytestmark = pytest.mark.zloop_only


@pytest.fixture(autouse=True)
def no_word_of_the_gil(monkeypatch):
    monkeypatch.setattr(module, "_warned", [True])


def test_each_thread_has_a_loop_and_a_result_of_its_own():
    async def main(worker):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, zloop.Loop)
        loops.append(loop)
        return worker.index, worker.count, threading.current_thread().name, repr(worker)

    loops = []
    assert zloop.run_threads(main, threads=3, name="web") == [
        (index, 3, f"web-{index}", f"<Worker {index} of 3>") for index in range(3)
    ]
    assert len(set(map(id, loops))) == 3
    assert all(loop.is_closed() for loop in loops)


def test_there_is_a_thread_for_each_core():
    async def main(worker):
        return worker.count

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert zloop.run_threads(main) == [cores] * cores


def test_threads_run_in_the_callers_context():
    async def main(worker):
        was = variable.get()
        variable.set(worker.index)
        return was

    variable = contextvars.ContextVar("variable", default="default")
    variable.set("caller's")
    assert zloop.run_threads(main, threads=2) == ["caller's", "caller's"]
    assert variable.get() == "caller's"


@pytest.mark.parametrize("debug", [True, False])
def test_debug_mode_can_be_chosen(debug):
    async def main(_worker):
        return asyncio.get_running_loop().get_debug()

    assert zloop.run_threads(main, threads=1, debug=debug) == [debug]


def test_threads_listen_on_one_queue():
    """What connects is taken by any of them; a thread that leaves refuses nothing."""

    async def main(worker):
        async def serve(reader, writer):
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        sock = worker.listen(LOCALHOST, 0)
        ports.append(sock.getsockname()[1])
        server = await asyncio.start_server(serve, sock=sock)
        async with server:
            if worker.index == 0:
                await asyncio.to_thread(lambda: gone.wait(10))
                for _ in range(50):
                    reader, writer = await asyncio.open_connection(LOCALHOST, ports[0])
                    writer.write(b"line\n")
                    assert await reader.read() == b"line\n"
                    writer.close()
                    await writer.wait_closed()
        if worker.index > 0:
            gone.wait(10)

    ports = []
    gone = threading.Barrier(3)
    zloop.run_threads(main, threads=3)
    assert len(set(ports)) == 1


def test_sockets_of_other_addresses_are_others():
    async def main(worker):
        with worker.listen(LOCALHOST, 0) as one, worker.listen(LOCALHOST, 0, backlog=5) as other:
            worker.listen(None, 0).close()
            return one.getsockname() == other.getsockname(), one.getblocking()

    assert zloop.run_threads(main, threads=1) == [(False, False)]


def test_an_error_stops_the_others_and_leaves_in_a_group():
    async def main(worker):
        if worker.index == 1:
            raise ValueError("one's")
        await worker.stopping.wait()
        if worker.index == 2:
            raise OSError("two's")
        return "stopped"

    with pytest.raises(ExceptionGroup, match=re.escape("errors in run_threads()")) as caught:
        zloop.run_threads(main, threads=3)
    assert [repr(error) for error in caught.value.exceptions] == ['ValueError("one\'s")', 'OSError("two\'s")']


def test_what_does_not_stop_is_cancelled_after_the_grace():
    async def main(worker):
        if worker.index == 0:
            raise ValueError
        try:
            await asyncio.sleep(60)
        finally:
            ended.append((worker.stopping.is_set(), time.monotonic() - began >= 0.05))

    ended = []
    began = time.monotonic()
    with pytest.raises(ExceptionGroup) as caught:
        zloop.run_threads(main, threads=2, grace=0.05)
    assert ended == [(True, True)]
    assert len(caught.value.exceptions) == 1


def test_a_cancellation_of_a_programs_own_is_an_error():
    async def main(_worker):
        raise asyncio.CancelledError

    with pytest.raises(BaseExceptionGroup) as caught:
        zloop.run_threads(main, threads=1)
    assert isinstance(caught.value.exceptions[0], asyncio.CancelledError)


SIGNALS = r"""
import asyncio, os, signal, sys, warnings
import zloop

warnings.simplefilter("ignore")

async def main(worker):
    os.write(1, b"begun\n")  # print() of several threads may mix
    await worker.stopping.wait()
    os.write(1, b"stopping\n")
    if sys.argv[-1] == "stubborn":
        await asyncio.sleep(60)
    return worker.index

try:
    print(zloop.run_threads(main, threads=2))
except KeyboardInterrupt:
    print("interrupted")
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_stops_all_threads(number):
    with Script("zloop", SIGNALS) as script:
        assert [script.line(), script.line()] == ["begun"] * 2
        script.send_signal(number)
        assert script.finish() == ["stopping", "stopping", "[0, 1]", "True"]


def test_second_signal_interrupts():
    with Script("zloop", SIGNALS.replace("sys.argv[-1]", "'stubborn'")) as script:
        for line in ("begun", "stopping"):
            assert [script.line(), script.line()] == [line] * 2
            script.send_signal(signal.SIGTERM)
        assert script.finish() == ["interrupted", "True"]


def test_without_signals_it_runs_in_any_thread():
    async def main(worker):
        return worker.index

    def run():
        results.append(zloop.run_threads(main, threads=2, signals=()))

    results = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [[0, 1]]


@pytest.mark.parametrize("threads", [0, -1])
def test_less_than_one_thread_is_refused(threads):
    with pytest.raises(ValueError, match=re.escape(f"threads must be 1 or more, not {threads}")):
        zloop.run_threads(None, threads=threads)


def test_refused_inside_of_a_loop():
    async def main():
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            zloop.run_threads(main)

    zloop.run(main())


def test_gil_is_told_of_once(monkeypatch):
    async def main(worker):
        return worker.index

    monkeypatch.setattr(module, "_warned", [])
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    monkeypatch.setattr(module.sysconfig, "get_config_var", {"Py_GIL_DISABLED": 0}.get)
    with pytest.warns(RuntimeWarning, match=re.escape("take turns: this Python has a GIL")) as told:
        zloop.run_threads(main, threads=1)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zloop.run_threads(main, threads=1)


@pytest.mark.parametrize(
    ("names", "reason"),
    [(["other", "some.module"], "for the sake of other, some.module"), ([], "by PYTHON_GIL or -X gil")],
)
def test_modules_that_have_turned_the_gil_on_are_named(monkeypatch, names, reason):
    monkeypatch.setattr(module, "_warned", [])
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    monkeypatch.setattr(module.sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    monkeypatch.setattr(module, "modules_that_need_gil", lambda: names)
    with pytest.warns(RuntimeWarning, match=re.escape(f"the GIL was turned on {reason}")):
        module.warn_of_gil()


PAGE = Path(__file__).parents[1] / "docs" / "threads.md"


def ask_for_echo(port):
    with socket.create_connection((LOCALHOST, port)) as sock:
        sock.sendall(b"hello")
        return sock.recv(100)


def ask_for_page(port):
    with socket.create_connection((LOCALHOST, port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: sock.recv(10_000), b"")).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("number", "needs", "ask"),
    [(0, "asyncio", ask_for_echo), (1, "aiohttp", ask_for_page), (2, "uvicorn", ask_for_page)],
    ids=["echo", "aiohttp", "uvicorn"],
)
def test_examples_of_the_page(number, needs, ask):
    pytest.importorskip(needs)
    with socket.socket() as free:
        free.bind((LOCALHOST, 0))
        port = free.getsockname()[1]
    program = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)[number]
    command = [sys.executable, "-P", "-W", "ignore", "-c", program.replace("8000", str(port))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + TIME_LIMIT
            while True:
                try:
                    answer = ask(port)
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            assert answer == b"hello"
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=TIME_LIMIT)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_no_module_of_zloops_needs_the_gil():
    assert [name for name in module.modules_that_need_gil() if name.startswith("zloop")] == []


def test_nothing_is_said_without_a_gil(monkeypatch):
    monkeypatch.setattr(module, "_warned", [])
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        module.warn_of_gil()
    assert said == []


def test_a_socket_that_cannot_listen_is_told_to_its_thread():
    async def main(worker):
        with pytest.raises(OSError, match="in use"):
            worker.listen(LOCALHOST, taken.getsockname()[1])

    with socket.socket() as taken:
        taken.bind((LOCALHOST, 0))
        zloop.run_threads(main, threads=2)
