"""Ways to get a zloop loop: new_event_loop, run, Runner, and, while Python has them, policies."""

import asyncio
import contextlib
import subprocess
import sys
import warnings

import pytest
from support import outcome_of, run_script

pytestmark = pytest.mark.zloop_only

HAS_POLICIES = sys.version_info < (3, 16)
needs_policies = pytest.mark.skipif(not HAS_POLICIES, reason="this Python has no event loop policies")


@pytest.fixture
def zloop():
    """The package; a fixture, so that the reference can be tested where it is not installed."""
    return pytest.importorskip("zloop")


async def which_loop():
    return type(asyncio.get_running_loop())


def test_new_event_loop(zloop):
    loop = zloop.new_event_loop()
    assert type(loop) is zloop.Loop
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert not loop.is_running()
    loop.close()


def test_nothing_abstract_is_left(zloop):
    """Every public method of AbstractEventLoop is there, be it to say that it is still to come."""
    public = [name for name in vars(asyncio.AbstractEventLoop) if not name.startswith("_")]
    inherited = [name for name in public if getattr(zloop.Loop, name) is getattr(asyncio.AbstractEventLoop, name)]
    assert inherited == []


def test_public_names(zloop):
    assert {"Loop", "new_event_loop", "run"} <= set(zloop.__all__)
    assert hasattr(zloop, "install") == hasattr(zloop, "EventLoopPolicy") == HAS_POLICIES
    assert all(hasattr(zloop, name) for name in zloop.__all__)
    assert isinstance(zloop.__version__, str)


def output_of(source):
    """What a program prints, whose warnings are errors."""
    command = [sys.executable, "-P", "-W", "error", "-c", source]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def test_importing_leaves_what_a_loop_needs_to_the_first_loop(zloop):
    source = """
import sys
import zloop

print("zloop.loop" in sys.modules, set(zloop.__all__) <= set(dir(zloop)))
zloop.new_event_loop().close()
print("zloop.loop" in sys.modules)
"""
    assert output_of(source) == ["False True", "True"]


@pytest.mark.parametrize("name", ["Loop", pytest.param("EventLoopPolicy", marks=needs_policies)])
def test_the_first_use_may_be_an_import_of_a_name(zloop, name):
    assert output_of(f"from zloop import {name}; print({name}.__name__)") == [name]


def test_names_that_are_not_there(zloop):
    with pytest.raises(AttributeError, match="module 'zloop' has no attribute 'loops'"):
        zloop.loops  # noqa: B018  # it is not useless if it raises


# -- run and Runner ------------------------------------------------------------------------------------------------


def test_run(zloop):
    assert zloop.run(which_loop()) is zloop.Loop


def test_run_raises_what_main_raises(zloop):
    async def fail():
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        zloop.run(fail())


@pytest.mark.parametrize("debug", [None, False, True])
def test_run_in_debug_mode(zloop, debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert zloop.run(main(), debug=debug) is bool(debug)


def test_run_cleans_up(zloop):
    ended = []

    async def numbers():
        try:
            yield 1
        finally:
            ended.append("generator")

    async def sleeper():
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    kept = []

    async def main():
        kept.append(asyncio.get_running_loop())
        kept.append(numbers())
        await anext(kept[-1])
        kept.append(asyncio.create_task(sleeper()))
        await asyncio.to_thread(int)
        await asyncio.sleep(0)

    zloop.run(main())
    assert sorted(ended) == ["generator", "task"]
    assert kept[0].is_closed()


def test_run_inside_a_running_loop_is_refused(zloop):
    async def main():
        coroutine = which_loop()
        outcome = outcome_of(zloop.run, coroutine)
        coroutine.close()
        return outcome

    assert zloop.run(main())[1] is RuntimeError


def test_run_of_what_is_no_coroutine(zloop):
    outcome = outcome_of(zloop.run, None)
    reference = outcome_of(asyncio.run, None)
    assert outcome[:2] == reference[:2]
    assert outcome[0] == "raised"


def test_run_takes_debug_by_keyword_only(zloop):
    coroutine = which_loop()
    with pytest.raises(TypeError):
        zloop.run(coroutine, True)
    coroutine.close()


def test_runner(zloop):
    with asyncio.Runner(loop_factory=zloop.new_event_loop) as runner:
        assert runner.run(which_loop()) is zloop.Loop
        assert runner.run(which_loop()) is zloop.Loop
        assert type(runner.get_loop()) is zloop.Loop


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory is new in 3.12")
def test_asyncio_run_with_a_loop_factory(zloop):
    assert asyncio.run(which_loop(), loop_factory=zloop.new_event_loop) is zloop.Loop


# -- policies ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def original_policy_restored():
    """Whatever policy the block sets is gone after it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        before = asyncio.get_event_loop_policy()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(before)


def deprecation_expected():
    """From 3.14 on a DeprecationWarning has to be there; before, any warning is an error."""
    return pytest.warns(DeprecationWarning, match="policy") if sys.version_info >= (3, 14) else contextlib.nullcontext()


@needs_policies
def test_install_makes_zloop_the_default(zloop):
    with original_policy_restored():
        with deprecation_expected():
            zloop.install()
        loop = asyncio.new_event_loop()
        assert type(loop) is zloop.Loop
        loop.close()
        assert asyncio.run(which_loop()) is zloop.Loop
        with asyncio.Runner() as runner:
            assert runner.run(which_loop()) is zloop.Loop


@needs_policies
def test_policy_of_ones_own(zloop):
    with original_policy_restored():
        with deprecation_expected():
            asyncio.set_event_loop_policy(zloop.EventLoopPolicy())
        assert asyncio.run(which_loop()) is zloop.Loop


@needs_policies
@pytest.mark.skipif(sys.version_info < (3, 14), reason="policies are deprecated since 3.14")
def test_install_warns_where_it_is_called(zloop):
    with original_policy_restored(), pytest.warns(DeprecationWarning, match="policy") as caught:
        zloop.install()
    assert [warning.filename for warning in caught] == [__file__]


@needs_policies
def test_importing_warns_of_nothing():
    """Defining a policy is not using one: nobody who just imports zloop hears of deprecations."""
    assert run_script("zloop", "print('imported')") == ["imported"]


@needs_policies
def test_get_event_loop_gives_a_zloop_loop_after_install():
    source = """
import asyncio, sys, warnings, zloop
warnings.simplefilter("ignore")
zloop.install()
if sys.version_info < (3, 14):
    loop = asyncio.get_event_loop()
else:  # it makes no loops any more
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
print(type(loop) is zloop.Loop)
asyncio.set_event_loop(None)
loop.close()
"""
    assert run_script("zloop", source) == ["True"]
