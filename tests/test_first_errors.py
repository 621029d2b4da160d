"""What somebody meets who begins with zloop, or makes a first mistake: an error that says what to do."""

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from support import outcome_of

ROOT = Path(__file__).parents[1]


# -- building and importing ----------------------------------------------------------------------------------------


def configured(folder, *options, **environment):
    """What CMake has to say of the project, line ends and all made blanks; it must not configure."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("there is no CMake here")
    command = [cmake, "-S", ROOT, "-B", folder, *options]
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if "CMAKE_MAKE_PROGRAM" in done.stdout:
        pytest.skip("there is neither make nor ninja here")
    assert done.returncode != 0
    return " ".join(done.stdout.split())


@pytest.mark.zloop_only
def test_build_without_a_compiler_says_which_to_install(tmp_path):
    said = configured(tmp_path, CXX="/no/such/compiler")
    assert "there is no C++ compiler that works. Install one that knows C++20" in said
    assert "apt install g++" in said
    assert "environment variable CXX" in said


@pytest.mark.zloop_only
def test_build_on_windows_says_where_zloop_runs(tmp_path):
    said = configured(tmp_path, "-DCMAKE_SYSTEM_NAME=Windows")
    assert "zloop does not run on Windows: its engine polls with epoll or kqueue." in said


def lines_of(source):
    """What a program prints, whose warnings are errors."""
    command = [sys.executable, "-P", "-W", "error", "-c", source]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


@pytest.mark.zloop_only
def test_import_where_zloop_does_not_run_says_so():
    attempt = """
try:
    import zloop
except ImportError as exc:
    print(exc)
"""
    (said,) = lines_of(f"import asyncio, sys; sys.platform = 'win32'{attempt}")
    assert said.startswith("zloop does not run on Windows: its engine polls with epoll or kqueue.")
    old = "sys.version_info = (3, 10, 4); sys.version = '3.10.4 (main)'"
    assert lines_of(f"import asyncio, sys; {old}{attempt}") == ["zloop needs Python 3.11 or later; this is 3.10.4"]


@pytest.mark.zloop_only
def test_source_that_is_not_built_says_how_to_get_one_that_is(tmp_path):
    shutil.copytree(ROOT / "zloop", tmp_path / "zloop", ignore=shutil.ignore_patterns("*.so", "*.pyx", "__pycache__"))
    source = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import zloop; zloop.new_event_loop()"
    done = subprocess.run([sys.executable, "-P", "-c", source], stderr=subprocess.PIPE, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: zloop in {tmp_path}/zloop has no native modules: it is the source")
    assert "pip install ." in last


# -- making a loop -------------------------------------------------------------------------------------------------


@pytest.mark.zloop_only
def test_loop_takes_no_arguments():
    zloop = pytest.importorskip("zloop")

    class Derived(zloop.Loop):
        pass

    for name, attempt in {
        "Loop": lambda: zloop.Loop(1),
        "Loop by keyword": lambda: zloop.Loop(selector=None),
        "Derived": lambda: Derived(1),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name.split()[0]}\(\) takes no arguments: .* without a selector$"):
            attempt()
    gc.collect()  # what was not made tells nothing


@pytest.mark.zloop_only
def test_derived_loop_may_take_arguments_and_fail():
    zloop = pytest.importorskip("zloop")

    class Named(zloop.Loop):
        def __init__(self, name):
            if not name:
                raise LookupError("it has no name")
            super().__init__()
            self.name = name

    named = Named("mine")
    assert named.name == "mine"
    named.close()
    with pytest.raises(LookupError, match="it has no name"):
        Named("")
    gc.collect()  # the half that was made closes without a word: an unraisable exception would fail this


@pytest.mark.zloop_only
def test_way_of_tls_that_is_none_is_told_with_the_first_loop():
    source = """
import os
os.environ["ZLOOP_TLS"] = "bogus"
try:
    import zloop
    zloop.new_event_loop()
except ValueError as exc:
    print(exc)
os.environ["ZLOOP_TLS"] = "portable"
zloop.new_event_loop().close()
print("made")
"""
    said, made = lines_of(source)
    assert said.startswith("ZLOOP_TLS is 'bogus' in the environment; it may be 'direct' ")
    assert "or 'portable'" in said
    assert made == "made"


@pytest.mark.zloop_only
def test_way_of_tls_that_is_none_is_told_to_later_connections_too(loop, monkeypatch):
    ssl = pytest.importorskip("ssl")
    monkeypatch.setenv("ZLOOP_TLS", "bogus")

    async def connect():
        async with asyncio.timeout(10):
            server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
            async with server:
                await loop.create_connection(
                    asyncio.Protocol,
                    *server.sockets[0].getsockname(),
                    ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                    server_hostname="localhost",
                )

    with pytest.raises(ValueError, match=r"^ZLOOP_TLS is 'bogus'"):
        loop.run_until_complete(connect())


# -- using one -----------------------------------------------------------------------------------------------------


async def nothing():
    pass


def refused(call, *arguments):
    """The outcome of a call that is given a coroutine, which is closed."""
    coroutine = nothing()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = outcome_of(call, coroutine, *arguments)
    coroutine.close()
    return outcome


def test_closed_loop_says_that_it_is_closed(make_loop):
    loop = make_loop()
    loop.close()
    closed = ("raised", RuntimeError, "Event loop is closed")
    assert outcome_of(loop.call_soon, print) == closed
    assert outcome_of(loop.call_soon_threadsafe, print) == closed
    assert outcome_of(loop.call_later, 1, print) == closed
    assert outcome_of(loop.call_at, 1, print) == closed
    assert outcome_of(loop.run_forever) == closed
    assert outcome_of(loop.run_in_executor, None, print) == closed
    assert refused(loop.run_until_complete) == closed
    assert refused(loop.create_task) == closed


def test_debug_mode_tells_of_calls_from_another_thread(loop):
    loop.set_debug(True)
    outcomes = []

    def from_another_thread():
        outcomes.append(outcome_of(loop.call_soon, print))
        outcomes.append(outcome_of(loop.call_later, 0, print))
        loop.call_soon_threadsafe(loop.stop)

    async def main():
        threading.Thread(target=from_another_thread).start()

    loop.create_task(main())
    loop.run_forever()
    message = "Non-thread-safe operation invoked on an event loop other than the current one"
    assert outcomes == [("raised", RuntimeError, message)] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_running_loop_is_not_the_childs_after_fork(loop):
    """Who asks for it there is told that there is none, and may run another."""

    async def main():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads; this process may have some
            pid = os.fork()
        if pid == 0:
            try:
                raised, kind, message = outcome_of(asyncio.get_running_loop)
                os._exit(0 if (raised, kind, message) == ("raised", RuntimeError, "no running event loop") else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert loop.run_until_complete(main()) == 0
