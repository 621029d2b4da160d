"""What a loop owes the running version of Python: its methods and their parameters, call graphs since CPython 3.14.

Other traits of versions are with their topics.
"""

import asyncio
import inspect
import re
import socket
import subprocess
import sys

import pytest
from support import LOCALHOST, TIME_LIMIT, Recorder, Script, several_turns

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # asking for every attribute meets old ones

METHODS = sorted(
    name
    for name in dir(asyncio.AbstractEventLoop)
    if not name.startswith("_") and callable(getattr(asyncio.AbstractEventLoop, name))
)


@pytest.fixture(scope="module")
def loop_types():
    """The class of asyncio's loop, and zloop's."""
    import zloop

    return asyncio.SelectorEventLoop, zloop.Loop


def parameters(function):
    """A method's names that can be passed, by kind; nothing if it has no signature to ask for."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return {}
    return {name: parameter.kind for name, parameter in signature.parameters.items() if name != "self"}


@pytest.mark.zloop_only
@pytest.mark.parametrize("name", METHODS)
def test_coroutines_are_where_asyncio_has_them(loop_types, name):
    """create_task(loop.sock_recv(...)) takes nothing else."""
    theirs, ours = (inspect.iscoroutinefunction(getattr(kind, name)) for kind in loop_types)
    assert ours is theirs


@pytest.mark.zloop_only
@pytest.mark.parametrize("name", [name for name in METHODS if name != "create_task"])  # whose keywords are the task's
def test_parameters_have_asyncios_names(loop_types, name):
    theirs, ours = (parameters(getattr(kind, name)) for kind in loop_types)
    for parameter, kind in theirs.items():
        if kind is inspect.Parameter.VAR_POSITIONAL:
            assert kind in ours.values()
        else:
            assert ours.get(parameter) is kind


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_calls_with_arguments_missing(same_as_asyncio, name, missing):
    """TypeError where asyncio has it; the interpreter's words differ for native methods."""

    def scenario(loop):
        needed = [
            parameter
            for parameter in inspect.signature(getattr(asyncio.SelectorEventLoop, name)).parameters.values()
            if parameter.default is inspect.Parameter.empty
            and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ][1:]
        if len(needed) < missing:
            return "nothing can be missing"
        try:
            result = getattr(loop, name)(*[None] * (len(needed) - missing))
        except Exception as exc:
            return type(exc)
        if asyncio.iscoroutine(result):
            result.close()
        return "called"

    assert same_as_asyncio(scenario).returned in ("nothing can be missing", TypeError)


@pytest.mark.parametrize("name", ["sock_recv", "create_connection", "add_reader", "stop", "getaddrinfo", "close"])
def test_calls_with_unknown_keywords(same_as_asyncio, name):
    def scenario(loop):
        try:
            getattr(loop, name)(no_such_keyword=1)
        except TypeError:
            return "refused"

    assert same_as_asyncio(scenario).returned == "refused"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="3.13 gave the two steps their names")
def test_loop_driven_by_another(loop):
    """Programs that embed a loop in another one do by themselves what run_forever() does."""
    ran = []
    loop.call_soon(ran.append, "one")
    loop._run_forever_setup()
    try:
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        loop._run_once()
        loop.call_soon(ran.append, "two")
        loop._run_once()
    finally:
        loop._run_forever_cleanup()
    assert not loop.is_running()
    assert ran == ["one", "two"]
    loop.run_until_complete(asyncio.sleep(0))


# -- servers whose serving is cancelled ----------------------------------------------------------------------------


def test_cancelled_serve_forever_and_its_clients(same_as_asyncio):
    """Up to 3.13 they may stay; from 3.14 on they are closed."""

    async def scenario(loop):
        peer = Recorder()
        server = await loop.create_server(lambda: peer, LOCALHOST, 0)
        with socket.create_connection(server.sockets[0].getsockname()):
            await peer.until_called("connection_made")
            serving = loop.create_task(server.serve_forever())
            await several_turns()
            serving.cancel()
            await several_turns()
            told = peer.names(), serving.done(), server.is_serving()
            peer.transport.abort()
            await peer.until_called("connection_lost")
            await asyncio.wait([serving])
        return told, serving.cancelled()

    assert same_as_asyncio(scenario).returned[1] is True


# -- call graphs ---------------------------------------------------------------------------------------------------

needs_call_graphs = pytest.mark.skipif(sys.version_info < (3, 14), reason="call graphs are new in 3.14")


@needs_call_graphs
def test_call_graph_from_inside(same_as_asyncio):
    async def scenario(loop):
        async def leaf():
            await asyncio.sleep(0)
            return asyncio.format_call_graph()

        async def middle():
            return await leaf()

        async def outer():
            async with asyncio.TaskGroup() as group:
                task = group.create_task(middle(), name="middle")
            return task.result()

        task = loop.create_task(outer(), name="outer")
        await several_turns(1)
        waiting = asyncio.capture_call_graph(task)
        graph = await task
        return graph, [frame.frame.f_code.co_name for frame in waiting.call_stack]

    graph, _names = same_as_asyncio(scenario).returned
    assert "name='middle'" in graph
    assert "outer" in graph


WAITING_TASKS = """
import asyncio

async def innermost():
    print("up", flush=True)
    await asyncio.sleep(3600)

async def waiting():
    await innermost()

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(waiting(), name="first")
        group.create_task(waiting(), name="second")

loop = new_event_loop()
loop.run_until_complete(main())
"""


def look_at(kind, command):
    """What `python -m asyncio` says of the tasks of a script on that kind of loop, without its addresses."""
    with Script(kind, WAITING_TASKS) as script:
        assert [script.line(), script.line()] == ["up", "up"]
        script.wait_until_asleep()
        looked = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(script.pid)],
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
        if "Permission" in looked.stderr or "not permitted" in looked.stderr:
            pytest.skip("the kernel does not let one process look into another")
        assert looked.returncode == 0, looked.stderr
        return sorted(line.split() for line in re.sub(r"0x[0-9a-f]+|\d{2,}", "N", looked.stdout).splitlines())


@needs_call_graphs
@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_call_graph_from_outside(loop_kind, command):
    told = look_at(loop_kind, command)
    assert told == look_at("asyncio", command)
    words = {word for line in told for word in line}
    assert {"first", "second", "innermost", "waiting"} <= words
