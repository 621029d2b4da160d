"""Sweeps of system calls that fail, each use of each call in turn.

    fault_program.py LIBRARY LOOPS SCENARIOS CERTIFICATE KEY MOST [CALL...]

LIBRARY is failing_calls.cpp's, which is preloaded. LOOPS are "zloop" and those of BROKEN, which a sweep has to find;
or "asyncio", whose outcomes are not judged. Names are separated by commas. MOST limits the uses of one call that are
tried. The CALLs are those whose uses fail, if not all. Prints a line of JSON for each sweep: what is wrong, and what
came of the first use of each call for each of its errors.
"""

import asyncio
import contextlib
import ctypes
import errno
import functools
import gc
import importlib
import itertools
import json
import os
import signal
import socket
import ssl
import sys
import tempfile
from pathlib import Path

PAYLOAD = bytes(range(256)) * 300
STREAM_ERRORS = (errno.ECONNRESET, errno.ENOBUFS, errno.EIO)
ERRORS = {
    "recv": STREAM_ERRORS,
    "recvfrom": (errno.ECONNREFUSED, errno.ENOMEM),
    "send": (*STREAM_ERRORS, errno.EPIPE),
    "sendmsg": (*STREAM_ERRORS, errno.EPIPE),
    "sendto": (errno.ECONNREFUSED, errno.EPERM),
    "recvmmsg": (errno.ECONNREFUSED, errno.ENOMEM),
    "sendmmsg": (errno.ECONNREFUSED, errno.ENETUNREACH),
    "accept4": (errno.ECONNABORTED,),
    "connect": (errno.ECONNREFUSED, errno.ENETUNREACH),
    "so_error": (errno.ECONNREFUSED, errno.ETIMEDOUT),
    "epoll_add": (errno.ENOMEM, errno.ENOSPC),
    "socket": (errno.EMFILE, errno.ENOBUFS),
    "pipe": (errno.EMFILE,),
    "socketpair": (errno.EMFILE,),
    "nodelay": (errno.EINVAL,),
    "getsockname": (errno.ENOBUFS,),
    "getpeername": (errno.ENOTCONN,),
    "shutdown": (errno.ENOTCONN,),
    "close": (errno.EIO,),
    "sendfile": (errno.EIO, errno.EPIPE),
    "read": (errno.EIO,),
    "write": (errno.EPIPE, errno.EIO),
    "writev": (errno.EPIPE, errno.EIO),
    "epoll_wait": (),
}
"""The numbers that end something. Besides, each call is interrupted, and not ready, and transfers less: none shows."""
TRANSFERS = {"recv", "send", "sendmsg", "read", "write", "writev", "sendfile"}
BATCHES = {"recvmmsg", "sendmmsg", "epoll_wait"}
NOT_READY = TRANSFERS | {"recvfrom", "accept4", "recvmmsg", "sendmmsg", "sendto"}
INTERRUPTED = NOT_READY | {"connect", "epoll_wait"}
LASTING = 3
FOR_GOOD = 1_000_000
"""Consecutive calls that a lasting fault is of. What can be repeated fails a few times; other calls, from then on."""
FAILS_ONCE = {"signals read"} | {f"{name} accept4" for name in ("tcp", "buffered", "tls", "unix", "sock_calls")}
"""What can never succeed if these fail for good: nobody hears of a signal, and a server tries again."""
FIRST_WRITE_WAITS = {
    "tcp": "sendmsg",
    "tls": "send",
    "unix": "sendmsg",
    "udp": "send",
    "pipe": "write",
    "child": "write",
}
"""Calls whose first use is not ready, in a second round: what is written is sent from the queue."""
OF_INTERPRETER = {"sendfile", "connect", "so_error"}
"""Those that zloop leaves to the interpreter's modules, where it does. Others of theirs may be the program's own, but
in some scenarios."""
OF_INTERPRETER_IN = {
    "signals": {"read"},
    "pipe": {"close"},
    "child": {"pipe", "socketpair"},
    **{name: {"socket", "close"} for name in ("tcp", "buffered", "tls", "unix", "udp")},
}
NOT_COMPARED = (
    {"child read"}
    | {f"{name} epoll_add" for name in ("udp", "pipe", "child", "sendfile")}
    | {f"{name} {call}" for name in ("tcp", "buffered", "tls", "unix", "udp") for call in ("getsockname", "nodelay")}
)
"""Of asyncio. Its first read is subprocess's, its first getsockname() that of create_server(). Its transports stay open
for good if they are not watched, and its connections end if they cannot be told to send small writes at once.
"""
NOT_TOLD = {"accept4", "child epoll_add", "child write", "child writev", "tcp socket", "buffered socket", "tls socket"}
"""A client that left before it was accepted. A child that a thread watches instead, and one that does not read all that
communicate() has for it: asyncio's communicate() makes nothing of that. A server's address that no socket can be made
for: asyncio takes the next.
"""
CONSEQUENCES = ("Transport is closing", "could not bind on any address", "tuple index out of range")
"""What is told to those who go on after an error. Before CPython 3.12 a server may have no sockets."""
INVISIBLE = {"sendfile 1", "nodelay", "getsockname", "getpeername"}
"""Uses that may fail: then the file is read and written, small writes wait, and get_extra_info() has no address."""
TIME_LIMIT = 5

SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


class Ends:
    """Protocols of one scenario: each is told of its beginning and its end, once."""

    def __init__(self):
        self.protocols = []
        self.kind = End
        self.raised = []  # by what has no other caller; and what else it returned

    def make(self, act, *, echo=False):
        protocol = self.kind(act, echo)
        self.protocols.append(protocol)
        return protocol

    def make_for_datagrams(self, *, answers=False):
        self.protocols.append(Datagrams(answers))
        return self.protocols[-1]

    async def over(self):
        """Each has its end. A protocol that was just made has its beginning in one of the next turns."""
        quiet = 0
        while quiet < 5:
            over = all(protocol.lost for protocol in self.protocols if protocol.made)
            quiet = quiet + 1 if over else 0
            await asyncio.sleep(0 if over else 0.001)

    def check(self):
        for protocol in self.protocols:
            if (protocol.made, len(protocol.lost)) not in ((1, 1), (0, 0)):
                yield f"connection_made {protocol.made} times, connection_lost with {protocol.lost}"

    def errors(self):
        for protocol in self.protocols:
            yield from filter(None, protocol.lost + protocol.errors)
        yield from (exc for exc in self.raised if isinstance(exc, Exception))


class End(asyncio.Protocol):
    def __init__(self, act, echo):
        self.act, self.echo = act, echo
        self.made, self.lost, self.errors, self.got = 0, [], [], bytearray()

    def connection_made(self, transport):
        self.made += 1
        self.transport = transport
        self.act(self)

    def data_received(self, data):
        self.got += data
        if self.echo:
            self.transport.write(data)
        elif len(self.got) == len(PAYLOAD):
            self.transport.close()

    def connection_lost(self, exc):
        self.lost.append(exc)


class BufferedEnd(End, asyncio.BufferedProtocol):
    """The same, which lends its own memory."""

    def get_buffer(self, _):
        self.memory = bytearray(20_000)
        return self.memory

    def buffer_updated(self, size):
        self.data_received(bytes(self.memory[:size]))


def no_act(_):
    pass


def write_payload(end):
    end.transport.writelines([PAYLOAD[:1000], PAYLOAD[1000:]])


async def several_turns():
    for _ in range(5):
        await asyncio.sleep(0)


async def stream(ends, serve, connect):
    server = await serve(lambda: ends.make(no_act, echo=True))
    try:
        _, client = await connect(server, lambda: ends.make(write_payload))
        while not client.lost:
            await asyncio.sleep(0.001)
    finally:
        await several_turns()  # what has connected is accepted
        server.close()
    await ends.over()
    return bytes(client.got)


async def tcp_with(ends, server_context, client_context):
    loop = asyncio.get_running_loop()
    return await stream(
        ends,
        lambda factory: loop.create_server(factory, "127.0.0.1", 0, ssl=server_context),
        lambda server, factory: loop.create_connection(
            factory,
            *server.sockets[0].getsockname(),
            ssl=client_context,
            server_hostname="" if client_context else None,
        ),
    )


@scenario
async def tcp(ends):
    return await tcp_with(ends, None, None)


@scenario
async def buffered(ends):
    ends.kind = BufferedEnd
    return await tcp_with(ends, None, None)


@functools.cache
def contexts():
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(*sys.argv[4:6])
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


@scenario
async def tls(ends):
    return await tcp_with(ends, *contexts())


@scenario
async def unix(ends):
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/socket"
        return await stream(
            ends,
            lambda factory: loop.create_unix_server(factory, path),
            lambda _, factory: loop.create_unix_connection(factory, path),
        )


@scenario
async def pipe(ends):
    loop = asyncio.get_running_loop()
    out, into = os.pipe()
    _, reader = await loop.connect_read_pipe(lambda: ends.make(no_act), os.fdopen(out, "rb", 0))
    writer, _ = await loop.connect_write_pipe(lambda: ends.make(no_act), os.fdopen(into, "wb", 0))
    writer.write(PAYLOAD)
    writer.close()
    await ends.over()
    return bytes(reader.got)


@scenario
async def child(_):
    process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate(PAYLOAD)
    return out


@scenario
async def sock_calls(_):
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        server, _ = await loop.sock_accept(listener)
        with server:
            server.setblocking(False)

            async def send():
                with client:
                    await loop.sock_sendall(client, PAYLOAD)

            sending = asyncio.ensure_future(send())
            got = bytearray()
            try:
                while data := await loop.sock_recv(server, 65536):
                    got += data
            finally:
                server.close()
                await sending
            return bytes(got)


@scenario
async def sock_datagrams(_):
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as near, socket.socket(type=socket.SOCK_DGRAM) as far:
        for sock in (near, far):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        got = b""
        for i in range(0, len(PAYLOAD), 20_000):
            await loop.sock_sendto(near, PAYLOAD[i : i + 20_000], far.getsockname())
            data, address = await loop.sock_recvfrom(far, 65536)
            assert address == near.getsockname()
            got += data
        return got


@scenario
async def sendfile(ends):
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    with tempfile.TemporaryFile() as file:
        file.write(PAYLOAD)
        file.seek(0)
        transport, _ = await loop.create_connection(lambda: ends.make(no_act), sock=near)
        _, reader = await loop.create_connection(lambda: ends.make(no_act), sock=far)
        try:
            await loop.sendfile(transport, file)
        finally:
            transport.close()
        await ends.over()
        return bytes(reader.got)


@scenario
async def tls_sendfile(ends):
    """The file is read and written, by a thread, and by a protocol in place of the connection's own."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    server_context, client_context = contexts()
    with tempfile.TemporaryFile() as file:
        file.write(PAYLOAD)
        reading = asyncio.ensure_future(
            loop.connect_accepted_socket(lambda: ends.make(no_act, echo=True), sock=far, ssl=server_context)
        )
        try:
            transport, writer = await loop.create_connection(
                lambda: ends.make(no_act), sock=near, ssl=client_context, server_hostname=""
            )
            try:
                await loop.sendfile(transport, file)
                while len(writer.got) < len(PAYLOAD) and not writer.lost:
                    await asyncio.sleep(0.001)
            finally:
                transport.close()
        finally:
            ends.raised += await asyncio.gather(reading, return_exceptions=True)
        await ends.over()
        return bytes(writer.got)


@scenario
async def signals(_):
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, heard.set)
    try:
        await loop.run_in_executor(None, os.kill, os.getpid(), signal.SIGUSR1)
        await heard.wait()
        return PAYLOAD
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answers):
        self.answers = answers
        self.made, self.got, self.errors, self.lost = 0, [], [], []

    def connection_made(self, transport):
        self.made += 1
        self.transport = transport

    def datagram_received(self, data, address):
        self.got.append(data)
        if self.answers:
            self.transport.sendto(data, address)

    def error_received(self, exc):
        self.errors.append(exc)

    def connection_lost(self, exc):
        self.lost.append(exc)


@scenario
async def udp(ends):
    """Cut datagrams show: "cut_datagrams" sweeps those, so that what finds a fault is seen to find one."""
    loop = asyncio.get_running_loop()
    make = ends.make_for_datagrams
    server, receiver = await loop.create_datagram_endpoint(lambda: make(answers=True), local_addr=("127.0.0.1", 0))
    with contextlib.closing(server):
        client, sender = await loop.create_datagram_endpoint(make, remote_addr=server.get_extra_info("sockname"))
        for i in range(4):
            client.sendto(PAYLOAD[i : i + 100])
        turns = 0
        while len(sender.got) < 4 and turns < 10 and not (sender.lost or receiver.lost):
            failed = bool(sender.errors or receiver.errors)
            turns += failed  # what has been sent arrives in these
            await asyncio.sleep(0 if failed else 0.001)
        client.close()
    await ends.over()
    if sender.got == [PAYLOAD[i : i + 100] for i in range(4)]:
        return PAYLOAD
    return b"".join(sender.got)


SCENARIOS_THAT_SHOW = {"cut_datagrams": udp}


class Wrapper(asyncio.Protocol):
    """Between a transport and a protocol."""

    def __init__(self, protocol):
        self.protocol = protocol

    def connection_made(self, transport):
        self.protocol.connection_made(transport)

    def data_received(self, data):
        self.protocol.data_received(data)

    def connection_lost(self, exc):
        self.protocol.connection_lost(exc)


class Swallowing(Wrapper):
    """The end is told without its error."""

    def connection_lost(self, _):
        super().connection_lost(None)


class Repeating(Wrapper):
    """The end is told twice."""

    def connection_lost(self, exc):
        super().connection_lost(exc)
        super().connection_lost(exc)


class Leaking(Wrapper):
    """A descriptor stays open after an error."""

    def connection_lost(self, exc):
        if exc is not None:
            os.dup(0)
        super().connection_lost(exc)


class Losing(Wrapper):
    """A byte that comes alone is lost."""

    def data_received(self, data):
        if len(data) > 1:
            super().data_received(data)


class Hanging(Wrapper):
    """The end is not told if it is an error."""

    def connection_lost(self, exc):
        if exc is None:
            super().connection_lost(exc)


BROKEN = {made.__name__: made for made in (Swallowing, Repeating, Leaking, Losing, Hanging)}
"""Loops that a sweep has to find."""


def broken_loop(made):
    loop_class = importlib.import_module("zloop").Loop

    class Broken(loop_class):
        async def create_server(self, factory, *args, **options):
            return await super().create_server(lambda: made(factory()), *args, **options)

        async def create_connection(self, factory, *args, **options):
            transport, protocol = await super().create_connection(lambda: made(factory()), *args, **options)
            return transport, protocol.protocol

    return Broken()


def loop_factory(kind):
    if kind in BROKEN:
        return lambda: broken_loop(BROKEN[kind])
    if kind == "asyncio":
        return asyncio.SelectorEventLoop
    return importlib.import_module("zloop").new_event_loop


class Faults:
    """The library that makes calls fail: of zloop, or of the modules that asyncio calls."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.count_calls.restype = ctypes.c_long
        self.library.plan_fault.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int)
        self.library.choose_interpreter.argtypes = (ctypes.c_void_p,) * 3
        self.library.choose_interpreter(*map(address_in, ("_socket", "select", "posix")))

    def choose_zloop(self):
        package = Path(importlib.import_module("zloop").__file__).parent
        self.library.choose_package(f"{package}/".encode())

    def count_interpreter(self, names):
        """Whose calls by the interpreter's modules count, too."""
        for name in ERRORS:
            self.library.count_interpreter(name.encode(), name in names)

    def plan(self, call, number, *, n=1, times=1, which=0):
        """The n-th use of the call fails, and those that follow, `times` in all; short if number is 0."""
        self.library.plan_fault(which, call.encode(), n, times, number)

    def end(self):
        for which in (0, 1):
            self.plan("", 0, which=which)

    def counts(self):
        return {name: self.library.count_calls(name.encode()) for name in ERRORS}


def address_in(module):
    """Of a function in the shared object, or the program, that the module is in."""
    path = getattr(importlib.import_module(module), "__file__", None)
    function = getattr(ctypes.PyDLL(path), f"PyInit_{module}") if path else ctypes.pythonapi.Py_IsInitialized
    return ctypes.cast(function, ctypes.c_void_p)


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def describe(exc):
    """Its kind and number, without the words."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return f"{type(exc).__name__} {errno.errorcode.get(exc.errno, exc.errno)}"
    return type(exc).__name__ if isinstance(exc, BaseException) else exc


def without_repeats(errors):
    """Their descriptions, in order. How often an endpoint tries again is a matter of time."""
    return [what for what, _ in itertools.groupby(map(describe, errors))]


def numbers_of(exc):
    """Its error number, and that of what it was made of."""
    return {getattr(one, "errno", None) for one in (exc, exc.__context__)}


class Sweep:
    def __init__(self, faults, kind, name):
        self.faults = faults
        self.kind, self.name = kind, name
        self.new_event_loop = loop_factory(kind)
        self.time_limit = 0.1 if kind in BROKEN else TIME_LIMIT
        if kind == "asyncio":
            self.calls = [call for call in ERRORS if f"{name} {call}" not in NOT_COMPARED]
            faults.count_interpreter(self.calls)
        else:
            self.calls = list(ERRORS)
            faults.choose_zloop()
            faults.count_interpreter(OF_INTERPRETER | OF_INTERPRETER_IN.get(name, set()))
        self.first_write_waits = False
        self.descriptors = descriptors()
        self.cases = 0
        self.wrong = []
        self.outcomes = {}

    async def attempt(self, call, n, times, number):
        """What came of it: the bytes, or the exception."""
        ends = Ends()
        if self.name != "signals":
            await asyncio.sleep(0.001)  # zloop watches for signals before it first sleeps, if it can
        if self.first_write_waits:
            self.faults.plan(FIRST_WRITE_WAITS[self.name], errno.EAGAIN, which=1)
        self.faults.plan(call, number, n=n, times=times)
        try:
            async with asyncio.timeout(self.time_limit):
                result = await (SCENARIOS | SCENARIOS_THAT_SHOW)[self.name](ends)
        except TimeoutError as exc:
            result = exc if exc.errno else "stuck"
        except Exception as exc:  # it is judged
            result = exc
        counts = self.faults.counts()
        self.faults.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.time_limit):
                await ends.over()
        return result, ends, counts

    def case(self, call, n, times, number, *, invisible):
        self.cases += 1
        loop = self.new_event_loop()
        told = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        result, ends, counts = loop.run_until_complete(self.attempt(call, n, times, number))
        again, *_ = loop.run_until_complete(self.attempt("", 0, 0, 0))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        wrong = list(ends.check())
        if result == "stuck":
            wrong.append("stuck")
        if again != PAYLOAD:
            wrong.append(f"the loop does not go on: {again!r:.80}")
        if invisible and (result != PAYLOAD or told):
            wrong.append(f"shows: {result!r:.80} {told}")
        if not invisible and counts[call] >= n:
            wrong.extend(self.judge(call, times, number, result, ends, told))
        if call and n == 1 and counts[call] >= n and number != 0 and not self.first_write_waits:
            outcome = self.outcome(result, ends, told)
            self.outcomes[f"{call} {errno.errorcode[number]}{' lasting' * (times > 1)}"] = outcome
        result = ends = told = again = None
        before, self.descriptors = self.descriptors, descriptors()
        if self.descriptors != before:
            wrong.append(f"descriptors: {before} before, {self.descriptors} now")
        if self.kind != "asyncio":
            case = f"{self.name}: {errno.errorcode.get(number, 'short')} {times} times from {call} {n}"
            self.wrong += [f"{case}: {what}" for what in wrong]
        return counts

    def outcome(self, result, ends, told):
        """What the program saw, to be compared."""
        return {
            "result": "whole" if result == PAYLOAD else describe(result) if not isinstance(result, bytes) else "part",
            "ends": sorted(str(without_repeats(protocol.errors + protocol.lost)) for protocol in ends.protocols),
            "told": [describe(context.get("exception")) for context in told],
        }

    def judge(self, call, times, number, result, ends, told):
        """The error itself comes, and besides only what the other end sees of it."""
        errors = [*ends.errors(), *(context.get("exception") for context in told)]
        if isinstance(result, Exception):
            errors.append(result)
        numbers = set().union(*map(numbers_of, errors))
        if number not in numbers and not self.is_quiet(call, ends):
            yield f"nobody is told: {result!r:.80} {errors}"
        for exc in errors:
            if number not in numbers_of(exc) and not self.is_consequence(exc):
                yield f"another error: {exc!r}"
        if len(told) > times:
            yield f"the exception handler is told {len(told)} times: {told}"

    def is_quiet(self, call, ends):
        """Whether nobody needs to be told. A server drops connections that end before their TLS handshake does."""
        if self.name == "tls" and not any(protocol.made for protocol in ends.protocols if protocol.echo):
            return True
        return bool({call, f"{self.name} {call}"} & NOT_TOLD)

    def is_consequence(self, exc):
        """Whether it is what the other end sees, or what goes on after the error."""
        return isinstance(exc, ConnectionError | ssl.SSLError) or any(words in str(exc) for words in CONSEQUENCES)

    def uses(self, call, n):
        """The faults that the n-th use of a call may have: how many times, which error, and whether it shows."""
        if self.kind != "asyncio":
            yield from self.harmless_uses(call)
        for number in ERRORS[call]:
            shows = not {call, f"{call} {n}"} & INVISIBLE
            yield 1, number, shows
            if f"{self.name} {call}" not in FAILS_ONCE:
                yield FOR_GOOD, number, shows

    def harmless_uses(self, call):
        """Those that never show."""
        if call in (BATCHES if self.name in {"udp", "sock_datagrams"} else TRANSFERS | BATCHES):
            yield 1, 0, False
            yield LASTING, 0, False
        for times in (1, LASTING):
            if call in INTERRUPTED:
                yield times, errno.EINTR, False
            if call in NOT_READY:
                yield times, errno.EAGAIN, False

    def run(self, most, only):
        self.fail_each(most, only)
        if self.name in FIRST_WRITE_WAITS and self.kind == "zloop":
            self.first_write_waits = True
            self.fail_each(most, only or [call for call in self.calls if call.startswith(("send", "write", "epoll"))])

    def fail_each(self, most, only):
        counts = self.case("", 0, 0, 0, invisible=True)
        for call in only or self.calls:
            for n in range(1, min(counts[call], most) + 1):
                for times, number, shows in self.uses(call, n):
                    self.case(call, n, times, number, invisible=not shows)


def main(path, kinds, names, _certificate, _key, most, *only):
    faults = Faults(path)
    gc.freeze()  # what there is now is not looked at for each case
    for kind in kinds.split(","):
        for name in names.split(","):
            sweep = Sweep(faults, kind, name)
            sweep.run(int(most), only)
            told = {"cases": sweep.cases, "wrong": sweep.wrong, "outcomes": sweep.outcomes}
            print(json.dumps({"kind": kind, "name": name, **told}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
