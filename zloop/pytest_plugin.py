"""pytest plugin: runs asynchronous tests on zloop, for suites that ask for it.

Installing zloop changes no suite by itself. One that wants its pytest-asyncio tests to run on zloop says

    [tool.pytest.ini_options]
    zloop = true

or is started with ``pytest --zloop``; ``pytest -o zloop=false`` goes back to asyncio for one run. This works through
pytest-asyncio's hook for loop factories (pytest-asyncio 1.4 and later), where the factory is called "zloop". A
``pytest_asyncio_loop_factories`` hook in a conftest.py comes before this one.

The ``event_loop`` fixture, which pytest-asyncio had until 1.0, is there for suites that still ask for it by that name:
a new zloop loop, closed after the test. An asynchronous test that this plugin runs on zloop gets its own loop instead.

PYTEST_DONT_REWRITE: pytest would warn of a plugin that was imported before it is registered.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import zloop

_FACTORIES_HOOK = "pytest_asyncio_loop_factories"
_OWN_LOOP_PLUGIN = "zloop-own-loop"


class LoopFactories:
    """Implements pytest-asyncio's hook for loop factories."""

    @pytest.hookimpl(trylast=True, optionalhook=True)
    def pytest_asyncio_loop_factories(
        self, config: pytest.Config, item: pytest.Item
    ) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
        """The factory "zloop", for every test."""
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting."""
    help_text = "run pytest-asyncio's tests on zloop"
    parser.getgroup("asyncio").addoption("--zloop", action="store_true", help=help_text)
    parser.addini("zloop", help_text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugins that this run needs; pytest.UsageError if its pytest-asyncio does not support them."""
    register = config.pluginmanager.register
    pytest_asyncio = config.pluginmanager.get_plugin("asyncio")
    has_event_loop = hasattr(pytest_asyncio, "event_loop")  # before 1.0: what tests run on, meant to be overridden
    is_wanted = config.getoption("--zloop") or config.getini("zloop")
    if is_wanted and hasattr(config.hook, _FACTORIES_HOOK):
        register(LoopFactories())
        register(own_loop_fixture(pytest_asyncio), _OWN_LOOP_PLUGIN)
    elif is_wanted and pytest_asyncio is not None and not has_event_loop:
        raise pytest.UsageError("running tests on zloop takes pytest-asyncio 1.4 or later")
    if is_wanted or not has_event_loop:
        register(EventLoopFixture())
