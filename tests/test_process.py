"""Child processes: subprocess_exec(), subprocess_shell(), asyncio.subprocess on top, and how their ends are noticed."""

import asyncio
import contextlib
import logging
import os
import pathlib
import resource
import signal
import subprocess
import sys
import threading
import traceback
import warnings

import pytest
from support import (
    NEW_EVENT_LOOP,
    TIME_LIMIT,
    assert_silent,
    enable_debug,
    info_of,
    pattern,
    run_bounded,
    run_script,
    several_turns,
    until,
)

PIPE = subprocess.PIPE
BIG = 1 << 20
"""More bytes than the pipes to and from a child hold."""

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(1000)"]
"""A child that lives until it is killed, and says when it is there."""


def python(source, *args):
    """The command line of a Python that runs a piece of source."""
    return [sys.executable, "-S", "-c", source, *args]


class Recorder(asyncio.SubprocessProtocol):
    """Records its calls, but for pipes' data, of which it keeps the bytes."""

    def __init__(self):
        self.names = []
        self.output = {1: b"", 2: b""}
        self.exited = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.names.append("connection_made")

    def pipe_data_received(self, fd, data):
        self.output[fd] += data

    def pipe_connection_lost(self, fd, exc):
        self.names.append(("pipe_connection_lost", fd, exc))

    def process_exited(self):
        self.names.append("process_exited")
        self.exited.set()

    def connection_lost(self, exc):
        self.names.append(("connection_lost", exc))
        self.lost.set()


@contextlib.asynccontextmanager
async def child(loop, *command, **options):
    """A child and its protocol: (transport, protocol); killed in the end, if it still runs."""
    transport, protocol = await loop.subprocess_exec(Recorder, *command, **options)
    try:
        yield transport, protocol
    finally:
        transport.close()
        await protocol.lost.wait()


async def output_of(*command, **options):
    """Run a command to its successful end; its standard output."""
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, **options)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output


def unreaped(pid):
    """Whether the process is a child of this one, alive or a zombie."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


# -- protocols -----------------------------------------------------------------------------------------------------


def test_protocol_is_told_everything(same_as_asyncio):
    source = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('oops'); sys.exit(7)"

    async def scenario(loop):
        transport, protocol = await loop.subprocess_exec(Recorder, *python(source))
        assert protocol.transport is transport
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"hello")
        stdin.close()
        await protocol.lost.wait()
        transport.close()
        first, *others, last = protocol.names
        return first, sorted(map(str, others)), last, protocol.output, transport.get_returncode()

    assert same_as_asyncio(scenario).returned == (
        "connection_made",
        [*(f"('pipe_connection_lost', {fd}, None)" for fd in range(3)), "process_exited"],
        ("connection_lost", None),
        {1: b"HELLO", 2: b"oops"},
        7,
    )


def test_transport_tells_of_the_child(loop, run):
    async def scenario():
        async with child(loop, *SLEEPER) as (transport, protocol):
            assert isinstance(transport, asyncio.SubprocessTransport)
            process = transport.get_extra_info("subprocess")
            assert isinstance(process, subprocess.Popen)
            assert process.pid == transport.get_pid()
            assert transport.get_returncode() is None
            assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
            assert isinstance(transport.get_pipe_transport(1), asyncio.ReadTransport)
            assert transport.get_pipe_transport(3) is None
            transport.kill()
            await protocol.exited.wait()
            assert process.returncode == transport.get_returncode() == -signal.SIGKILL
            assert not unreaped(process.pid)

    run(scenario())


def test_repr(same_as_asyncio):
    async def scenario(loop):
        async with child(loop, *SLEEPER, stdin=None, stdout=None, stderr=None) as (transport, protocol):
            pid = str(transport.get_pid())
            told = [info_of(transport).replace(f"pid={pid}", "pid=N")]
            transport.kill()
            await protocol.exited.wait()
        return [*told, info_of(transport).replace(f"pid={pid}", "pid=N")]

    assert same_as_asyncio(scenario).raised is None


def test_closing_the_transport_kills_the_child(loop, run):
    async def scenario():
        async with child(loop, *SLEEPER) as (transport, protocol):
            await until(lambda: protocol.output[1])
            transport.close()
            transport.close()
            assert transport.is_closing()
            await protocol.lost.wait()
            assert transport.get_returncode() == -signal.SIGKILL

    run(scenario())


@pytest.mark.parametrize("name", ["terminate", "kill", "send_signal"])
def test_signals(loop, run, name):
    number = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "send_signal": signal.SIGUSR1}[name]

    async def scenario():
        async with child(loop, *SLEEPER) as (transport, protocol):
            await until(lambda: protocol.output[1])
            getattr(transport, name)(*[number] if name == "send_signal" else [])
            await protocol.exited.wait()
            assert transport.get_returncode() == -number

    run(scenario())


def test_signal_after_the_end(same_as_asyncio):
    """Nothing while pipes are open, ProcessLookupError when all is over."""

    async def scenario(loop):
        # A grandchild keeps the pipe open beyond the end of the child.
        source = "import os, time; pid = os.fork(); pid or time.sleep(1000); print(pid, flush=True)"
        transport, protocol = await loop.subprocess_exec(Recorder, *python(source))
        await protocol.exited.wait()
        await until(lambda: protocol.output[1].endswith(b"\n"))
        transport.send_signal(signal.SIGKILL)
        os.kill(int(protocol.output[1]), signal.SIGKILL)
        transport.close()
        await protocol.lost.wait()
        with pytest.raises(ProcessLookupError):
            transport.send_signal(signal.SIGKILL)
        return transport.get_returncode()

    assert same_as_asyncio(scenario).returned == 0


def test_stopped_child_has_not_ended(loop, run):
    async def scenario():
        async with child(loop, *SLEEPER) as (transport, protocol):
            await until(lambda: protocol.output[1])
            transport.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, transport.get_pid(), os.WSTOPPED | os.WNOWAIT)
            await several_turns()
            assert transport.get_returncode() is None
            transport.send_signal(signal.SIGCONT)
            transport.terminate()
            await protocol.exited.wait()
            assert transport.get_returncode() == -signal.SIGTERM

    run(scenario())


def test_debug_mode_tells_of_the_start(same_as_asyncio, caplog):
    async def scenario(loop):
        enable_debug(loop)
        caplog.clear()
        with caplog.at_level(logging.DEBUG, "asyncio"):
            for start in (
                loop.subprocess_exec(Recorder, "true", stdin=None),
                loop.subprocess_exec(Recorder, "true", stderr=subprocess.STDOUT),
                loop.subprocess_shell(Recorder, "true", stdout=subprocess.DEVNULL),
            ):
                transport, protocol = await start
                await protocol.lost.wait()
                transport.close()
        # Past the colon comes the transport, of which some of the pipes may have ended already.
        return [text.partition(": ")[0] for text in caplog.messages if text.startswith(("execute", "run"))]

    assert len(same_as_asyncio(scenario).returned) == 6


@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
def test_start_is_known_to_what_looks_for_blocking_calls(loop, run, monkeypatch, method):
    """Spawning blocks for a moment. Such tools let asyncio's own functions do that, by their file and name."""
    callers = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **options):
            callers.extend((os.path.basename(frame.filename), frame.name) for frame in traceback.extract_stack())
            super().__init__(*args, **options)

    async def scenario():
        transport, protocol = await getattr(loop, method)(Recorder, "true")
        await protocol.lost.wait()
        transport.close()

    monkeypatch.setattr(subprocess, "Popen", Popen)
    run(scenario())
    assert ("base_events.py", method) in callers


# -- arguments -----------------------------------------------------------------------------------------------------

REFUSED = {
    "universal_newlines": {"universal_newlines": True},
    "bufsize": {"bufsize": 4096},
    "text": {"text": True},
    "encoding": {"encoding": "utf-8"},
    "errors": {"errors": "strict"},
    "several": {"bufsize": 1, "text": True, "encoding": "utf-8"},
    "unknown": {"no_such_option": 1},
    "pass_fds": {"pass_fds": [-1]},
    "directory": {"cwd": "/no/such/directory"},
    "environment": {"env": {"A": None}},
    "descriptor": {"stdout": "no descriptor"},
    "executable": {"executable": "/no/such/program"},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("method", ["subprocess_exec", "subprocess_shell"])
def test_refused_arguments(same_as_asyncio, method, options):
    """With asyncio's exceptions, and nothing is left behind."""

    async def scenario(loop):
        await getattr(loop, method)(Recorder, "true", **options)

    assert same_as_asyncio(scenario).raised is not None


def test_refused_commands(same_as_asyncio):
    async def scenario(loop):
        outcomes = []
        for attempt in (
            lambda: loop.subprocess_exec(Recorder, "true", shell=True),
            lambda: loop.subprocess_shell(Recorder, "true", shell=False),
            lambda: loop.subprocess_shell(Recorder, ["true"]),
            lambda: loop.subprocess_exec(Recorder, "/no/such/program"),
            lambda: loop.subprocess_exec(Recorder, "/etc/passwd"),
            lambda: loop.subprocess_exec(Recorder, "nul\0byte"),
            lambda: loop.subprocess_exec(Recorder, 1),
        ):
            try:
                await attempt()
            except Exception as exc:
                outcomes.append((type(exc), str(exc)))
        return outcomes

    assert len(same_as_asyncio(scenario).returned) == 7


def test_raising_factory_starts_no_child(loop, run):
    def factory():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(loop.subprocess_exec(factory, *SLEEPER))


@pytest.mark.parametrize("convert", [str, os.fsencode, pathlib.Path])
def test_kinds_of_program_names_and_arguments(loop, run, convert):
    async def scenario():
        output = await output_of(convert(sys.executable), "-S", b"-c", "import sys; print(sys.argv[1])", convert("/a"))
        assert output == b"/a\n"

    run(scenario())


@pytest.mark.parametrize("command", ["echo $0 $VALUE", b"echo $0 $VALUE"])
def test_shell(loop, run, command):
    async def scenario():
        process = await asyncio.create_subprocess_shell(command, stdout=PIPE, env={"VALUE": "set"})
        assert (await process.communicate())[0] == b"/bin/sh set\n"

    run(scenario())


def test_popen_options(loop, run, tmp_path):
    source = "import os; print(os.getcwd(), sorted(os.environ.items()), os.getsid(0) == os.getpid(), os.umask(0))"

    async def scenario():
        environment = {"A": "1", "LC_CTYPE": "C.UTF-8"}
        options = {"cwd": tmp_path, "env": environment, "start_new_session": True, "umask": 0o27}
        output = await output_of(*python(source), **options)
        assert output.decode().strip() == f"{tmp_path} {sorted(environment.items())} True {0o27}"

    run(scenario())


def test_preexec_fn(loop, run):
    async def scenario():
        with warnings.catch_warnings():  # CPython 3.12 and later warn of threads, if there are any
            warnings.simplefilter("ignore", DeprecationWarning)
            output = await output_of("sh", "-c", "nice", preexec_fn=lambda: os.nice(3))
        assert int(output) == os.nice(0) + 3

    run(scenario())


def test_redirections(loop, run, tmp_path):
    async def scenario():
        path = tmp_path / "output"
        with path.open("wb") as file:
            source = "import sys; print(sys.stdin.read()); sys.stdout.flush(); sys.stderr.write('errors')"
            process = await asyncio.create_subprocess_exec(
                *python(source), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
            )
            assert await process.wait() == 0
        assert path.read_bytes() == b"\nerrors"
        assert (process.stdin, process.stdout, process.stderr) == (None, None, None)

    run(scenario())


# -- descriptors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close_fds", [True, False])
def test_child_inherits_its_standard_streams_alone(loop, run, close_fds):
    source = (
        "import os; names = os.listdir('/dev/fd')\n"  # the descriptor that lists them among them
        "print(sorted(int(name) for name in names if os.path.lexists('/dev/fd/' + name)))"
    )
    expected = {0, 1, 2}
    if not close_fds:  # the test runner may have some that every child gets
        with os.scandir("/dev/fd") as entries:
            expected |= {fd for entry in entries if os.get_inheritable(fd := int(entry.name))}

    async def scenario():
        async with child(loop, *SLEEPER):  # whose pipes are open meanwhile
            options = {"stdin": PIPE, "stderr": PIPE, "close_fds": close_fds}
            assert await output_of(*python(source), **options) == f"{sorted(expected)}\n".encode()

    run(scenario())


def test_pass_fds(loop, run):
    async def scenario():
        reader, writer = os.pipe()
        with open(reader, "rb", 0) as reader_file, open(writer, "wb", 0) as writer_file:
            fd = writer_file.fileno()
            source = "import os, sys; os.write(int(sys.argv[1]), b'passed'); print(os.get_blocking(int(sys.argv[1])))"
            assert await output_of(*python(source, str(fd)), pass_fds=[fd]) == b"True\n"
            assert reader_file.read(100) == b"passed"

    run(scenario())


def test_stdin_can_be_opened_anew(loop, run):
    """It is a pipe, where a socket could not be."""

    async def scenario():
        process = await asyncio.create_subprocess_exec("cat", "/dev/stdin", stdin=PIPE, stdout=PIPE)
        assert (await process.communicate(b"hello"))[0] == b"hello"

    run(scenario())


def test_running_out_of_descriptors(same_as_asyncio):
    """OSError at each possible point, and nothing is left behind."""

    async def scenario(loop):
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        in_use = len(os.listdir("/dev/fd"))
        outcomes = set()
        try:
            for spare in range(6):
                resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + spare, limits[1]))
                try:
                    transport, protocol = await loop.subprocess_exec(Recorder, "true")
                except OSError as exc:
                    outcomes.add((type(exc), exc.errno))
                else:
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                    await protocol.lost.wait()
                    transport.close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        return outcomes

    assert len(same_as_asyncio(scenario).returned) == 1


@pytest.mark.zloop_only
def test_loop_that_is_closed_lets_its_childrens_descriptors_go(make_loop):
    loop = make_loop()
    with assert_silent(loop):
        process = run_bounded(loop, asyncio.create_subprocess_exec(*SLEEPER, stdout=subprocess.DEVNULL))
        popen = process._transport.get_extra_info("subprocess")
        loop.close()
        popen.kill()
        popen.wait()
        process._transport.close()


# -- asyncio.subprocess --------------------------------------------------------------------------------------------


def test_communicate_with_much_data_both_ways(loop, run):
    whole = pattern(4 * BIG)

    async def scenario():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        output, errors = await process.communicate(whole)
        assert output == whole
        assert (errors, process.returncode) == (None, 0)

    run(scenario())


def test_child_that_does_not_read_its_input(loop, run):
    async def scenario():
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        assert await process.communicate(bytes(BIG)) == (b"", None)
        assert process.returncode == 0

    run(scenario())


def test_broken_input_surfaces(loop, run):
    async def write_on(stream):
        while True:
            stream.write(bytes(65536))
            await stream.drain()

    async def scenario():
        source = "import os, time; os.close(0); time.sleep(1000)"
        process = await asyncio.create_subprocess_exec(*python(source), stdin=PIPE)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await write_on(process.stdin)
        process.kill()
        await process.wait()

    run(scenario())


def test_conversation(loop, run):
    source = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"

    async def scenario():
        process = await asyncio.create_subprocess_exec(*python(source), stdin=PIPE, stdout=PIPE)
        for number in range(20):
            process.stdin.write(b"%d-abc\n" % number)
            assert await process.stdout.readline() == b"cba-" + str(number)[::-1].encode() + b"\n"
        process.stdin.close()
        await process.stdin.wait_closed()
        assert await process.wait() == 0

    run(scenario())


def test_several_wait_for_one_child(loop, run):
    async def scenario():
        process = await asyncio.create_subprocess_exec(*SLEEPER, stdout=PIPE)
        waiters = [loop.create_task(process.wait()) for _ in range(3)]
        await process.stdout.readline()
        waiters[0].cancel()
        process.terminate()
        outcomes = await asyncio.gather(*waiters, return_exceptions=True)
        assert isinstance(outcomes[0], asyncio.CancelledError)
        assert outcomes[1:] == [-signal.SIGTERM, -signal.SIGTERM]

    run(scenario())


def test_many_children_at_once(loop, run):
    async def scenario():
        numbers = range(20)
        outputs = await asyncio.gather(*[output_of("echo", str(number)) for number in numbers])
        assert outputs == [b"%d\n" % number for number in numbers]

    run(scenario())


@pytest.mark.parametrize("turns", range(6))
def test_cancelling_the_start_leaves_no_child(loop, run, turns):
    async def scenario():
        task = loop.create_task(asyncio.create_subprocess_exec(*SLEEPER, stdin=PIPE, stdout=PIPE))
        await several_turns(turns)
        task.cancel()
        try:
            process = await task
        except asyncio.CancelledError:
            pass
        else:  # it was there already
            process.kill()
            await process.wait()
        await several_turns()

    with assert_silent(loop):
        run(scenario())


# -- how the end of a child is noticed -----------------------------------------------------------------------------


def test_sigchld_stays_the_programs(loop, run):
    received = []
    before = signal.signal(signal.SIGCHLD, lambda *_args: received.append(signal.getsignal(signal.SIGCHLD)))
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        assert run(output_of("echo", "hello")) == b"hello\n"
        run(until(lambda: received))
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert set(received) == {handler}


def test_other_children_are_left_alone(loop, run):
    async def scenario():
        with subprocess.Popen(["true"]) as other:
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
            await output_of("true")
            assert unreaped(other.pid)

    run(scenario())


@pytest.mark.zloop_only
@pytest.mark.parametrize("reason", ["none is left", "missing"])
def test_thread_stands_in_for_the_pidfd(loop, run, monkeypatch, reason):
    def refuse(_pid, _flags=0):
        raise OSError(24, "Too many open files")

    if reason == "missing":
        monkeypatch.delattr(os, "pidfd_open")
    else:
        monkeypatch.setattr(os, "pidfd_open", refuse)

    async def scenario():
        async with child(loop, *SLEEPER) as (transport, protocol):
            await until(lambda: protocol.output[1])
            assert [thread for thread in threading.enumerate() if thread.name.startswith("zloop-waitpid")]
            transport.kill()
            # The number is not given away before the transport knows.
            os.waitid(os.P_PID, transport.get_pid(), os.WEXITED | os.WNOWAIT)
            assert unreaped(transport.get_pid())
            assert transport.get_returncode() is None
            await protocol.exited.wait()
            assert transport.get_returncode() == -signal.SIGKILL
            assert not unreaped(transport.get_pid())

    run(scenario())


@pytest.mark.zloop_only
def test_thread_reaps_where_there_is_no_waitid(loop, run, monkeypatch):
    async def scenario():
        with monkeypatch.context() as system:
            system.delattr(os, "pidfd_open")
            system.delattr(os, "waitid")
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "raise SystemExit(7)")
            assert await process.wait() == 7

    run(scenario())


@pytest.mark.zloop_only
def test_thread_outlives_the_loop(make_loop, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    loop = make_loop()
    process = run_bounded(loop, asyncio.create_subprocess_exec(*SLEEPER, stdout=subprocess.DEVNULL))
    popen = process._transport.get_extra_info("subprocess")
    [thread] = [thread for thread in threading.enumerate() if thread.name.startswith("zloop-waitpid")]
    loop.close()
    popen.kill()
    thread.join(TIME_LIMIT)
    assert not unreaped(popen.pid)
    assert popen.returncode == -signal.SIGKILL
    process._transport.close()


@pytest.mark.zloop_only
def test_child_that_somebody_else_reaped(loop, run, loop_log):
    async def scenario():
        async with child(loop, *SLEEPER) as (transport, protocol):
            transport.kill()
            os.waitpid(transport.get_pid(), 0)
            await protocol.exited.wait()
            return transport.get_returncode()

    assert run(scenario()) == 255
    [message] = loop_log.take_messages()
    assert "exit status already read" in message


@pytest.mark.zloop_only
def test_child_that_its_popen_reaped(loop, run):
    """Its status is not lost: asyncio would report 255."""

    async def scenario():
        async with child(loop, *SLEEPER) as (transport, protocol):
            transport.kill()
            transport.get_extra_info("subprocess").wait()
            await protocol.exited.wait()
            return transport.get_returncode()

    assert run(scenario()) == -signal.SIGKILL


def test_loop_in_another_thread(make_loop):
    outputs = []

    def work():
        loop = make_loop()
        outputs.append(run_bounded(loop, output_of("echo", "hello")))

    with warnings.catch_warnings():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(TIME_LIMIT)
    assert outputs == [b"hello\n"]


def test_program_under_the_runner(loop_kind):
    """The whole way: asyncio.Runner, a child, and an interpreter that ends without a word."""
    source = (
        "import asyncio\n"
        "async def main():\n"
        "    process = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)\n"
        "    print((await process.communicate(b'hello'))[0].decode(), process.returncode)\n"
        "with asyncio.Runner(loop_factory=new_event_loop) as runner:\n"
        "    runner.run(main())\n"
    )
    assert loop_kind in NEW_EVENT_LOOP
    assert run_script(loop_kind, source) == ["hello 0"]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="CPython 3.14 has no child watchers")
def test_child_watcher_of_the_policy_is_used(make_loop):
    loop = make_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        watcher = type("Watcher", (asyncio.ThreadedChildWatcher,), {})()
        asyncio.set_child_watcher(watcher)
        try:
            process = run_bounded(loop, asyncio.create_subprocess_exec(*SLEEPER, stdout=PIPE))
            [thread] = watcher._threads.values()
            assert run_bounded(loop, process.stdout.readline()) == b"up\n"
            process.kill()
            assert run_bounded(loop, process.communicate()) == (b"", None)
            assert process.returncode == -signal.SIGKILL
            thread.join(TIME_LIMIT)
        finally:
            asyncio.set_child_watcher(None)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="there are no child watchers since 3.14")
def test_child_watcher_that_is_not_active(same_as_asyncio, monkeypatch):
    class Inactive:
        def __enter__(self):
            return self

        def __exit__(self, *_exc_info):
            pass

        def is_active(self):
            return False

    async def scenario(loop):
        await loop.subprocess_exec(asyncio.SubprocessProtocol, "true")

    monkeypatch.setattr(asyncio.get_event_loop_policy(), "_watcher", Inactive(), raising=False)
    outcome = same_as_asyncio(scenario)
    assert outcome.raised is RuntimeError
    assert "get_child_watcher() is not activated" in outcome.message


class Ended(asyncio.SubprocessProtocol):
    """Knows when its child is gone."""

    def __init__(self):
        self.exited = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def process_exited(self):
        self.exited.set()


def test_keyboard_interrupt_while_a_child_is_begun_is_passed_on(loop, run):
    async def scenario():
        protocol = Ended()
        begun = loop.subprocess_exec(lambda: protocol, "true", stdin=None, stdout=None, stderr=None)
        begun.send(None)
        with pytest.raises(KeyboardInterrupt):
            begun.throw(KeyboardInterrupt())
        await protocol.exited.wait()
        protocol.transport.close()
        return protocol.transport.get_returncode()

    assert run(scenario()) == 0


@pytest.mark.zloop_only
def test_keyboard_interrupt_while_a_child_is_about_to_be_watched_ends_it(loop, monkeypatch):
    def interrupt(pid):
        pids.append(pid)
        raise KeyboardInterrupt

    pids = []
    monkeypatch.setattr(os, "pidfd_open", interrupt)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(loop.subprocess_exec(asyncio.SubprocessProtocol, "sleep", "60"))
    loop.run_until_complete(several_turns())
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], os.WNOHANG)


@pytest.mark.zloop_only
def test_child_that_others_wait_for_before_its_thread_does(loop, run, monkeypatch):
    def refuse(*_args):
        raise OSError

    def find_nothing(*_args):
        raise ChildProcessError

    async def scenario():
        process = await asyncio.create_subprocess_exec("true")
        return await process.wait()

    monkeypatch.setattr(os, "pidfd_open", refuse)
    monkeypatch.setattr(os, "waitid", find_nothing)
    assert run(scenario()) == 0
