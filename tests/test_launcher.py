"""python -m zloop: a program runs on zloop, and can tell by nothing else that ``python`` has not started it.

What ``python`` itself makes of a program is the reference: what it prints, its traceback and its exit status.
"""

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile

import pytest
from support import TIME_LIMIT, refusing_port

pytestmark = pytest.mark.zloop_only

LAUNCHER = ["-m", "zloop"]

# What a program finds of itself and of its surroundings; the loop's class comes last.
PROGRAM = """\
from __future__ import annotations
import asyncio, json, sys, __main__

def kind(value):
    return value if isinstance(value, (str, bool, dict, type(None))) else type(value).__name__

async def loop_class():
    return type(asyncio.get_running_loop()).__module__

own = {name: kind(value) for name, value in vars(__main__).items() if name.startswith("__")}
del own["__builtins__"], own["__main__"]
print(json.dumps([own, vars(__main__) is globals(), type(__builtins__).__name__, sys.argv, sys.path], sort_keys=True))
print(asyncio.run(loop_class()))
sys.stdout.flush()
if "fail" in sys.argv:
    raise LookupError("broken") from ZeroDivisionError()
if "interrupted" in sys.argv:
    raise KeyboardInterrupt
sys.exit("the end" if "message" in sys.argv else 3)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a script, a module, a package and an archive of the same program; programs are started in it."""
    inner = tmp_path / "inner"
    (inner / "package").mkdir(parents=True)
    for name in ("script.py", "package/__init__.py", "package/__main__.py"):
        (inner / name).write_text(PROGRAM if not name.endswith("__init__.py") else "")
    (inner / "link.py").symlink_to(inner / "package" / "__main__.py")
    (inner / "wrong.py").write_text("async def f(\n")
    (inner / "flags.py").write_text("import sys\nsys.exit(str(sys._getframe().f_code.co_flags))\n")
    with zipfile.ZipFile(inner / "archive.zip", "w") as archive:
        archive.writestr("__main__.py", PROGRAM)
    return inner


def outcome(folder, *arguments, stdin=""):
    """What python makes of these arguments: (lines that it prints, what it writes to standard error, its status)."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, input=stdin, capture_output=True, check=False, text=True
    )
    return done.stdout.splitlines(), done.stderr, done.returncode


def outcomes(folder, *arguments, options=(), stdin=""):
    """What python makes of a program, and what it makes of it on zloop."""
    return outcome(folder, *options, *arguments, stdin=stdin), outcome(
        folder, *options, *LAUNCHER, *arguments, stdin=stdin
    )


@pytest.mark.parametrize(
    "program",
    [
        ["./script.py", "fail", "--check"],
        ["-m", "package", "fail", "-m", "x"],
        ["-c", PROGRAM, "fail", "--", "-x"],
        ["link.py", "message"],
        ["archive.zip"],
    ],
    ids=["script", "module", "code", "link", "archive"],
)
def test_program_finds_what_it_finds_under_python(folder, program):
    expected, found = outcomes(folder, *program)
    assert expected[0].pop() == "asyncio.unix_events"
    assert found[0].pop() == "zloop.loop"
    assert found == expected


def test_ways_to_end(folder):
    for program in (
        ["script.py", "interrupted"],
        ["wrong.py"],
        ["missing.py"],
        ["-m", "missing"],
        ["flags.py"],  # the launcher's own __future__ imports are not the program's
    ):
        expected, found = outcomes(folder, *program)
        assert found[1:] == expected[1:], program
        assert found[1], program


def test_program_from_standard_input_and_options_of_the_interpreter(folder):
    for program in (["-", "fail"], ["archive.zip"]):
        expected, found = outcomes(folder, *program, options=["-P"], stdin=PROGRAM)
        assert expected[0].pop() == "asyncio.unix_events"
        assert found[0].pop() == "zloop.loop"
        assert found == expected


def test_hook_for_exceptions_of_the_programs_own(folder):
    source = """
import sys, traceback
def hook(kind, exc, trace):
    print(kind.__name__, exc.__traceback__ is trace, [frame.name for frame in traceback.extract_tb(trace)])
sys.excepthook = hook
def f(): raise LookupError
f()
"""
    lines, errors, status = outcome(folder, *LAUNCHER, "-c", source)
    assert (lines, errors, status) == (["LookupError True ['<module>', 'f']"], "", 1)


def test_command_line_that_names_no_program(capsys):
    launcher = pytest.importorskip("zloop.launcher")
    for arguments, complaint in {
        (): "what is to be run?",
        ("-m",): "-m: a script, -m module, -c code or - is expected",
        ("-x", "script.py"): "-x script.py: a script, -m module, -c code or - is expected",
        ("--chek",): "unrecognized arguments: --chek",
    }.items():
        with pytest.raises(SystemExit) as ended:
            launcher.main(list(arguments))
        assert ended.value.code == 2
        assert capsys.readouterr().err.splitlines()[-1] == f"python -m zloop: error: {complaint}"


WAYS = """
import asyncio, selectors, sys, unittest, warnings

def class_of(loop):
    try:
        return type(loop).__module__
    finally:
        loop.close()

async def running():
    return type(asyncio.get_running_loop()).__module__

ways = {"run": asyncio.run(running())}
with asyncio.Runner() as runner:
    ways["Runner"] = runner.run(running())
ways["new_event_loop"] = class_of(asyncio.new_event_loop())
ways["SelectorEventLoop"] = class_of(asyncio.SelectorEventLoop())
if hasattr(asyncio, "EventLoop"):
    ways["EventLoop"] = class_of(asyncio.EventLoop())

class Case(unittest.IsolatedAsyncioTestCase):
    async def test(self):
        ways["unittest"] = await running()

unittest.defaultTestLoader.loadTestsFromTestCase(Case).run(unittest.TestResult())
try:
    import anyio
except ImportError:
    pass
else:
    ways["anyio"] = anyio.run(running)
    ways["anyio's own runner"] = anyio.run(running, backend_options={"loop_factory": asyncio.SelectorEventLoop})
try:
    from uvicorn.config import Config
except ImportError:
    pass
else:
    ways["uvicorn --loop asyncio"] = class_of(Config("", loop="asyncio").get_loop_factory()())
if sys.version_info < (3, 16):
    warnings.simplefilter("ignore", DeprecationWarning)
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    ways["policy"] = asyncio.run(running())
    asyncio.set_event_loop_policy(None)
# whatever would come to another place
for name in [name for name in ways if ways[name] == "zloop.loop"]:
    del ways[name]
assert ways == {}, ways

class Derived(asyncio.SelectorEventLoop):
    def __init__(self, name):
        super().__init__(selectors.SelectSelector())
        self.name = name

assert class_of(Derived("x")) == "__main__"
assert class_of(asyncio.SelectorEventLoop(selectors.SelectSelector())) == "asyncio.unix_events"
print("all of them")
"""


def test_every_way_to_asyncios_loop_leads_to_zloop(folder):
    """But where it would be asyncio's inside that counts: a selector of the program's, or a class derived from it."""
    assert outcome(folder, "-W", "error::ResourceWarning", *LAUNCHER, "-c", WAYS) == (["all of them"], "", 0)


def test_without_policies(folder):
    """As CPython 3.16 will be."""
    source = """
import asyncio, asyncio.events, asyncio.runners

asyncio.events.new_event_loop = asyncio.new_event_loop = lambda: asyncio.SelectorEventLoop()
asyncio.events.set_event_loop = lambda loop: None
asyncio.events.get_event_loop_policy = asyncio.events._get_event_loop_policy = None
async def main(): print(type(asyncio.get_running_loop()).__module__)
asyncio.run(main())
"""
    assert outcome(folder, *LAUNCHER, "-c", source) == (["zloop.loop"], "", 0)


CHILDREN = """
import asyncio, multiprocessing, sys

async def running():
    return type(asyncio.get_running_loop()).__module__

def child(results):
    results.put((asyncio.run(running()), "uvloop" in sys.modules, __name__, sys.argv[1:], sys.flags.optimize))

if __name__ == "__main__":
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        results = context.SimpleQueue()
        process = context.Process(target=child, args=(results,))
        process.start()
        print(results.get())
        process.join()
        sys.exit(process.exitcode) if process.exitcode else None
"""


def test_children_of_multiprocessing_run_on_zloop_too(folder):
    (folder / "children.py").write_text(CHILDREN)
    methods = ["spawn", "forkserver"]
    expected = outcome(folder, "-O", "children.py", *methods)
    found = outcome(folder, "-O", *LAUNCHER, "--as-uvloop", "children.py", *methods)
    assert expected == ([repr(("asyncio.unix_events", False, "__mp_main__", methods, 1))] * 2, "", 0)
    assert found == ([repr(("zloop.loop", True, "__mp_main__", methods, 1))] * 2, "", 0)


# -- servers that name their loops ---------------------------------------------------------------------------------

APPLICATION = """
import asyncio, sys

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (type(asyncio.get_running_loop()).__module__ + " " + str("uvloop" in sys.modules)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.parametrize("loop_argument", ["auto", "asyncio"])
def test_uvicorn_runs_on_zloop_whichever_loop_it_names(folder, loop_argument):
    pytest.importorskip("uvicorn")
    (folder / "application.py").write_text(APPLICATION)
    options = ["--as-uvloop"] if loop_argument != "asyncio" else []
    port = refusing_port()
    server = subprocess.Popen(
        [
            *[sys.executable, *LAUNCHER, *options, "-m", "uvicorn", "application:app", "--loop", loop_argument],
            *["--port", str(port), "--lifespan", "off", "--no-access-log"],
        ],
        cwd=folder,
        stderr=subprocess.PIPE,
    )
    try:
        said = until_said(server, b"Uvicorn running")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}", timeout=TIME_LIMIT) as answer:
            assert answer.read() == f"zloop.loop {bool(options)}".encode()
        server.send_signal(signal.SIGINT)
        said += server.communicate(timeout=TIME_LIMIT)[1]
        assert b"Traceback" not in said
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate()


def until_said(process, text):
    """Read a process's standard error until it has said this; return all of it so far."""
    said = b""
    deadline = time.monotonic() + TIME_LIMIT
    while text not in said:
        ready, _, _ = select.select([process.stderr], [], [], deadline - time.monotonic())
        piece = os.read(process.stderr.fileno(), 65536) if ready else b""
        assert piece, f"it said only {said}"
        said += piece
    return said


# -- under the name of uvloop --------------------------------------------------------------------------------------


def test_uvloop_is_found_over_zloop_where_that_is_asked_for(folder):
    source = """
import asyncio, importlib.util, json, warnings
import uvloop, zloop

async def running():
    return type(asyncio.get_running_loop()).__module__

found = [uvloop.run(running()), uvloop.Loop is zloop.Loop, sorted(uvloop.__all__), uvloop.__version__.split("+")[1]]
if hasattr(uvloop, "install"):
    warnings.simplefilter("ignore", DeprecationWarning)
    uvloop.install()
    found += [type(asyncio.get_event_loop_policy()) is uvloop.EventLoopPolicy]
loop = uvloop.new_event_loop()
found += [isinstance(loop, uvloop.Loop), importlib.util.find_spec("uvloop").name]
loop.close()
zloop.install_as_uvloop()  # once more
print(json.dumps(found))
"""
    (line,), errors, status = outcome(folder, *LAUNCHER, "--as-uvloop", "-c", source)
    assert (errors, status) == ("", 0)
    has_policies = sys.version_info < (3, 16)
    names = ["EventLoopPolicy", "Loop", "install", "new_event_loop", "run"]
    assert json.loads(line) == [
        "zloop.loop",
        True,
        names if has_policies else ["Loop", "new_event_loop", "run"],
        "zloop",
        *([True] if has_policies else []),
        True,
        "uvloop",
    ]


def test_uvloop_is_left_alone_where_nobody_asks_or_where_it_is_there(folder):
    (folder / "uvloop.py").write_text("Loop = object\n")
    source = """
import sys, zloop
zloop.new_event_loop().close()
assert "uvloop" not in sys.modules
import uvloop
try:
    zloop.install_as_uvloop()
except RuntimeError as exc:
    print(exc)
assert sys.modules["uvloop"] is uvloop and uvloop.Loop is object
"""
    lines, errors, status = outcome(folder, *LAUNCHER, "-c", source)
    assert (errors, status) == ("", 0)
    assert lines == [
        "uvloop itself is imported already; zloop.install_as_uvloop() has to be called before anything imports it"
    ]


# -- zloop.run() takes what uvloop.run() takes ---------------------------------------------------------------------


def test_run_takes_anything_to_be_awaited():
    zloop = pytest.importorskip("zloop")

    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return type(asyncio.get_running_loop())

    assert zloop.run(Awaitable()) is zloop.Loop


def test_run_takes_a_loop_factory_that_makes_zloops():
    zloop = pytest.importorskip("zloop")

    class Derived(zloop.Loop):
        pass

    async def running():
        return type(asyncio.get_running_loop())

    assert zloop.run(running(), loop_factory=Derived) is Derived
    coroutine = running()
    with contextlib.closing(coroutine), pytest.raises(TypeError, match="uses a loop that is not zloop's"):
        zloop.run(coroutine, loop_factory=asyncio.SelectorEventLoop)
    with contextlib.closing(running()) as coroutine, pytest.raises(TypeError, match="'bogus'"):
        zloop.run(coroutine, bogus=1)


# -- the check -----------------------------------------------------------------------------------------------------


def test_check_says_what_there_is_and_that_all_is_well(folder):
    zloop = pytest.importorskip("zloop")
    lines, errors, status = outcome(folder, *LAUNCHER, "--check")
    assert (errors, status) == ("", 0)
    said = {line[:12].strip(): line[12:] for line in lines}
    assert said["zloop"] == f"{zloop.__version__} (C++), in {os.path.dirname(zloop.__file__)}"
    assert said["Package"].endswith(f" {zloop.__version__}") or said["Package"] == "none, a folder on sys.path"
    assert said["Python"].startswith(sys.version.split()[0])
    assert {"System", "Poller", "TLS"} <= set(said)
    for name in ("TCP", "Unix socket", "UDP", "Child", "Timers"):
        assert said[name].startswith("ok: "), name
    assert said["TLS echo"].startswith(("ok: ", "not tested: "))
    assert lines[-1] == "All is well."


def test_check_fails_where_something_does_not_work(folder):
    source = """
import socket, sys
import zloop.check
async def refuse(*args, **options): raise OSError("no UDP here")
zloop.Loop.create_datagram_endpoint = refuse
sys.exit(zloop.check.check())
"""
    lines, errors, status = outcome(folder, "-c", source)
    assert (errors, status) == ("", 1)
    assert "UDP         FAILED: OSError: no UDP here" in lines
    assert lines[-1] == "1 of these failed."
    source = "import os, sys; os.environ['ZLOOP_TLS'] = 'bogus'; import zloop.check; sys.exit(zloop.check.check())"
    lines, errors, status = outcome(folder, "-c", source)
    assert (errors, status) == ("", 1)
    assert lines[-1].startswith("Loop        FAILED: ValueError: ZLOOP_TLS is 'bogus'")


def test_programs_that_end_well(folder):
    (folder / "tree").mkdir()
    (folder / "tree" / "__main__.py").write_text("import sys; print(sys.argv)")
    for program in (["tree", "x"], ["-cimport sys; print(sys.argv)", "x"]):
        expected, found = outcomes(folder, *program)
        assert found == expected
        assert found[1:] == ("", 0)
