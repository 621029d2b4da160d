"""What the tests share: loops by kind, bounded waits, recording protocols, raw peers, and the leak guard's eyes."""

import array
import asyncio
import contextlib
import ctypes
import functools
import gc
import importlib
import inspect
import logging
import os
import re
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

TIME_LIMIT = 15
"""Seconds that one wait inside a test may take; only a hang ever takes that long."""

SETTLING_TIME = 5
"""Seconds that threads and children of a finished test get to be gone."""

LOCALHOST = "127.0.0.1"

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
"""Whether this interpreter does without a GIL (PEP 703)."""

NEW_EVENT_LOOP = {
    "asyncio": "from asyncio import new_event_loop",
    "zloop": "from zloop import new_event_loop",
}
"""The line that gives a script its loop factory, by kind of loop."""


@contextlib.contextmanager
def modules_of(folder):
    """Give a `with` block import_module() for the modules of a folder that is no package; they are gone after it."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(folder))
        for name in sys.modules.keys() - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


def compile_library(compiler, source, target, *options):
    """Make a shared library that a program can preload, of a source in C or C++."""
    run_tool(compiler, *options, "-shared", "-fPIC", "-o", target, source, "-ldl")
    return target


def run_tool(*command):
    """Run a program of the system's; return what it prints.

    Without the sanitizer that this process may have loaded, which finds fault with others and can make them hang.
    """
    environment = os.environ | {"LD_PRELOAD": ""}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def memory_settings():
    """The environment of a program that measures its memory: of what is freed AddressSanitizer keeps little there."""
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:quarantine_size_mb=1:thread_local_quarantine_size_kb=16"
    return os.environ | {"ASAN_OPTIONS": options}


@contextlib.contextmanager
def no_leak_detection():
    """A `with` block that may lose memory of C libraries: LeakSanitizer, if it is loaded, does not report that."""
    sanitizer = ctypes.CDLL(None)
    detects = hasattr(sanitizer, "__lsan_disable")
    if detects:
        sanitizer.__lsan_disable()
    try:
        yield
    finally:
        if detects:
            sanitizer.__lsan_enable()


# -- loops ---------------------------------------------------------------------------------------------------------


def new_loop(kind):
    """Return a new loop of the kind "zloop" or "asyncio"."""
    if kind == "asyncio":
        return asyncio.SelectorEventLoop()
    import zloop  # so that the reference can be run without it

    return zloop.new_event_loop()


def close_loop(loop):
    """Close a loop the way asyncio.Runner does; tasks that are still pending stay so, and get reported."""
    if not loop.is_closed():
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def run_bounded(loop, coro):
    """Run coro on the loop and return its result; raise TimeoutError after TIME_LIMIT seconds."""

    async def bounded():
        async with asyncio.timeout(TIME_LIMIT):
            return await coro

    return loop.run_until_complete(bounded())


def enable_debug(loop):
    """Switch on debug mode, without reports of slow callbacks: a busy machine would make some up."""
    loop.set_debug(True)
    loop.slow_callback_duration = float("inf")


async def several_turns(count=5):
    """Let the loop poll and run what is ready a few times over."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Wait until condition() holds, looking once a turn; the enclosing time limit ends a vain wait."""
    while not condition():
        await asyncio.sleep(0.001)


async def started(loop, coroutine):
    """Start a coroutine as a task and let it get to where it waits."""
    task = loop.create_task(coroutine)
    await several_turns()
    assert not task.done()
    return task


@contextlib.contextmanager
def resource_warnings():
    """Gather in a list the texts of the ResourceWarnings that the block, and collecting its garbage, causes."""
    texts = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield texts
        gc.collect()
        texts += [str(warning.message) for warning in caught]
        caught.clear()  # each warning keeps its source alive
    gc.collect()


# -- outcomes, to compare loops by ---------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How a scenario ended: what it returned, or the type and message of what it raised; and what was logged."""

    returned: object
    raised: type | None
    message: str
    logged: list


def _ephemeral_ports():
    """The ports that the kernel gives to a socket which asks for none: the first and the last."""
    try:
        first, last = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except FileNotFoundError:  # not Linux; what IANA sets aside for it
        return 49152, 65535
    return int(first), int(last)


FIRST_PORT, LAST_PORT = _ephemeral_ports()


def _without_port(match):
    return f"{match[1]}PORT" if FIRST_PORT <= int(match[2]) <= LAST_PORT else match[0]


_CLASSES_OF_TRANSPORTS = {
    "_SelectorDatagramTransport": "DatagramTransport",
    "_SelectorSocketTransport": "SocketTransport",
    "_SSLProtocolTransport": "SSLTransport",
    "_UnixReadPipeTransport": "ReadPipeTransport",
    "_UnixSubprocessTransport": "SubprocessTransport",
    "_UnixWritePipeTransport": "WritePipeTransport",
}
"""asyncio's, and zloop's of the same kind."""

_ALIKE = [
    (re.compile(r"\b(at |id=)0x[0-9a-fA-F]+"), r"\g<1>0x…"),
    (re.compile(r"\bTask-\d+\b"), "Task-N"),
    (re.compile(r"\bfd=\d+"), "fd=N"),
    (re.compile(r"\bdescriptor \d+\b"), "descriptor N"),
    (re.compile(r"\b(?:_UnixSelectorEventLoop|Base(?:Selector)?EventLoop|\w+Mixin)\.(?=\w+\(\))"), ""),  # of a method
    (re.compile(r"\bwhen=\d+\.\d+"), "when=T"),
    (re.compile(r"(?<=['\"], )(['\"]?)(\d{4,5})\b"), _without_port),  # behind a host; of getnameinfo() a string
    (re.compile(r"\bliteral_info\("), "_ipaddr_info("),  # zloop's function of that purpose
    (re.compile(r"\btook \d+\.\d+ seconds"), "took T seconds"),
    (re.compile(r"<_ThreadSafeHandle\b"), "<Handle"),  # of CPython 3.14 and later
    (re.compile(r"<(?:_UnixSelectorEventLoop|Loop) (?=running=)"), "<Loop "),
    (re.compile(r"\b\w+Transport(?=\._)"), "Transport"),  # the one of the bases that has the private method
    (re.compile(r"<_?[A-Z]\w*(?=\.\.\.)"), "<…"),  # a class's name that reprlib has cut, and what it kept is shorter
    (re.compile(r"\b_\w+Transport\b"), lambda match: _CLASSES_OF_TRANSPORTS.get(match[0], match[0])),
]


def alike(value):
    """Return value with what may differ between two equal runs blotted out of its strings."""
    if isinstance(value, str):
        for pattern, substitute in _ALIKE:
            value = pattern.sub(substitute, value)
        return value
    if isinstance(value, BaseException):
        return type(value), alike(str(value))
    if type(value) in (list, tuple):
        return type(value)(alike(item) for item in value)
    if type(value) is dict:
        return {key: alike(item) for key, item in value.items()}
    return value


def outcome_of(function, *args, **kwargs):
    """Call a function and return ("returned", value) or ("raised", type, message)."""
    try:
        return "returned", function(*args, **kwargs)
    except Exception as exc:
        return "raised", type(exc), str(exc)


async def awaited_outcome(awaitable):
    """Await something and return ("returned", value) or ("raised", type, message)."""
    try:
        return "returned", await awaitable
    except Exception as exc:
        return "raised", type(exc), str(exc)


def observe(scenario, kind, log):
    """Run a scenario on a new loop of that kind and return its Outcome."""
    loop = new_loop(kind)
    returned = raised = None
    message = ""
    try:
        if inspect.iscoroutinefunction(scenario):
            returned = run_bounded(loop, scenario(loop))
        else:
            returned = scenario(loop)
    except Exception as exc:
        raised, message = type(exc), str(exc)
    finally:
        close_loop(loop)
    del loop
    gc.collect()
    return Outcome(alike(returned), raised, alike(message), alike(log.take()))


def info_of(thing):
    """The repr of a loop, handle, server or transport."""
    return alike(repr(thing))


# -- the leak guard's eyes -----------------------------------------------------------------------------------------


class LoopLog(logging.Handler):
    """Keeps what is logged, WARNING and above, until it is taken."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self._entries = []

    def emit(self, record):
        exception = record.exc_info[1] if record.exc_info else None
        self._entries.append((record.levelname, record.getMessage(), exception))

    def take(self):
        """Return the (level, message, exception) entries since the last call, and forget them."""
        taken, self._entries = self._entries, []
        return taken

    def take_messages(self):
        """Return just the messages since the last call, and forget the entries."""
        return [message for _level, message, _exception in self.take()]


def _open_descriptors():
    found = {}
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):  # the descriptor that listed the others
            fd = int(name)
            found[fd] = os.readlink(f"/dev/fd/{fd}") if sys.platform == "linux" else os.fstat(fd)[:3]
    return found


def _has_children():
    if not hasattr(os, "waitid"):  # macOS, before CPython 3.13
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def wakeup_fd():
    """The descriptor that signals are written to, or -1."""
    fd = signal.set_wakeup_fd(-1)
    if fd != -1:
        signal.set_wakeup_fd(fd)
    return fd


def engine_objects():
    """How many objects of zloop's engine there are, by class; none, unless zloop counts them (ZLOOP_INVARIANTS)."""
    native = sys.modules.get("zloop.core.loop")
    return Counter(native.live_engine_objects() if native is not None else {})


def _signal_handlers():
    guarded = signal.valid_signals() - {signal.SIGALRM}  # the test runner's, to end tests that hang
    return {number: signal.getsignal(number) for number in guarded}


def process_state():
    """Everything about this process that a test has to leave as it was."""
    return {
        "descriptors": _open_descriptors(),
        "threads": {thread.ident: thread.name for thread in threading.enumerate()},
        "native threads": dict.fromkeys(os.listdir("/proc/self/task") if sys.platform == "linux" else ()),
        "children": {"unreaped": True} if _has_children() else {},
        "signal handlers": _signal_handlers(),
        "wake-up descriptor": {"fd": wakeup_fd()},
        "hooks": {"asyncgen": tuple(sys.get_asyncgen_hooks()), "origin": sys.get_coroutine_origin_tracking_depth()},
    }


def settled_leaks(before):
    """Return what is there now and was not in the state before, by name; wait SETTLING_TIME for it to go away."""
    deadline = time.monotonic() + SETTLING_TIME
    while True:
        after = process_state()
        leaks = {name: extra for name in before if (extra := dict(after[name].items() - before[name].items()))}
        if not leaks or time.monotonic() > deadline:
            return leaks
        time.sleep(0.01)


@contextlib.contextmanager
def assert_silent(loop=None):
    """The block logs nothing on asyncio's logger, calls no exception handler of the loop, and leaves nothing behind.

    Given a loop, its handler is replaced, and the loop is closed at the end of the block. What counts as left behind is
    what the leak guard looks for: descriptors, threads, children, handlers of signals.
    """
    gc.collect()
    before, log, contexts = process_state(), LoopLog(), []
    logger = logging.getLogger("asyncio")
    logger.addHandler(log)
    if loop is not None:
        loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    try:
        yield
        if loop is not None:
            close_loop(loop)
        gc.collect()
    finally:
        logger.removeHandler(log)
    logged = log.take()
    assert not logged, f"asyncio's logger was given: {logged}"
    assert not contexts, f"the loop's exception handler was given: {contexts}"
    leaks = settled_leaks(before)
    assert not leaks, f"left behind: {leaks}"


# -- protocols that keep a record ----------------------------------------------------------------------------------


class _Record:
    """A list of calls that can be waited on."""

    def __init__(self):
        self.transport = None
        self.calls = []
        self._changed = asyncio.Event()

    def note(self, *call):
        self.calls.append(call)
        self._changed.set()

    def names(self):
        """The names of the calls so far, in order."""
        return [call[0] for call in self.calls]

    async def until(self, condition):
        """Wait until condition() holds, looking again after every call."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    async def until_called(self, name):
        """Wait until the method called name has been called, and return its argument."""
        await self.until(lambda: name in self.names())
        return next(call[-1] for call in self.calls if call[0] == name)

    # what every kind of protocol has
    def connection_made(self, transport):
        self.transport = transport
        self.note("connection_made", transport)

    def connection_lost(self, exc):
        self.note("connection_lost", exc)

    def pause_writing(self):
        self.note("pause_writing")

    def resume_writing(self):
        self.note("resume_writing")

    def eof_received(self):
        self.note("eof_received")


class Recorder(_Record, asyncio.Protocol):
    """A streaming protocol that records its calls."""

    @property
    def received(self):
        return b"".join(call[1] for call in self.calls if call[0] == "data_received")

    def data_received(self, data):
        self.note("data_received", data)


class BufferedRecorder(_Record, asyncio.BufferedProtocol):
    """A buffered protocol that records its calls; size is that of the buffer it offers."""

    def __init__(self, size=4096):
        super().__init__()
        self.buffer = bytearray(size)
        self.received = b""
        self.hints = []

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.received += self.buffer[:nbytes]
        self.note("buffer_updated", nbytes)


def without_repeats(names):
    """The names in order, each run of the same name reduced to one: how a stream is cut up is nobody's promise."""
    return [name for index, name in enumerate(names) if index == 0 or names[index - 1] != name]


# -- peers ---------------------------------------------------------------------------------------------------------


BIG = 1 << 20
"""Many more bytes than the buffers of both ends of a narrow connection hold."""


def descriptor_closed(transport):
    """Whether the transport has closed its socket."""
    return transport.get_extra_info("socket").fileno() == -1


def port_of(server):
    return server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def connection(loop, protocol_factory=Recorder, *, narrow=False):
    """A TCP connection between a transport of the loop and a raw non-blocking socket: (transport, protocol, peer).

    The kernel's buffers of a narrow one hold no more than about 100 KiB. In the end both sides are closed.
    """
    with socket.socket() as listener:
        if narrow:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind((LOCALHOST, 0))
        listener.listen()
        transport, protocol = await loop.create_connection(protocol_factory, *listener.getsockname())
        peer, _address = listener.accept()
    if narrow and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    with peer:
        peer.setblocking(False)
        try:
            yield transport, protocol, peer
        finally:
            if not descriptor_closed(transport):
                transport.abort()
            await until(lambda: descriptor_closed(transport))


@contextlib.contextmanager
def socket_pair(type=socket.SOCK_STREAM):
    """Two connected non-blocking sockets, closed in the end."""
    left, right = socket.socketpair(type=type)
    with left, right:
        left.setblocking(False)
        right.setblocking(False)
        yield left, right


@contextlib.contextmanager
def tcp_pair():
    """Two connected non-blocking TCP sockets, closed in the end.

    The kernel takes less than a megabyte that nobody reads. Left to itself it takes up to what net.ipv4.tcp_wmem and
    tcp_rmem allow: with Linux 6.18 more than four.
    """
    with socket.create_server((LOCALHOST, 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _address = listener.accept()
    with left, right:
        for end in (left, right):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
            end.setblocking(False)
        yield left, right


@contextlib.contextmanager
def full_listener():
    """A listening socket that can queue no connection more: whoever connects waits until one is accepted."""
    with socket.create_server((LOCALHOST, 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        with contextlib.suppress(TimeoutError):
            while True:
                filler = stack.enter_context(socket.socket())
                filler.settimeout(0.05)
                filler.connect(listener.getsockname())
        yield listener


@contextlib.contextmanager
def udp_socket(host=LOCALHOST):
    """A non-blocking UDP socket on a port of its own."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.setblocking(False)
        yield sock


@contextlib.contextmanager
def listening_socket():
    """A non-blocking TCP socket that listens on LOCALHOST, closed in the end."""
    with socket.create_server((LOCALHOST, 0)) as listener:
        listener.setblocking(False)
        yield listener


def refusing_port():
    """A TCP port on LOCALHOST where nothing listens."""
    with socket.socket() as unused:
        unused.bind((LOCALHOST, 0))
        return unused.getsockname()[1]


def fill(sock):
    """Send until the kernel takes no more; return how many bytes it took."""
    total = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            total += sock.send(b"\0" * 65536)
    return total


def drain(sock):
    """Receive what has arrived by now."""
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


async def receive_all(loop, sock):
    """Receive until the end of the stream, and return it all."""
    received = bytearray()
    while chunk := await loop.sock_recv(sock, 1 << 20):
        received += chunk
    return bytes(received)


async def receive_exactly(loop, sock, count):
    """Receive count bytes; raise EOFError if the stream ends before."""
    received = bytearray()
    while len(received) < count:
        chunk = await loop.sock_recv(sock, count - len(received))
        if not chunk:
            raise EOFError(f"{len(received)} of {count} bytes")
        received += chunk
    return bytes(received)


def reset(sock):
    """Close a TCP socket so that its peer gets a connection reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


@functools.cache
def pattern(size):
    """Bytes of that size in which every misplaced or repeated piece would show."""
    return array.array("I", range(size // 4 + 1)).tobytes()[:size]


# -- scripts in a process of their own -----------------------------------------------------------------------------


class Script:
    """A Python script in a process of its own, with new_event_loop as its loop factory.

    Text that the script prints is read line by line with ``line()``; ``finish()`` gives the rest and asserts that it
    ended well and wrote nothing to standard error, where warnings (errors there, too) would show.
    """

    def __init__(self, kind, source):
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "error", "-c", f"{NEW_EVENT_LOOP[kind]}\n{source}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_exc_info):
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def line(self):
        """Return the next line that the script prints, without its end; fail after TIME_LIMIT seconds."""
        ready, _, _ = select.select([self._process.stdout], [], [], TIME_LIMIT)
        assert ready, "the script printed nothing"
        return self._process.stdout.readline().decode().rstrip("\n")

    def wait_until_asleep(self):
        """Wait until the script's process does nothing, as it does while its loop is idle."""
        deadline = time.monotonic() + TIME_LIMIT
        while self._state() != "S":
            assert time.monotonic() < deadline, "the script is not idle"
            time.sleep(0.001)

    def _state(self):
        if sys.platform != "linux":
            return run_tool("ps", "-o", "state=", "-p", str(self._process.pid))[:1]
        with open(f"/proc/{self._process.pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    @property
    def pid(self):
        """The number of the script's process."""
        return self._process.pid

    def send_signal(self, number):
        self._process.send_signal(number)

    def finish(self, *, status=0):
        """Wait for the end of the script and return the lines it printed; check status and standard error."""
        output, errors = self._process.communicate(timeout=TIME_LIMIT)
        assert errors.decode() == ""
        assert self._process.returncode == status
        return output.decode().splitlines()


def run_script(kind, source):
    """Run a script to its end and return the lines it printed."""
    with Script(kind, source) as script:
        return script.finish()


# -- the checks of the repository's own rules ----------------------------------------------------------------------


class Checker:
    """A script of the repository that looks for what breaks a rule, on small trees of files."""

    def __init__(self, name, tree, monkeypatch):
        folder = Path(__file__).parents[1] / "scripts"
        monkeypatch.syspath_prepend(folder)
        self.script = folder / f"{name}.py"
        self.module = importlib.import_module(name)
        self.tree = tree

    def plant(self, files):
        """Put files, texts by their names, into the tree."""
        for name, text in files.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def violations(self):
        """What is found in the tree: (path, line, reason) of each."""
        from checking import violations

        return [(str(path), line, reason) for path, line, reason in violations(self.tree, self.module.CHECKS)]

    def command(self):
        """Run the script: its status, and what it has printed to standard output and to standard error."""
        command = [sys.executable, str(self.script), str(self.tree)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
        return done.returncode, done.stdout, done.stderr

    def assert_command_tells(self, sound, violation, told):
        """Its status and output for an empty tree, a sound one, and one with a violation."""
        assert self.command() == (2, "", f"{self.tree}: there is no {self.module.NEEDED[0]}\n")  # not a pass
        self.plant(sound)
        assert self.command() == (0, "", "")
        self.plant(violation)
        assert self.command() == (1, told, "")
