"""Native types in the hands of programs that make, copy or pickle what they find: an error, and never a crash."""

import asyncio
import copy
import importlib.machinery
import importlib.util
import pickle
import pkgutil
import socket
import sys
from functools import partial

import pytest
from support import LOCALHOST, Script
from tls_support import HOST, contexts_for

import zloop

pytestmark = pytest.mark.zloop_only

# What is made by its class alone, and of which nothing is missing then.
OPEN_TYPES = {"Clients", "AsyncioBase"}


def native_types():
    """The classes of the extension modules, by name."""
    found = {}
    for info in pkgutil.walk_packages(zloop.__path__, "zloop."):
        if not isinstance(importlib.util.find_spec(info.name).loader, importlib.machinery.ExtensionFileLoader):
            continue
        if info.name == "zloop.tls.protocol" and sys.modules.get("_ssl") is None:
            continue
        module = importlib.import_module(info.name)
        found |= {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__
        }
    return found


NATIVE_TYPES = native_types()


def test_all_are_looked_at():
    assert {"Loop", "Handle", "TimerHandle", "FdWatcher", "ContextCache", "SocketTransport", "Acceptor"} < set(
        NATIVE_TYPES
    )


@pytest.mark.parametrize("name", sorted(set(NATIVE_TYPES) - OPEN_TYPES))
def test_no_instance_can_be_made(name):
    native = NATIVE_TYPES[name]
    makers = [native, partial(native.__new__, native), partial(object.__new__, native), partial(native, None)]
    makers += [partial(base.__new__, native) for base in native.__mro__[1:]]
    for make in makers:
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize("name", sorted(set(NATIVE_TYPES) - OPEN_TYPES - {"Loop", "TlsProtocol", "ContextCache"}))
def test_no_instance_of_a_subclass_can_be_made(name):
    native = NATIVE_TYPES[name]

    def derived(**names):  # TypeError where the class is final
        return type("Derived", (native,), names)

    def made_by_its_own_init():
        return derived(__init__=lambda self: None)()

    def made_by_the_same_new():
        return derived(__new__=native.__new__)()

    def made_by_new_alone():
        kind = derived()
        return kind.__new__(kind)

    for make in (made_by_its_own_init, made_by_the_same_new, made_by_new_alone):
        with pytest.raises(TypeError):
            make()


async def living_things(loop, tls):
    """Objects of all kinds that a program can get hold of, and what has to be closed in the end."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    server = await loop.create_server(asyncio.Protocol, LOCALHOST, 0)
    secure = await loop.create_server(asyncio.Protocol, LOCALHOST, 0, ssl=tls.server)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    tls_transport, _ = await loop.create_connection(
        asyncio.Protocol, *secure.sockets[0].getsockname(), ssl=tls.client, server_hostname=HOST
    )
    endpoint, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(LOCALHOST, 0))
    reading, _ = await loop.connect_read_pipe(asyncio.Protocol, left)
    writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, right)
    things = [
        loop,
        transport,
        tls_transport,
        tls_transport._ssl_protocol,
        endpoint,
        reading,
        writing,
        loop.call_soon(int),
        loop.call_later(0, int),
        loop.call_soon_threadsafe(int),
    ]
    return things, [transport, tls_transport, endpoint, reading, writing, server, secure]


def test_copies_are_refused_by_name(loop, run):
    async def scenario():
        things, closable = await living_things(loop, contexts_for("portable"))
        for thing in things:
            for refuse in (copy.copy, copy.deepcopy, pickle.dumps, lambda thing: thing.__reduce_ex__(2)):
                with pytest.raises(TypeError, match=f"cannot pickle '[a-zA-Z_.]*{type(thing).__name__}' object"):
                    refuse(thing)
        for thing in closable:
            thing.close()
        await asyncio.sleep(0.05)

    run(scenario())


def test_subclass_says_how_it_is_pickled(loop):
    class Named(zloop.Loop):
        def __reduce__(self):
            return int, ("5",)

    named = Named()
    assert pickle.loads(pickle.dumps(named)) == 5  # noqa: S301  (its own)
    named.close()


def test_handle_made_by_hand_is_asyncios(loop):
    handle = asyncio.Handle(int, (), loop)
    timer = asyncio.TimerHandle(1.0, int, (), loop)
    assert not handle.cancelled()
    timer.cancel()
    assert timer.cancelled()
    assert isinstance(copy.copy(handle), asyncio.Handle)


# In a process of its own: what it calls may write, wait or end.
POKING = """
import asyncio, faulthandler, gc, inspect, logging, os, sys, warnings

warnings.simplefilter("ignore")
logging.disable()
sys.unraisablehook = lambda _unraisable: None  # a loop whose __init__ has failed cannot be closed
NEVER = {"__class__", "__init_subclass__", "run_forever", "run_until_complete", "_run_once", "_run_until_done"}
ARGUMENTS = [(), (None,), (b"x",), (1,), (int,), (None, None), (0, None, None)]

def poke(thing):
    for show in (repr, hash, str, bool, lambda t: t == t, iter, len):
        try:
            show(thing)
        except Exception:
            pass
    for name in dir(thing):
        if name in NEVER:
            continue
        try:
            value = getattr(thing, name)
        except Exception:
            continue
        if not callable(value) or isinstance(value, type):
            continue
        for arguments in ARGUMENTS:
            try:
                answer = value(*arguments)
                if inspect.iscoroutine(answer):
                    try:
                        answer.send(None)
                    finally:
                        answer.close()
            except Exception:
                pass

def made(kind):
    for make in (lambda: kind(), lambda: kind.__new__(kind), lambda: kind(None), lambda: kind.__new__(kind, None),
                 lambda: kind(None, None, None)):
        try:
            yield make()
        except Exception:
            pass

def in_child(name, poke, thing):
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        __import__("signal").alarm(1)
        poke(thing)
        gc.collect()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) != 14:
        print(name, "died by signal", os.WTERMSIG(status), flush=True)
"""

IMPORTING = f"sys.path.insert(0, {__file__.rpartition('/')[0]!r})"


def test_half_made_objects_are_harmless():
    """Every method of whatever can be made of a class of zloop's, called with something or other."""
    with Script(
        "zloop",
        POKING
        + IMPORTING
        + """
from test_native_types import NATIVE_TYPES, zloop
import zloop.tls.start_tls
kinds = [*NATIVE_TYPES.values(), zloop.Loop, zloop.tls.start_tls.SSLProtocol]
things = [thing for kind in kinds for thing in made(kind)]
for thing in things:
    in_child(type(thing).__name__, poke, thing)
os._exit(0)
""",
    ) as script:
        assert script.finish() == []


def test_native_modules_can_be_imported_in_any_order():
    """First of all, and behind the loop's class, which hides what they ask the native loop for."""
    with Script(
        "zloop",
        """
import asyncio, importlib, os, pkgutil, ssl, sys
import zloop
found = pkgutil.walk_packages(zloop.__path__, "zloop.")
names = [info.name for info in found if not info.module_finder.find_spec(info.name).origin.endswith(".py")]
print(len(names) > 10)
for order in [*([name, "zloop.loop"] for name in names), ["zloop.loop", *names]]:
    child = os.fork()
    if not child:
        try:
            for name in order:
                importlib.import_module(name)
            zloop.new_event_loop().close()
            os._exit(0)
        finally:
            os._exit(1)
    if status := os.waitpid(child, 0)[1]:
        print(order, status, flush=True)
""",
    ) as script:
        assert script.finish() == ["True"]


@pytest.mark.parametrize("closed", [False, True])
def test_finished_objects_are_harmless(closed):
    """The same with what programs get hold of, in use and at its end."""
    with Script(
        "zloop",
        POKING
        + IMPORTING
        + f"""
from test_native_types import living_things
from tls_support import HOST, contexts_for
loop = new_event_loop()
things, closable = loop.run_until_complete(living_things(loop, contexts_for("direct")))
if {closed}:
    for thing in closable:
        thing.close()
    loop.run_until_complete(asyncio.sleep(0.05))
for thing in things:
    in_child(type(thing).__name__, poke, thing)
os._exit(0)
""",
    ) as script:
        assert script.finish() == []
