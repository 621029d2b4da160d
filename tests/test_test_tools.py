"""Test tools other than pytest-asyncio alone: anyio's plugin, aiohttp's, unittest, looptime; and docs/testing.md."""

import asyncio
import contextlib
import copy
import importlib
import inspect
import pathlib
import pickle
import pydoc
import re
import shlex
import sys
import unittest

import pytest

# pytester forgets what is first imported while it is there: zloop would have two classes Loop, and aiohttp is slow.
for name in ("zloop.loop", "aiohttp.web", "aiohttp.test_utils", "anyio._backends._asyncio"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.zloop_only

WITHOUT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
"""Plugins that only take time: pytester has each run import them anew."""
PAGE = pathlib.Path(__file__).parents[1] / "docs/testing.md"
KIND = "type(asyncio.get_running_loop()).__module__.partition('.')[0]"

ANYIO_TEST = f"""
    import asyncio, pytest, sniffio

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def on_loop():
        yield {KIND} if sniffio.current_async_library() == "asyncio" else "trio"

    async def test_kind(on_loop, anyio_backend_name):
        assert on_loop == ({KIND} if sniffio.current_async_library() == "asyncio" else "trio")
        print(f"{{anyio_backend_name}} runs on {{on_loop}}.")
"""


@pytest.fixture
def suite(pytester):
    """A directory for a suite, whose pytest takes warnings for errors as this one does."""
    pytester.makeini("[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function")
    return pytester


def run(suite, *arguments):
    """Run the suite, and have its output for asking."""
    return suite.runpytest_inprocess("-s", *WITHOUT, *arguments)


# -- anyio -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def anyio_suite(suite):
    pytest.importorskip("anyio")
    pytest.importorskip("sniffio")
    suite.makepyfile(ANYIO_TEST)
    return suite


BACKENDS = {
    "string": ("return 'asyncio'", "zloop"),
    "options": ("return 'asyncio', {'debug': True}", "zloop"),
    "uvloop": ("return 'asyncio', {'use_uvloop': True}", "zloop"),
    "generator": ("yield 'asyncio'", "zloop"),
    "own": ("return 'asyncio', {'loop_factory': asyncio.SelectorEventLoop}", "asyncio"),
}


@pytest.mark.parametrize(("body", "kind"), BACKENDS.values(), ids=BACKENDS)
@pytest.mark.parametrize("scope", ["function", "session"])
def test_anyio_backend_gets_the_loop_factory(anyio_suite, body, kind, scope):
    anyio_suite.makeconftest(f"""
        import asyncio, pytest

        @pytest.fixture(scope={scope!r})
        def anyio_backend():
            {body}
    """)
    result = run(anyio_suite, "--zloop")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(f"*asyncio runs on {kind}.*")


def test_trio_stays_what_it_is(anyio_suite):
    anyio_suite.makepyfile("""
        import asyncio, pytest, zloop

        OWN = {"loop_factory": asyncio.SelectorEventLoop}

        @pytest.mark.parametrize("anyio_backend", ["trio", ("trio", {"a": 1}), ("asyncio", OWN), "asyncio"])
        def test_value(anyio_backend, anyio_backend_name, request):
            given = request.node.callspec.params["anyio_backend"]
            is_changed = anyio_backend == ("asyncio", {"loop_factory": zloop.new_event_loop})
            assert is_changed or anyio_backend == given
            print(f"{anyio_backend_name}: {is_changed}.")
    """)
    result = run(anyio_suite, "--zloop")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*trio: False.*", "*trio: False.*", "*asyncio: False.*", "*asyncio: True.*"])


def test_anyio_backends_that_are_parametrised(anyio_suite):
    values = "[('asyncio', {'debug': True}), pytest.param(('asyncio', {}), id='second'), 'asyncio']"
    anyio_suite.makepyfile(
        ANYIO_TEST.replace(
            "async def test_kind", f"@pytest.mark.parametrize('anyio_backend', {values})\n    async def test_kind"
        )
    )
    result = run(anyio_suite, "--zloop", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*runs on zloop.*", "*second*runs on zloop.*", "*asyncio*runs on zloop.*"])


@pytest.mark.parametrize("arguments", [[], ["--zloop", "-o", "zloop=false", "-p", "no:zloop"]], ids=["unasked", "off"])
def test_anyio_without_zloop_is_as_it_was(anyio_suite, arguments):
    result = run(anyio_suite, *arguments[3:], "-k", "asyncio")
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes().get("deselected", 0))
    result.stdout.fnmatch_lines("*asyncio runs on asyncio.*")


def test_anyio_that_is_too_old(anyio_suite, monkeypatch):
    """Where there is another plugin that takes a loop, the tests that do not are the ones that fail."""
    monkeypatch.setattr("importlib.metadata.version", lambda name: "3.7.1")
    result = run(anyio_suite, "--zloop", "-k", "asyncio")
    result.assert_outcomes(errors=1, deselected=result.parseoutcomes().get("deselected", 0))
    result.stdout.fnmatch_lines("*takes anyio 4 or later*")


def test_anyio_with_a_test_that_cannot_stay_on_asyncio(anyio_suite):
    anyio_suite.makepyfile(ANYIO_TEST.replace("async def test_kind", "@pytest.mark.no_zloop\n    async def test_kind"))
    result = run(anyio_suite, "--zloop", "-k", "asyncio")
    result.stdout.fnmatch_lines("*anyio's tests share their backend*")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_anyio_alone_is_enough(anyio_suite):
    anyio_suite.makeini("[pytest]\nfilterwarnings = error")
    result = run(anyio_suite, "--zloop", "-p", "no:asyncio", "-p", "no:aiohttp", "-k", "asyncio")
    result.stdout.fnmatch_lines("*asyncio runs on zloop.*")
    assert result.ret == 0


@pytest.mark.parametrize("has_anyio", [False, True], ids=["none", "anyio 3"])
def test_nothing_takes_a_loop(anyio_suite, monkeypatch, has_anyio):
    monkeypatch.setattr("importlib.metadata.version", lambda name: "3.7.1")
    others = ["-p", "no:asyncio", "-p", "no:aiohttp", *([] if has_anyio else ["-p", "no:anyio"])]
    result = run(anyio_suite, "--zloop", *others)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*no plugin that takes a loop*Install pytest-asyncio 1.4 or later, anyio 4 or later*")


# -- aiohttp ---------------------------------------------------------------------------------------------------------

AIOHTTP_TEST = f"""
    import asyncio, pytest
    from aiohttp import web

    async def kind(request):
        return web.Response(text={KIND})

    async def test_server(aiohttp_client):
        app = web.Application()
        app.router.add_get("/", kind)
        client = await aiohttp_client(app)
        assert {KIND} == await (await client.get("/")).text()
        print("server on", {KIND})

    async def test_nothing():
        print("nothing on", {KIND})

    @pytest.mark.no_zloop
    async def test_kept():
        assert {KIND} == "asyncio"

    @pytest.mark.no_zloop
    async def test_server_kept(aiohttp_client):
        assert {KIND} == "asyncio"
"""


@pytest.fixture
def aiohttp_suite(suite):
    pytest.importorskip("aiohttp")
    suite.makepyfile(AIOHTTP_TEST)
    return suite


def run_with_aiohttps_own(suite, *arguments):
    """Run a suite with the plugin that is in aiohttp, and not pytest-asyncio beside it."""
    suite.makeini("[pytest]\nfilterwarnings = error")
    others = ["-p", "no:asyncio", "-p", "no:aiohttp", "-p", "no:anyio", "-p", "aiohttp.pytest_plugin"]
    filters = ["-W", "ignore:aiohttp.pytest_plugin:DeprecationWarning"]
    return suite.runpytest_subprocess("-s", *WITHOUT, *others, *filters, *arguments)


def test_pytest_aiohttp(aiohttp_suite):
    pytest.importorskip("pytest_aiohttp", reason="it comes with the dependency group `test`")
    result = run(aiohttp_suite, "--zloop", "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*server on zloop*", "*nothing on zloop*"])


OF_AIOHTTP = {
    "": (["server on asyncio", "nothing on asyncio"], ["test_server[[]pyloop]"]),
    "--zloop": (["server on zloop", "nothing on zloop"], ["test_server[[]zloop]"]),
    "--aiohttp-loop zloop": (["server on zloop", "nothing on zloop"], ["test_server[[]zloop]"]),
    "--aiohttp-loop pyloop,zloop,nonesuch?": (
        ["server on asyncio", "server on zloop", "nothing on zloop"],
        ["[[]zloop]"],
    ),
}


@pytest.mark.parametrize(("arguments", "outcome"), OF_AIOHTTP.items(), ids=OF_AIOHTTP)
def test_aiohttps_own_plugin(aiohttp_suite, arguments, outcome):
    lines, names = outcome
    result = run_with_aiohttps_own(aiohttp_suite, "-v", *arguments.split())
    result.assert_outcomes(passed=len(lines) + 2)
    result.stdout.fnmatch_lines([f"*{line}*" for line in lines])
    result.stdout.fnmatch_lines([f"*{name}*" for name in names])


def test_aiohttps_own_plugin_with_a_loop_that_there_is_not(aiohttp_suite):
    result = run_with_aiohttps_own(aiohttp_suite, "--zloop", "--aiohttp-loop", "nonesuch")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*there is no loop 'nonesuch' here*")


# -- looptime --------------------------------------------------------------------------------------------------------

LOOPTIME_TEST = """
    import asyncio, pytest

    def pytest_addoption(parser):
        parser.addoption("--looptime", dest="looptime", action="store_const", const=True)
        parser.addoption("--no-looptime", dest="looptime", action="store_const", const=False)

    def pytest_configure(config):
        config.addinivalue_line("markers", "looptime: what the real one has")
"""


@pytest.fixture
def looptime_suite(suite):
    """A suite whose conftest.py stands in for looptime."""
    suite.makeconftest(LOOPTIME_TEST)
    suite.makepyfile(f"""
        import asyncio, pytest

        @pytest.mark.asyncio
        async def test_plain():
            print("plain on", {KIND})

        @pytest.mark.looptime
        @pytest.mark.no_zloop
        @pytest.mark.asyncio
        async def test_way_out():
            print("way out on", {KIND})

        @pytest.mark.looptime(start=100)
        @pytest.mark.asyncio
        async def test_marked():
            print("marked on", {KIND})

        @pytest.mark.looptime
        class TestClass:
            @pytest.mark.looptime(False)
            @pytest.mark.asyncio
            async def test_not_marked(self):
                print("not marked on", {KIND})
    """)
    return suite


def test_looptimes_marker_is_refused(looptime_suite):
    result = run(looptime_suite, "--zloop")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*plain on zloop*", "*way out on asyncio*", "*not marked on zloop*"])
    result.stdout.fnmatch_lines(
        ["*_ test_marked _*", "looptime replaces the clock*@pytest.mark.no_zloop*-m looptime -o zloop=false*"]
    )
    result.stdout.no_fnmatch_line("*marked on asyncio*")


def test_looptimes_options_are_taken_as_it_takes_them(looptime_suite):
    run(looptime_suite, "--zloop", "--no-looptime").assert_outcomes(passed=4)
    run(looptime_suite, "--zloop", "--looptime").assert_outcomes(passed=2, failed=2)


def test_looptime_on_asyncio_is_let_alone(looptime_suite):
    result = run(looptime_suite, "-k", "marked")
    result.assert_outcomes(passed=2, deselected=2)


# -- unittest --------------------------------------------------------------------------------------------------------


def test_new_event_loop_stays_a_function_in_a_class():
    import zloop

    class Case:
        loop_factory = zloop.new_event_loop

    for factory in (Case.loop_factory, Case().loop_factory):
        loop = factory()
        assert type(loop) is zloop.Loop
        loop.close()
    with pytest.raises(TypeError):
        Case().loop_factory(None)


def test_new_event_loop_is_otherwise_as_functions_are():
    import zloop

    factory = zloop.new_event_loop
    assert (factory.__name__, factory.__qualname__, factory.__module__) == ("new_event_loop", "new_event_loop", "zloop")
    assert str(inspect.signature(factory)) in {"() -> 'Loop'", "() -> Loop"}
    assert inspect.isroutine(factory)
    assert not inspect.iscoroutinefunction(factory)
    assert inspect.getdoc(factory).startswith("Return a new loop")
    assert "def new_event_loop()" in inspect.getsource(factory)
    assert repr(factory).startswith("<function new_event_loop at ")
    assert [copy.copy(factory), copy.deepcopy(factory)] == [factory, factory]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(factory, protocol)) is factory  # noqa: S301  # from here
    text = pydoc.plain(pydoc.render_doc(factory))
    assert "new_event_loop() ->" in text
    assert "Return a new loop" in text
    assert "staticmethod" not in text
    assert re.search(r"^    new_event_loop\(\) -> ", pydoc.plain(pydoc.render_doc(zloop)), re.MULTILINE)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="IsolatedAsyncioTestCase.loop_factory is new in 3.13")
def test_a_test_case_of_unittest_runs_on_zloop():
    import zloop

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = zloop.new_event_loop

        async def asyncSetUp(self):
            self.loop = asyncio.get_running_loop()

        async def test_loop(self):
            assert type(asyncio.get_running_loop()) is zloop.Loop
            assert self.loop is asyncio.get_running_loop()

    result = unittest.TestResult()
    Case("test_loop").run(result)
    assert (result.testsRun, result.errors, result.failures) == (1, [], [])


# -- docs/testing.md -------------------------------------------------------------------------------------------------


def blocks(section):
    """The code blocks of a section of the page, as (language, text)."""
    _, _, text = PAGE.read_text().partition(f"\n## {section}\n")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("section", ["pytest-asyncio", "anyio", "pytest-aiohttp"])
def test_the_page_has_the_lines_for_a_pytest_plugin(pytester, section):
    pytest.importorskip({"pytest-asyncio": "pytest_asyncio", "pytest-aiohttp": "pytest_aiohttp"}.get(section, section))
    [(kind, settings), *programs] = blocks(section)
    assert kind == "toml"
    pytester.makefile(".toml", pyproject=settings)
    pytester.makepyfile(**{f"test_{number}": text for number, (_, text) in enumerate(programs)})
    run(pytester, "-o", "asyncio_default_fixture_loop_scope=function").assert_outcomes(passed=len(programs))


def test_the_page_has_the_lines_for_unittest(pytester):
    [(_, program), (_, command)] = blocks("unittest")
    if sys.version_info < (3, 13):
        program = program.replace("    loop_factory = zloop.new_event_loop\n", "")
    pytester.makepyfile(test_it=program)
    python, *arguments = shlex.split(command)
    commands = [arguments, arguments[2:]] if sys.version_info >= (3, 13) else [arguments]
    assert (python, *arguments[:2]) == ("python", "-m", "zloop")
    for each in commands:
        result = pytester.run(sys.executable, *each)
        assert result.ret == 0
        result.stderr.fnmatch_lines(["Ran 1 test*", "OK"])


def test_the_page_has_the_lines_for_looptime(looptime_suite):
    [(_, commands)] = blocks("looptime and freezegun")
    first, second = (shlex.split(command)[1:] for command in commands.splitlines())
    run(looptime_suite, *first).assert_outcomes(passed=1, deselected=3)
    looptime_suite.makepyfile("""
        import asyncio, pytest

        @pytest.mark.looptime
        @pytest.mark.asyncio
        async def test_marked():
            assert isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    """)
    run(looptime_suite, *second).assert_outcomes(passed=1)
