"""pytest plugin: runs asynchronous tests on zloop, for suites that ask for it.

Installing zloop changes no suite by itself. One that wants its tests to run on zloop says

    [tool.pytest.ini_options]
    zloop = true

or is started with ``pytest --zloop``; ``pytest -o zloop=false`` goes back to asyncio for one run. The loop is given to
the plugins that run asynchronous tests: pytest-asyncio 1.4 and later (and before 1.0), anyio 4 and later, and
pytest-aiohttp. Where none of them is loaded it is an error. What a suite chooses by itself comes first: a
``pytest_asyncio_loop_factories`` hook in a conftest.py, the loop_factory of an anyio_backend, the marker no_zloop.

The ``event_loop`` fixture, which pytest-asyncio had until 1.0, is there for suites that still ask for it by that name:
a new zloop loop, closed after the test. An asynchronous test that this plugin runs on zloop gets its own loop instead.

PYTEST_DONT_REWRITE: pytest would warn of a plugin that was imported before it is registered.
"""

import asyncio
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import pytest

import zloop

_FACTORIES_HOOK = "pytest_asyncio_loop_factories"
_OWN_LOOP_PLUGIN = "zloop-own-loop"
_NO_EFFECT = (
    "running tests on zloop (--zloop, or zloop = true in the settings) has no effect here: no plugin that takes a loop "
    "is loaded. Install pytest-asyncio 1.4 or later, anyio 4 or later, or pytest-aiohttp"
)
_FIRST_ANYIO = 4
_TOO_OLD_ANYIO = "running anyio's tests on zloop takes anyio 4 or later, which has the option loop_factory"
_LOOPTIME = (
    "looptime replaces the clock of asyncio's own loops, and this test runs on zloop, where time would pass as it "
    "does: keep it on asyncio's loop by @pytest.mark.no_zloop, or run such tests apart: "
    "pytest -m looptime -o zloop=false"
)
_NO_ZLOOP_OF_ANYIO = (
    "anyio's tests share their backend: to keep this one on asyncio's loop, give it a fixture anyio_backend that "
    "returns ('asyncio', {'loop_factory': asyncio.SelectorEventLoop})"
)

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class LoopFactories:
    """Implements pytest-asyncio's hook for loop factories."""

    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_asyncio_loop_factories(self, config: pytest.Config, item: pytest.Item) -> Mapping[str, LoopFactory]:
        """The factory "zloop", for every test; or "asyncio", for one that is marked no_zloop."""
        if item.get_closest_marker("no_zloop") is not None:
            return {"asyncio": asyncio.new_event_loop}
        return {"zloop": zloop.new_event_loop}


class EventLoopFixture:
    """Provides the fixture event_loop."""

    @pytest.fixture
    def event_loop(self, request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
        """A new zloop loop, closed after the test; or the loop of an asynchronous test that runs on zloop."""
        is_asynchronous = request.node.get_closest_marker("asyncio") is not None
        if is_asynchronous and request.config.pluginmanager.has_plugin(_OWN_LOOP_PLUGIN):
            yield request.getfixturevalue("_zloop_own_loop")
        else:
            loop = zloop.new_event_loop()
            yield loop
            loop.close()


def own_loop_fixture(pytest_asyncio: Any) -> object:
    """A plugin that provides, for event_loop, the loop that pytest-asyncio runs a test on."""

    class OwnLoopFixture:
        @pytest_asyncio.fixture  # type: ignore[untyped-decorator]
        async def _zloop_own_loop(self) -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

    return OwnLoopFixture()


class AnyioBackends:
    """Adds zloop to the options of anyio's backend "asyncio", wherever the fixture anyio_backend comes from."""

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, None]:
        """Replace the value of anyio_backend, unless it has a loop factory."""
        outcome = yield
        if fixturedef.argname != "anyio_backend" or outcome.excinfo is not None:
            return
        value = outcome.get_result()
        backend, options = value if isinstance(value, tuple) else (value, {})
        if backend != "asyncio" or options.get("loop_factory") is not None:
            return
        if not takes_loop_factory():
            outcome.force_exception(pytest.UsageError(_TOO_OLD_ANYIO))
            return
        replaced = (backend, {**options, "loop_factory": zloop.new_event_loop})
        if fixturedef.cached_result is not None:
            fixturedef.cached_result = (replaced, *fixturedef.cached_result[1:])
        outcome.force_result(replaced)


def takes_loop_factory() -> bool:
    """Whether the anyio that is installed has the option loop_factory."""
    try:
        major = int(importlib.metadata.version("anyio").partition(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):  # a copy within another package
        return True
    return major >= _FIRST_ANYIO


class AiohttpLoops:
    """Adds zloop to the loops of aiohttp's own plugin, which pytest-aiohttp had until 1.0.

    Its option --aiohttp-loop names the loops that tests with the fixture `loop` run on, one after the other.
    """

    def __init__(self, factories: dict[str, LoopFactory]) -> None:
        self._factories = factories

    @pytest.hookimpl(hookwrapper=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> Iterator[None]:
        """Parametrise loop_factory, in place of aiohttp's plugin, which knows asyncio and uvloop only."""
        names = metafunc.fixturenames
        if "loop_factory" not in names:
            yield
            return
        factories = self._factories
        if metafunc.definition.get_closest_marker("no_zloop") is not None:
            others = {name: factory for name, factory in factories.items() if name != "zloop"}
            factories = others or {"pyloop": asyncio.new_event_loop}
        metafunc.parametrize("loop_factory", list(factories.values()), ids=list(factories))
        position = names.index("loop_factory")
        del names[position]  # or aiohttp's plugin does it, too
        try:
            yield
        finally:
            names.insert(position, "loop_factory")

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Iterator[None]:
        """Give a loop to an asynchronous test that asks for none: aiohttp's plugin would make one of asyncio's."""
        values = pyfuncitem.funcargs
        has_loop = {"loop", "proactor_loop", "selector_loop", "uvloop_loop", "anyio_backend"} & values.keys()
        is_kept = pyfuncitem.get_closest_marker("no_zloop") is not None
        if has_loop or is_kept or not inspect.iscoroutinefunction(pyfuncitem.function):
            yield
            return
        test_utils = importlib.import_module("aiohttp.test_utils")
        fast = pyfuncitem.config.getoption("aiohttp_fast", default=False)
        with test_utils.loop_context(zloop.new_event_loop, fast=fast) as values["loop"]:
            yield


def aiohttp_factories(names: str, *, is_wanted: bool) -> dict[str, LoopFactory]:
    """The loop factories that --aiohttp-loop names; pytest.UsageError for a name that is none of a loop here."""
    factories: dict[str, LoopFactory] = {}
    for entry in ("pyloop,uvloop?" if names == "all" else names).split(","):
        name = entry.strip(" ?")
        if name == "zloop" or (name == "pyloop" and is_wanted):
            factories["zloop"] = zloop.new_event_loop
        elif name == "pyloop":
            factories[name] = asyncio.new_event_loop
        else:
            try:
                factories[name] = importlib.import_module({"uvloop": "uvloop"}[name]).new_event_loop
            except (KeyError, ImportError):
                if not entry.endswith("?"):
                    raise pytest.UsageError(f"--aiohttp-loop: there is no loop {name!r} here") from None
    return factories


class Guard:
    """Refuses to run on zloop what cannot."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> None:
        """Fail a test that counts on looptime's clock and has a loop of zloop's, or has one in spite of no_zloop."""
        values = pyfuncitem.funcargs
        if wants_looptime(pyfuncitem) and any(map(is_of_zloop, values.values())):
            pytest.fail(_LOOPTIME, pytrace=False)
        if pyfuncitem.get_closest_marker("no_zloop") and is_of_zloop(values.get("anyio_backend")):
            pytest.fail(_NO_ZLOOP_OF_ANYIO, pytrace=False)


def wants_looptime(item: pytest.Item) -> bool:
    """Whether looptime is asked for in a test: by its markers, the innermost first, or by its options."""
    option = item.config.getoption("looptime", default=None)
    markers = list(item.iter_markers("looptime"))
    is_enabled = bool(markers) or option is True
    for marker in reversed(markers):
        is_enabled = bool(marker.args[0]) if marker.args else is_enabled
    return is_enabled and option is not False


def is_of_zloop(value: object) -> bool:
    """Whether the value of a fixture is what runs a test on zloop."""
    if isinstance(value, asyncio.Runner):  # pytest-asyncio's
        value = value.get_loop()
    elif isinstance(value, tuple) and value[:1] == ("asyncio",):  # anyio_backend
        return value[1].get("loop_factory") is zloop.new_event_loop
    return isinstance(value, asyncio.AbstractEventLoop) and isinstance(value, zloop.Loop)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting."""
    help_text = "run the tests of pytest-asyncio, anyio and pytest-aiohttp on zloop"
    parser.getgroup("asyncio").addoption("--zloop", action="store_true", help=help_text)
    parser.addini("zloop", help_text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugins that this run needs; pytest.UsageError where zloop is asked for in vain."""
    config.addinivalue_line("markers", "no_zloop: keeps a test on asyncio's loop where the others run on zloop")
    register = config.pluginmanager.register
    pytest_asyncio = config.pluginmanager.get_plugin("asyncio")
    has_event_loop = hasattr(pytest_asyncio, "event_loop")  # before 1.0: what tests run on, meant to be overridden
    is_wanted = bool(config.getoption("--zloop") or config.getini("zloop"))
    aiohttp_names: str | None = config.getoption("aiohttp_loop", default=None)
    if is_wanted:
        has_anyio = config.pluginmanager.has_plugin("anyio") or config.pluginmanager.has_plugin("anyio.pytest_plugin")
        if hasattr(config.hook, _FACTORIES_HOOK):
            register(LoopFactories())
            register(own_loop_fixture(pytest_asyncio), _OWN_LOOP_PLUGIN)
        elif pytest_asyncio is not None and not has_event_loop:
            raise pytest.UsageError("running tests on zloop takes pytest-asyncio 1.4 or later")
        elif not has_event_loop and aiohttp_names is None and not (has_anyio and takes_loop_factory()):
            raise pytest.UsageError(_NO_EFFECT)
        if has_anyio:
            register(AnyioBackends())
    if aiohttp_names is not None and (is_wanted or "zloop" in aiohttp_names):
        register(AiohttpLoops(aiohttp_factories(aiohttp_names, is_wanted=is_wanted)))
    if is_wanted or not has_event_loop:
        register(EventLoopFixture())
    register(Guard())
