"""Fixtures and rules that every test of the suite lives under.

* Behaviour tests run on zloop and on stock asyncio, the reference: each is proven there too.
  ``--loop-kind=zloop`` or ``--loop-kind=asyncio`` restricts a run to one of them.
* A test of TLS runs on zloop twice: straight to OpenSSL, and through the ssl module.
* ``@pytest.mark.zloop_only`` marks what asyncio does not promise.
* The leak guard fails any test that leaves something behind: a descriptor, a thread, a child process,
  a signal handler, or a complaint on asyncio's logger that the test did not ask for.
"""

import asyncio
import gc
import logging
import signal
import sys

import pytest
import trustme

pytest.register_assert_rewrite("support", "datagram_support", "server_support", "tls_support")

from support import (  # noqa: E402  (once its assertions can explain themselves)
    TIME_LIMIT,
    BufferedRecorder,
    LoopLog,
    Recorder,
    close_loop,
    engine_objects,
    new_loop,
    observe,
    process_state,
    run_bounded,
    settled_leaks,
)
from tls_support import BACKENDS, contexts_for  # noqa: E402


def pytest_addoption(parser):
    parser.addoption(
        "--loop-kind",
        choices=("zloop", "asyncio"),
        help="run the behaviour tests on this kind of loop only (default: on both)",
    )


def pytest_configure(config):
    # Whatever started the tests may have had these ignored: nohup, or a shell's background job.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "zloop_only: asyncio does not promise this, so only zloop is tested")


def pytest_generate_tests(metafunc):
    if "loop_kind" in metafunc.fixturenames:
        only = metafunc.config.getoption("--loop-kind")
        marked = metafunc.definition.get_closest_marker("zloop_only")
        kinds = [only] if only else ["zloop"] if marked else ["zloop", "asyncio"]
        metafunc.parametrize("loop_kind", kinds)
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", BACKENDS)


def pytest_collection_modifyitems(config, items):
    items[:] = [item for item in items if not _is_asyncio_on_another_backend(item)]
    if config.getoption("--loop-kind") == "asyncio":
        dropped = [item for item in items if item.get_closest_marker("zloop_only")]
        items[:] = [item for item in items if not item.get_closest_marker("zloop_only")]
        config.hook.pytest_deselected(items=dropped)


def _is_asyncio_on_another_backend(item):
    """Whether it would try the same once more: asyncio has one way of doing TLS."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return params.get("loop_kind") == "asyncio" and params.get("backend", BACKENDS[0]) != BACKENDS[0]


def collect_and_freeze():
    """Collect the garbage, and spare later collections what is alive: pytest's reports make a hundred thousand objects.

    Collections of everything took nine tenths of the suite's time.
    """
    gc.collect()
    gc.freeze()


last_seen = {"test": None, "objects": None}


def check_engine_objects(test):
    """Fail if the last test has left objects of the engine. It shows now: pytest keeps a fixture's value to the end."""
    last, before = last_seen["test"], last_seen["objects"]
    last_seen["test"], last_seen["objects"] = test, engine_objects()
    left = last_seen["objects"] - before if last else None
    if left:  # a frame that was frozen while it ran may be part of a cycle that holds them
        gc.unfreeze()
        collect_and_freeze()
        last_seen["objects"] = engine_objects()
        left = last_seen["objects"] - before
    assert not left, f"{last} left behind: {dict(left)}"


@pytest.fixture(autouse=True)
def loop_log(request):
    """What was logged on asyncio's logger, WARNING and above; a test that expects entries takes them.

    Set up before every other fixture of a test and torn down after them, so it is the leak guard as well.
    Unclosed loops and transports show up as ResourceWarnings during the collection, which are errors.
    """
    collect_and_freeze()
    check_engine_objects(request.node.nodeid)
    before = process_state()
    log = LoopLog()
    logger = logging.getLogger("asyncio")
    logger.addHandler(log)
    try:
        yield log
        gc.collect()
    finally:
        logger.removeHandler(log)
    leaks = settled_leaks(before)
    unexpected = log.take()
    assert not leaks, f"the test left behind: {leaks}"
    assert not unexpected, f"asyncio's logger was given: {unexpected}"


@pytest.fixture
def make_loop(loop_kind):
    """Make a loop of the kind under test; whatever was made is closed after the test."""
    made = []

    def make():
        made.append(new_loop(loop_kind))
        return made[-1]

    yield make
    for loop in made:
        close_loop(loop)


@pytest.fixture
def loop(make_loop):
    """A fresh loop of the kind under test."""
    return make_loop()


@pytest.fixture
def run(loop):
    """Run a coroutine on the loop under test and return its result; it fails after TIME_LIMIT seconds."""
    return lambda coro: run_bounded(loop, coro)


@pytest.fixture
def forever(loop):
    """Run the loop under test until something stops it, TIME_LIMIT seconds at most."""

    def run_forever():
        expired = []
        watchdog = loop.call_later(TIME_LIMIT, lambda: (expired.append(True), loop.stop()))
        try:
            loop.run_forever()
        finally:
            watchdog.cancel()
        assert not expired, "nothing stopped the loop"

    return run_forever


@pytest.fixture
def unhandled(loop):
    """The contexts that the loop under test passes to its exception handler, in a list."""
    contexts = []
    loop.set_exception_handler(lambda _loop, context: contexts.append(context))
    return contexts


PROTOCOLS = {"Protocol": Recorder, "BufferedProtocol": BufferedRecorder}


@pytest.fixture(params=PROTOCOLS)
def protocol_factory(request):
    """A recording protocol of each kind."""
    return PROTOCOLS[request.param]


@pytest.fixture
def same_as_asyncio(request, loop_log):
    """Run ``scenario(loop)`` on asyncio and on zloop, require the same outcome, and return it.

    A scenario is a function or a coroutine function. Its outcome is what it returned or raised, and what was
    logged meanwhile, with addresses, ports and class names made alike. On ``--loop-kind=asyncio`` the scenario
    runs twice on asyncio, which shows at least that its outcome can be relied upon.
    """
    other_kind = request.config.getoption("--loop-kind") or "zloop"

    def compare(scenario):
        expected = observe(scenario, "asyncio", loop_log)
        actual = observe(scenario, other_kind, loop_log)
        assert actual == expected
        return expected

    return compare


class Exporter(bytearray):
    """Memory that calls a function whenever somebody asks for it."""

    def __init__(self, content, action):
        super().__init__(content)
        self.action = action

    def __buffer__(self, flags):
        self.action()
        return super().__buffer__(flags)


@pytest.fixture
def exporter():
    """Exporter, where a class can be one."""
    if sys.version_info < (3, 12):
        pytest.skip("classes export memory since 3.12")
    return Exporter


@pytest.fixture(scope="session")
def certificate_files(tmp_path_factory):
    """The files of a server's certificate and its key, for programs that a test starts."""
    folder = tmp_path_factory.mktemp("certificate")
    issued = trustme.CA().issue_cert("example.org")
    issued.private_key_pem.write_to_path(folder / "key")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(folder / "chain", append=True)
    return folder / "chain", folder / "key"


@pytest.fixture
def tls(backend, monkeypatch):
    """The contexts of a server and a client; zloop uses the TLS backend under test with them."""
    monkeypatch.setenv("ZLOOP_TLS", backend)
    return contexts_for(backend)


@pytest.fixture(autouse=True)
def no_current_loop(loop_log):
    """No test finds or leaves a running loop in its thread."""
    yield
    assert asyncio._get_running_loop() is None
