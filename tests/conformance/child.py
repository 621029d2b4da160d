"""The process that has the tests: imports a loop and CPython's test modules, then forks one process for each test.

It is driven by one JSON object on standard input and answers in JSON lines on standard output:

    {"loop": spec, "modules": [...]}                    -> one line: what each module holds
    {"loop": spec, "modules": [...], "tests": [...], "jobs": n, "time_limit": seconds, "scratch": directory}
                                                        -> one line per finished test, in the order they finish

Everything slow is imported once and nothing of a test ever runs in this process, so each fork starts as a fresh
interpreter would, in milliseconds. A fork has its own process group, working directory, standard streams and time
limit, and leaves through the interpreter's ordinary shutdown, so that a crash on the way out is seen too.

How a loop gets into the tests is told in `selection.py`; `install` and `replace_maker` below do it.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import fcntl
import functools
import gc
import importlib
import importlib.util
import inspect
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
import unittest
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from selection import MODULES, PACKAGE, VARIANTS, stdlib_only
from test import support  # type: ignore[import-not-found]

THREADS_END_SECONDS = 2  # how long an executor's threads may take to notice that it was shut down
ABORT_SECONDS = 5  # between SIGABRT, at which faulthandler prints where a test hangs, and SIGKILL
BROKEN = 70  # the exit status of a fork in which not the test but this file has failed
CLONE_NEWNET, SIOCSIFFLAGS, IFF_UP = 0x40000000, 0x8914, 1  # of Linux: <sched.h>, <linux/sockios.h>, <linux/if.h>
OUTPUT_LIMIT = 20_000  # characters of a test's output that are kept, counted from its end


def isolate_network() -> None:
    """Leave only the loopback interface to this process and its forks, where the system allows it (Linux, as root).

    Some tests replace `sock_connect` or the socket module by mocks, and use the addresses of strangers. A loop on which
    such a mock has no effect would really send them something.
    """
    if ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0:
        with socket.socket() as sock:
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))


# ---- The loop under test


def load(spec: str) -> Callable[[], Any]:
    """Return the loop factory named by "module:attribute". Exits if there is none."""
    module, _, attribute = spec.partition(":")
    try:
        factory: Callable[[], Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        sys.exit(f"{sys.executable} has no {spec}: {error}")
    return factory


def install(factory: Callable[[], Any], seen: set[str]) -> None:
    """Put the factory behind every public way to get a loop, and note in `seen` what happens to its loops.

    Must run before the test modules are imported: some of them keep `asyncio.EventLoop` in a class body.
    """
    loop = factory()
    loop.close()
    loop_class = type(loop)
    asyncio.unix_events._UnixDefaultEventLoopPolicy._loop_factory = staticmethod(factory)  # type: ignore[attr-defined]
    for name in ("SelectorEventLoop", "EventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, loop_class)
    if not hasattr(loop_class, "_default_executor"):
        # The tests' clean-up asks this private attribute whether an executor is still to be shut down.
        loop_class._default_executor = None
    for method, mark in {"run_forever": "ran", "run_until_complete": "ran", "close": "made"}.items():
        setattr(loop_class, method, marking(getattr(loop_class, method), mark, seen))


def marking(method: Callable[..., Any], mark: str, seen: set[str]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        seen.add(mark)
        return method(*args, **kwargs)

    return call


def replace_maker(module: ModuleType, maker: str, factory: Callable[[], Any]) -> None:
    """Replace the "Class.method" by which a test module makes its loops."""

    def make(self: unittest.TestCase) -> Any:
        loop = factory()
        if method_name == "new_loop":
            note_asyncgens_shutdown(loop)
        return loop

    class_name, _, method_name = maker.partition(".")
    setattr(getattr(module, class_name), method_name, make)


def note_asyncgens_shutdown(loop: Any) -> None:
    """Give a loop the flag by which test_runners sees that its asynchronous generators were shut down."""
    shutdown_asyncgens = loop.shutdown_asyncgens

    async def noted() -> None:
        await shutdown_asyncgens()
        loop.shutdown_ag_run = True

    loop.shutdown_ag_run = False
    loop.shutdown_asyncgens = noted


# ---- The test modules


def import_module(name: str, factory: Callable[[], Any]) -> ModuleType | str:
    """Import a test module and put the loop into it; return why not where this Python cannot have it."""
    if importlib.util.find_spec(f"{PACKAGE}.{name}") is None:
        return "not in this Python"
    try:
        module = importlib.import_module(f"{PACKAGE}.{name}")
    except unittest.SkipTest as skip:
        return str(skip)
    if maker := MODULES[name]:
        replace_maker(module, maker, factory)
    return module


def tests_of(module: ModuleType) -> dict[str, str | None]:
    """Return the tests of a module by their names inside the package, with the reason of those that are on the list."""
    tests = {}
    for case in flatten(unittest.defaultTestLoader.loadTestsFromModule(module)):
        if type(case).__name__ not in VARIANTS:
            test = case.id().removeprefix(f"{PACKAGE}.")
            method = inspect.unwrap(getattr(case, case._testMethodName))
            tests[test] = stdlib_only(test, functools.partial(inspect.getsource, method))
    return tests


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


# ---- One test, in its own process


def run_and_report(test: str, scratch: Path, seen: set[str]) -> int:
    """Run one test in this freshly forked process, write the finding to `scratch` and return the exit status."""
    try:
        prepare_process(scratch)
        seen.clear()
        finding = run_test(test)
        finding["loop"] = "ran" if "ran" in seen else "made" if "made" in seen else "none"
        unfinished = scratch / "finding.unfinished"
        unfinished.write_text(json.dumps(finding))
        unfinished.rename(scratch / "finding")
    except Exception:  # unittest lets no test's Exception through
        traceback.print_exc()
        return BROKEN
    return 0


def prepare_process(scratch: Path) -> None:
    """Give this process its own group, signal handlers, standard streams and working directory."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    redirect(os.devnull, os.O_RDONLY, 0)
    redirect(scratch / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 1, 2)
    faulthandler.enable()
    workplace = scratch / "work"
    workplace.mkdir()
    os.chdir(workplace)


def redirect(path: str | Path, flags: int, *targets: int) -> None:
    source = os.open(path, flags, 0o600)
    for target in targets:
        os.dup2(source, target)
    os.close(source)


def run_test(test: str) -> dict[str, Any]:
    """Run one test and return what was found: its faults by kind, why it was skipped if it was."""
    faults: dict[str, str] = {}
    watch_warnings(faults)
    watch_unraisable(faults)
    support.environment_altered = False
    suite = unittest.TestSuite([unittest.defaultTestLoader.loadTestsFromName(f"{PACKAGE}.{test}")])
    result = unittest.TestResult()
    before = open_descriptors()
    suite.run(result)
    for _ in range(3):  # a finalizer may leave new garbage behind
        gc.collect()
    after = open_descriptors()

    failures = [trace for _, trace in result.failures + result.errors]
    failures += [f"{case} succeeded unexpectedly" for case in result.unexpectedSuccesses]
    skipped = [reason for _, reason in result.skipped]
    if not (result.testsRun or failures or skipped):
        failures.append("no test ran")
    if failures:
        faults["failed"] = "\n".join(failures)
    if leaked := after.items() - before.items():
        faults["leaked descriptor"] = describe(leaked)
    if closed := before.items() - after.items():
        faults["closed a descriptor it does not own"] = describe(closed)
    if threads := threads_left():
        faults["left threads behind"] = f"{threads} still run"
    if has_children():
        faults["left children behind"] = "not waited for"
    if support.environment_altered:
        faults["altered its environment"] = "says test.support"
    return {"faults": faults, "skipped": "; ".join(skipped) if skipped and not failures else None}


def watch_warnings(faults: dict[str, str]) -> None:
    """Turn every ResourceWarning that reaches the user into a fault; print the other warnings as usual."""
    print_warning = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
        if issubclass(category, ResourceWarning):
            faults.setdefault("ResourceWarning", str(message))
        print_warning(message, category, *args, **kwargs)

    warnings.simplefilter("default")
    warnings.simplefilter("always", ResourceWarning)
    warnings.showwarning = show


def watch_unraisable(faults: dict[str, str]) -> None:
    """Turn an exception that Python could only print (in a finalizer, say) into a fault."""

    def hook(unraisable: Any) -> None:
        text = "".join(traceback.format_exception_only(unraisable.exc_type, unraisable.exc_value)).strip()
        faults.setdefault("unraisable exception", f"{text} in {unraisable.object!r}")
        sys.__unraisablehook__(unraisable)

    sys.unraisablehook = hook


def open_descriptors() -> dict[int, str]:
    """Return what each open descriptor of this process refers to."""
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor that listed the directory
            descriptors[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return descriptors


def threads_left() -> int:
    """Return how many threads, native ones too, still run beside this one after those on their way out have ended."""
    deadline = time.monotonic() + THREADS_END_SECONDS
    while (threads := len(os.listdir("/proc/self/task")) - 1) and time.monotonic() < deadline:
        time.sleep(0.01)
    return threads


def has_children() -> bool:
    """Return whether this process has a child that runs or was not waited for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def describe(descriptors: set[tuple[int, str]]) -> str:
    return ", ".join(f"{number} ({target})" for number, target in sorted(descriptors))


# ---- All tests, a few at a time


@dataclass
class Running:
    """One forked test; `deadline` moves on once the test has been told to abort."""

    test: str
    pid: int
    scratch: Path
    deadline: float
    started: float = field(default_factory=time.monotonic)
    timed_out: bool = False


class Runner:
    """Keeps up to `jobs` forked tests running. Owns their processes, keyed by pidfd, and their scratch directories."""

    def __init__(self, jobs: int, time_limit: float, scratch: str, seen: set[str]) -> None:
        self.jobs = jobs
        self.time_limit = time_limit
        self.scratch = scratch
        self.seen = seen
        self.running: dict[int, Running] = {}
        self.poll = select.poll()

    def run(self, tests: list[str]) -> None:
        """Run the tests and print a line of JSON about each. Raises SystemExit in the forked processes."""
        pending = deque(tests)
        try:
            while pending or self.running:
                while pending and len(self.running) < self.jobs:
                    self.start(pending.popleft())
                for pidfd, _ in self.poll.poll(self.milliseconds_to_deadline()):
                    print(json.dumps(self.finish(pidfd)), flush=True)
                self.stop_overdue()
        finally:
            for run in self.running.values():
                os.killpg(run.pid, signal.SIGKILL)

    def start(self, test: str) -> None:
        scratch = Path(tempfile.mkdtemp(dir=self.scratch))
        pid = os.fork()
        if pid == 0:
            self.disown()
            raise SystemExit(run_and_report(test, scratch, self.seen))
        os.setpgid(pid, pid)  # as the fork itself does: whichever comes first
        pidfd = os.pidfd_open(pid)
        self.running[pidfd] = Running(test, pid, scratch, time.monotonic() + self.time_limit)
        self.poll.register(pidfd, select.POLLIN)

    def disown(self) -> None:
        """Forget the other tests in a forked process, which must neither see their descriptors nor kill them."""
        for pidfd in self.running:
            os.close(pidfd)
        self.running.clear()

    def milliseconds_to_deadline(self) -> float:
        return max(0.0, min(run.deadline for run in self.running.values()) - time.monotonic()) * 1000

    def stop_overdue(self) -> None:
        for run in self.running.values():
            if time.monotonic() >= run.deadline:
                os.killpg(run.pid, signal.SIGKILL if run.timed_out else signal.SIGABRT)
                run.timed_out = True
                run.deadline += ABORT_SECONDS

    def finish(self, pidfd: int) -> dict[str, Any]:
        """Reap an ended test and return its report."""
        run = self.running.pop(pidfd)
        self.poll.unregister(pidfd)
        os.close(pidfd)
        os.killpg(run.pid, signal.SIGKILL)  # what the test left running; its own process is not reaped yet
        status = os.waitstatus_to_exitcode(os.waitpid(run.pid, 0)[1])
        report = self.judge(run, status)
        shutil.rmtree(run.scratch, ignore_errors=True)
        return report

    def judge(self, run: Running, status: int) -> dict[str, Any]:
        """Return the report on a test that ended with a status: what the test found, and how its process fared."""
        output = run.scratch / "output"
        text = output.read_text(errors="replace")[-OUTPUT_LIMIT:] if output.exists() else ""
        if status == BROKEN:
            raise RuntimeError(f"{run.test} could not be run\n{text}")
        finding = run.scratch / "finding"
        finished = finding.exists()
        report = json.loads(finding.read_text()) if finished else {"faults": {}, "skipped": None, "loop": "unknown"}
        if run.timed_out:
            report["faults"]["failed"] = f"exceeded the time limit of {self.time_limit:g} s"
        elif status < 0:
            report["faults"]["crashed"] = f"died of {signal.Signals(-status).name}" + " on its way out" * finished
        elif status or not finished:
            report["faults"].setdefault("failed", f"left with status {status}" + " before it ended" * (not finished))
        seconds = round(time.monotonic() - run.started, 3)
        return report | {"test": run.test, "seconds": seconds, "output": text}


def main() -> None:
    request = json.load(sys.stdin)
    seen: set[str] = set()
    isolate_network()
    factory = load(request["loop"])
    install(factory, seen)
    support.use_resources = {}  # as `python -m test` has it: no network, nothing that takes minutes
    modules = {name: import_module(name, factory) for name in request["modules"]}
    if "tests" not in request:
        print(json.dumps({name: m if isinstance(m, str) else tests_of(m) for name, m in modules.items()}))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    gc.freeze()  # what was imported is no garbage: without this every fork would look through it
    Runner(request["jobs"], request["time_limit"], request["scratch"], seen).run(request["tests"])


def leave(signum: int, frame: object) -> NoReturn:
    """Exit by an exception, so that no forked test stays behind."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
