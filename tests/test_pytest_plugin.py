"""The pytest plugin: whole suites, each in a directory of its own, run by a pytest inside this one."""

import asyncio
import importlib.metadata
import os
import sys
from pathlib import Path

import pytest
import pytest_asyncio
from support import LOCALHOST

import zloop

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.zloop_only

ASYNC_TEST = """
    import asyncio, pytest

    @pytest.mark.asyncio
    async def test_kind():
        print("runs on", type(asyncio.get_running_loop()).__module__.partition(".")[0])
"""

SYNC_TEST = """
    import zloop

    def test_fixture(event_loop):
        assert type(event_loop) is zloop.Loop
        assert event_loop.run_until_complete(value()) == "value"

    async def value():
        return "value"
"""


@pytest.fixture
def suite(pytester):
    """A directory for a suite, whose pytest takes warnings for errors as this one does."""
    configure(pytester)
    return pytester


def configure(pytester, *lines):
    """Write the suite's settings: those that every suite here has, and these."""
    settings = ["[pytest]", "filterwarnings = error", "asyncio_default_fixture_loop_scope = function", *lines]
    pytester.makeini("\n".join(settings))


def run(suite, *arguments):
    """Run the suite, and have its output for asking."""
    return suite.runpytest_inprocess("-s", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *arguments)


def test_plugin_is_registered():
    (entry_point,) = importlib.metadata.entry_points(group="pytest11", name="zloop")
    assert entry_point.value == "zloop.pytest_plugin"


def test_installing_it_changes_nothing(suite):
    suite.makepyfile(ASYNC_TEST)
    result = run(suite)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("*runs on asyncio*")


@pytest.mark.parametrize(
    ("setting", "arguments", "kind"),
    [
        (None, ["--zloop"], "zloop"),
        ("zloop = true", [], "zloop"),
        ("zloop = false", [], "asyncio"),
        ("zloop = true", ["-o", "zloop=false"], "asyncio"),
        ("zloop = false", ["--zloop"], "zloop"),
    ],
)
def test_asking_for_it(suite, setting, arguments, kind):
    configure(suite, setting or "")
    suite.makepyfile(ASYNC_TEST)
    result = run(suite, *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(f"*runs on {kind}*")


def test_names_of_tests_stay(suite):
    """With only one factory there is no parameter in them to select by."""
    suite.makepyfile(ASYNC_TEST)
    result = run(suite, "--zloop", "test_names_of_tests_stay.py::test_kind")
    result.assert_outcomes(passed=1)


def test_auto_mode(suite):
    configure(suite, "asyncio_mode = auto", "zloop = true")
    suite.makepyfile(ASYNC_TEST.replace("@pytest.mark.asyncio", ""))
    result = run(suite)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("*runs on zloop*")


@pytest.mark.parametrize("scope", ["function", "class", "module", "package", "session"])
def test_loops_of_every_scope(suite, scope):
    suite.makepyfile(ASYNC_TEST.replace("mark.asyncio", f"mark.asyncio(loop_scope={scope!r})"))
    result = run(suite, "--zloop")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("*runs on zloop*")


def test_fixtures_run_on_the_loop_of_the_test(suite):
    suite.makepyfile("""
        import asyncio, pytest, pytest_asyncio, zloop

        @pytest_asyncio.fixture
        async def server():
            async def echo(reader, writer):
                writer.write(await reader.readline())
                writer.close()
                await writer.wait_closed()

            async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
                yield server

        @pytest.mark.asyncio
        async def test_echo(server):
            assert type(server.get_loop()) is zloop.Loop
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\\n")
            assert await reader.read() == b"hello\\n"
            writer.close()
            await writer.wait_closed()
    """)
    run(suite, "--zloop").assert_outcomes(passed=1)


def test_factories_of_the_suite_come_first(suite):
    suite.makeconftest("""
        import asyncio, zloop

        def pytest_asyncio_loop_factories(config, item):
            return {"stock": asyncio.SelectorEventLoop, "zloop": zloop.new_event_loop}
    """)
    suite.makepyfile(ASYNC_TEST)
    result = run(suite, "--zloop")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*runs on asyncio*", "*runs on zloop*"])


def test_factory_can_be_chosen_by_name(suite):
    suite.makepyfile(ASYNC_TEST.replace("mark.asyncio", "mark.asyncio(loop_factories=['zloop'])"))
    run(suite, "--zloop").assert_outcomes(passed=1)


# -- this suite itself asks for zloop, in its settings -------------------------------------------------------------


@pytest.mark.asyncio
async def test_this_suite_runs_on_zloop():
    assert type(asyncio.get_running_loop()).__module__.startswith("zloop")


@pytest_asyncio.fixture
async def echo_port():
    """The port of a server that sends back what it gets."""

    async def echo(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(echo, LOCALHOST, 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.asyncio
async def test_this_suite_has_asynchronous_fixtures(echo_port, event_loop):
    reader, writer = await asyncio.open_connection(LOCALHOST, echo_port)
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b"hello"
    writer.close()
    await writer.wait_closed()
    assert event_loop is asyncio.get_running_loop()


# -- the event_loop fixture ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--zloop"]], ids=["", "--zloop"])
def test_event_loop_of_a_plain_test_is_a_new_zloop_loop(suite, arguments):
    suite.makepyfile(SYNC_TEST)
    run(suite, *arguments).assert_outcomes(passed=1)


def test_event_loop_is_closed_after_the_test(suite):
    suite.makepyfile("""
        loops = []

        def test_one(event_loop):
            loops.append(event_loop)
            assert not event_loop.is_closed()

        def test_two(event_loop):
            assert event_loop is not loops[0]
            assert loops.pop().is_closed()
    """)
    run(suite).assert_outcomes(passed=2)


def test_event_loop_of_an_asynchronous_test_is_its_own(suite):
    suite.makepyfile("""
        import asyncio, pytest, zloop

        @pytest.fixture
        def future(event_loop):
            return event_loop.create_future()

        @pytest.mark.asyncio
        async def test_own(event_loop, future):
            assert event_loop is asyncio.get_running_loop() is future.get_loop()
            assert type(event_loop) is zloop.Loop
            event_loop.call_soon(future.set_result, "value")
            assert await future == "value"
    """)
    run(suite, "--zloop").assert_outcomes(passed=1)


def test_event_loop_of_the_suite_comes_first(suite):
    suite.makeconftest("""
        import pytest

        @pytest.fixture
        def event_loop():
            return "the suite's own"
    """)
    suite.makepyfile("""
        def test_fixture(event_loop):
            assert event_loop == "the suite's own"
    """)
    run(suite, "--zloop").assert_outcomes(passed=1)


# -- without pytest-asyncio, or with an old one --------------------------------------------------------------------


def test_without_pytest_asyncio(pytester):
    pytester.makeini("[pytest]\nfilterwarnings = error")
    pytester.makepyfile(SYNC_TEST)
    run(pytester, "-p", "no:asyncio", "-p", "no:aiohttp").assert_outcomes(passed=1)


def test_asking_for_it_without_a_plugin_that_takes_a_loop(pytester):
    pytester.makepyfile(SYNC_TEST)
    result = run(pytester, "-p", "no:asyncio", "-p", "no:aiohttp", "-p", "no:anyio", "--zloop")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*no plugin that takes a loop is loaded. Install pytest-asyncio 1.4 or later*")


STAND_IN = """
    # stands in for an old pytest-asyncio: it has the plugin's name, and no hook for loop factories
    import pytest

    def pytest_addoption(parser, pluginmanager):
        pluginmanager.register(OldPlugin(), "asyncio")

    class OldPlugin:
        {contents}
"""

EVENT_LOOP_OF_ITS_OWN = """
        @pytest.fixture
        def event_loop(self):
            return "the old plugin's own"
"""

KIND_OF_FIXTURE = """
    def test_fixture(event_loop):
        print("fixture is", type(event_loop).__name__)
"""


@pytest.fixture
def run_with_stand_in(pytester, monkeypatch):
    """Run a suite in which something with these contents takes the place of pytest-asyncio."""

    def run_suite(contents, *arguments):
        pytester.makeini("[pytest]\nfilterwarnings = error")
        pytester.makepyfile(KIND_OF_FIXTURE, old_pytest_asyncio=STAND_IN.format(contents=contents))
        pytester.syspathinsert()
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        return run(pytester, "-p", "zloop.pytest_plugin", "-p", "old_pytest_asyncio", *arguments)

    return run_suite


def test_too_old_to_take_a_loop(run_with_stand_in):
    """From 1.0 to 1.3 there is neither the fixture nor the hook; silence would leave the suite on asyncio."""
    result = run_with_stand_in("pass", "--zloop")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*takes pytest-asyncio 1.4 or later*")


def test_too_old_and_not_asked_for(run_with_stand_in):
    result = run_with_stand_in("pass")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines("*fixture is Loop*")


@pytest.mark.parametrize(("arguments", "kind"), [([], "str"), (["--zloop"], "Loop")], ids=["", "--zloop"])
def test_so_old_that_event_loop_is_its_own(run_with_stand_in, arguments, kind):
    """Before 1.0 the fixture is what tests run on: it is overridden if that is wanted, and left alone if not."""
    result = run_with_stand_in(EVENT_LOOP_OF_ITS_OWN, *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(f"*fixture is {kind}*")


@pytest.mark.parametrize("imported", ["zloop", "zloop.pytest_plugin"])
def test_zloop_is_imported_before_its_plugin_is_registered(suite, monkeypatch, imported):
    """By sitecustomize, say, which makes it the default: pytest has nothing to warn of."""
    suite.makepyfile(sitecustomize=f"import {imported}", test_nothing="def test_nothing(): pass")
    if not is_installed():
        name = "zloop-0.dist-info"
        suite.mkdir(name)
        write = suite.path.joinpath
        write(name, "METADATA").write_text("Metadata-Version: 2.1\nName: zloop\nVersion: 0\n")
        write(name, "RECORD").write_text("zloop/__init__.py,,\nzloop/pytest_plugin.py,,\n")
        write(name, "entry_points.txt").write_text("[pytest11]\nzloop = zloop.pytest_plugin\n")
    path = [str(suite.path), str(Path(zloop.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    command = [sys.executable, "-P", "-W", "error", "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"]
    result = suite.run(*command, "-p", "zloop", "test_nothing.py")
    result.assert_outcomes(passed=1)
    assert result.ret == 0


def is_installed():
    return bool(importlib.metadata.entry_points(group="pytest11", name="zloop"))


@pytest.mark.parametrize("version", [None, "of its own"])
def test_copy_of_anyio_whose_version_nobody_knows_is_taken(monkeypatch, version):
    def find(_name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(importlib.metadata, "version", find)
    assert zloop.pytest_plugin.takes_loop_factory()
