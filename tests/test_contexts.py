"""What callbacks see of context variables: always what they would in a copy of the context made for each of them."""

import asyncio
import contextlib
import contextvars
import gc
import socket
import weakref

import pytest
from support import outcome_of, several_turns, socket_pair, until

MARK = contextvars.ContextVar("MARK", default="unset")
OTHER = contextvars.ContextVar("OTHER", default="unset")


class Value:
    """Something that can be referenced weakly."""


SCHEDULES = {
    "call_soon": lambda loop, callback: loop.call_soon(callback),
    "call_soon_threadsafe": lambda loop, callback: loop.call_soon_threadsafe(callback),
    "call_later": lambda loop, callback: loop.call_later(0, callback),
}


@pytest.fixture(params=SCHEDULES)
def schedule(request):
    """Schedule a callback in one of the ways that copy the current context."""
    return SCHEDULES[request.param]


async def all_run(loop):
    """Wait until what is scheduled by now has run, timers with a delay of zero too."""
    done = loop.create_future()
    loop.call_later(0, lambda: loop.call_soon(done.set_result, None))
    await done


def test_callbacks_do_not_see_each_others_changes(same_as_asyncio, schedule):
    async def scenario(loop):
        seen = []

        def callback(number):
            seen.append((number, MARK.get(), OTHER.get()))
            (MARK if number % 2 else OTHER).set(number)
            seen.append((number, MARK.get(), OTHER.get()))

        MARK.set("before")
        for number in range(4):
            schedule(loop, lambda number=number: callback(number))
        MARK.set("after")
        for number in range(4, 6):
            schedule(loop, lambda number=number: callback(number))
        await all_run(loop)
        return seen, MARK.get()

    same_as_asyncio(scenario)


def test_a_chain_of_callbacks_inherits_what_each_has_set(same_as_asyncio, schedule):
    async def scenario(loop):
        seen = []
        done = loop.create_future()

        def step(left):
            seen.append(MARK.get())
            if left % 2:
                MARK.set(left)
            if left:
                schedule(loop, lambda: step(left - 1))
            else:
                done.set_result(None)

        schedule(loop, lambda: step(5))
        await done
        return seen

    same_as_asyncio(scenario)


def test_a_token_is_of_no_use_to_another_callback(same_as_asyncio, schedule):
    async def scenario(loop):
        tokens, outcomes = [], []
        schedule(loop, lambda: tokens.append(MARK.set("first")))
        schedule(loop, lambda: outcomes.append(type(outcome_of(MARK.reset, tokens[0]).value)))
        schedule(loop, lambda: outcomes.append(MARK.get()))
        await all_run(loop)
        return outcomes

    same_as_asyncio(scenario)


def test_a_change_that_was_undone_leaves_nothing(same_as_asyncio, schedule):
    async def scenario(loop):
        seen = []

        def callback():
            token = MARK.set("mine")
            MARK.reset(token)
            seen.append(MARK.get())

        for _ in range(3):
            schedule(loop, callback)
        await all_run(loop)
        return seen

    same_as_asyncio(scenario)


def test_each_handle_has_a_context_of_its_own(loop, run, schedule):
    async def scenario():
        handles = [schedule(loop, lambda: MARK.set("set by both")) for _ in range(2)]
        contexts = [handle._context for handle in handles]
        assert contexts[0] is not contexts[1]
        assert [context.get(MARK) for context in contexts] == [None, None]
        await all_run(loop)
        assert [handle._context for handle in handles] == contexts
        assert [context[MARK] for context in contexts] == ["set by both"] * 2

    run(scenario())


def test_a_handle_tells_the_context_that_its_callback_runs_in(loop, run, schedule):
    async def scenario():
        told = []

        def callback():
            told.append(handles[0]._context)
            MARK.set("later")

        handles = [schedule(loop, callback)]
        await all_run(loop)
        assert told[0] is handles[0]._context
        assert told[0][MARK] == "later"
        schedule(loop, lambda: told.append(MARK.get()))
        await all_run(loop)
        assert told[1] == "unset"

    run(scenario())


def test_a_context_kept_from_inside_a_callback_is_not_used_again(loop, run):
    async def scenario():
        kept, seen, handles = [], [], []
        handles.append(loop.call_soon(lambda: kept.append(handles.pop()._context)))
        await all_run(loop)
        kept[0].run(MARK.set, "changed from outside")
        for _ in range(2):
            loop.call_soon(lambda: seen.append(MARK.get()))
        await all_run(loop)
        assert seen == ["unset", "unset"]

    run(scenario())


def test_a_task_started_in_a_callback_keeps_its_context(same_as_asyncio):
    async def scenario(loop):
        seen = []

        async def task(name):
            seen.append((name, MARK.get()))
            MARK.set(name)
            await asyncio.sleep(0)
            seen.append((name, MARK.get()))

        tasks = []

        def callback(name):
            MARK.set(f"callback {name}")
            tasks.append(loop.create_task(task(name)))

        for name in "abc":
            loop.call_soon(callback, name)
        await all_run(loop)
        await asyncio.gather(*tasks)
        return seen

    same_as_asyncio(scenario)


def test_an_exception_does_not_change_the_next_callbacks_context(same_as_asyncio):
    async def scenario(loop):
        seen = []
        loop.set_exception_handler(lambda _loop, context: seen.append((MARK.get(), str(context["exception"]))))

        def fail():
            seen.append(MARK.get())
            MARK.set("set before failing")
            raise ValueError("as meant")

        for _ in range(2):
            loop.call_soon(fail)
        await all_run(loop)
        return seen

    same_as_asyncio(scenario)


def schedule_with_value(loop):
    """Schedule a callback in a context that holds a value; a weak reference to that, which nothing else holds."""

    def within(value):
        MARK.set(value)
        loop.call_soon(lambda: None)
        return weakref.ref(value)

    return contextvars.copy_context().run(within, Value())


def test_a_waiting_loop_holds_no_variables_value(loop, run):
    async def scenario():
        reference = schedule_with_value(loop)
        await asyncio.sleep(0.01)  # the loop has nothing else to do, and waits
        gc.collect()
        assert reference() is None

    run(scenario())


def test_a_closed_loop_holds_no_variables_value(make_loop):
    loop = make_loop()
    reference = schedule_with_value(loop)
    loop.close()
    gc.collect()
    assert reference() is None


@pytest.mark.zloop_only  # in asyncio that context is the reader handle's, which fails instead, again and again
@pytest.mark.parametrize("streams", [False, True])
def test_data_that_comes_while_the_context_is_in_use_ends_the_connection(loop, unhandled, streams):
    def factory():
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop)) if streams else asyncio.Protocol()

    with socket_pair() as (ours, theirs):
        transport, _ = loop.run_until_complete(loop.create_connection(factory, sock=ours))
        theirs.send(b"x")
        loop.call_soon(loop.stop)
        transport._context.run(loop.run_forever)
        assert transport.is_closing()
        loop.run_until_complete(several_turns())
        assert [context["message"] for context in unhandled] == ["Fatal error: protocol.data_received() call failed."]
        del unhandled[:]


def refuse(_protocol):
    raise LookupError("no buffer")


# What get_buffer() returns, and what the peer does then.
BUFFERED_READS = {
    "data": (lambda protocol: bytearray(8), lambda peer: peer.send(b"data")),
    "the end": (lambda protocol: bytearray(8), lambda peer: peer.close()),
    "closed meanwhile": (lambda protocol: protocol.transport.abort() or bytearray(8), lambda peer: peer.send(b"data")),
    "no buffer": (refuse, lambda peer: peer.send(b"data")),
    "an empty buffer": (lambda protocol: b"", lambda peer: peer.send(b"data")),
    "a buffer without a length": (lambda protocol: None, lambda peer: peer.send(b"data")),
    "a read-only buffer": (lambda protocol: b"12345678", lambda peer: peer.send(b"data")),
    "a failing update": (lambda protocol: memoryview(bytearray(3)), lambda peer: peer.send(b"data")),
}


@pytest.mark.zloop_only  # in asyncio the context is the reader handle's
@pytest.mark.parametrize("case", BUFFERED_READS)
def test_a_buffered_read_is_one_callback_however_it_ends(loop, run, unhandled, case):
    """get_buffer() and buffer_updated() share a context, which is in use no more when the read is over."""
    offer, act = BUFFERED_READS[case]

    class Offering(asyncio.BufferedProtocol):
        called = False
        updates = ()

        def connection_made(self, transport):
            self.transport = transport

        def get_buffer(self, _sizehint):
            self.called = True
            self.token = MARK.set("lent")
            return offer(self)

        def buffer_updated(self, nbytes):
            self.updates += (MARK.get(),)
            MARK.reset(self.token)
            self.updates += (MARK.get(),)
            if nbytes == 3:
                raise LookupError("no update")

    async def scenario():
        with socket_pair() as (ours, theirs):
            transport, protocol = await loop.create_connection(Offering, sock=ours)
            context = transport._context
            act(theirs)
            await until(lambda: protocol.called)
            await several_turns()
            context.run(lambda: None)  # RuntimeError while it is in use
            transport.abort()
            await several_turns()
        return protocol.updates

    assert run(scenario()) in ((), ("lent", "unset"))
    assert bool(unhandled) == (case not in ("data", "the end", "closed meanwhile"))
    unhandled.clear()


class Remembering(asyncio.Protocol):
    """Sets MARK to whatever it receives, and writes down what MARK was, in each of its callbacks."""

    def __init__(self):
        self.seen = []

    def connection_made(self, transport):
        self.transport = transport
        self.seen.append(MARK.get())

    def data_received(self, data):
        self.seen.append(MARK.get())
        if data == b"close":
            MARK.set("closed")
            self.transport.close()
        elif data != b"look":
            MARK.set(data.decode())

    def connection_lost(self, _exc):
        self.seen.append(MARK.get())


@contextlib.asynccontextmanager
async def remembering_server(loop, count, made=Remembering):
    """A server's protocols, and the sockets of their clients, one for each."""
    protocols = []

    def factory():
        protocols.append(made())
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(count):
            clients.append(stack.enter_context(socket.create_connection(server.sockets[0].getsockname())))
            await until(lambda number=number: len(protocols) > number and protocols[number].seen)
        yield server, protocols, clients
        server.close()
    await until(lambda: all(protocol.transport.is_closing() for protocol in protocols))
    await several_turns()


async def tell(client, protocol, text):
    """Send the text, and wait until it has come."""
    before = len(protocol.seen)
    client.send(text)
    await until(lambda: len(protocol.seen) > before)


@pytest.mark.zloop_only  # asyncio gives data_received() a context of its own, but for CPython 3.15
def test_a_connection_keeps_what_it_sets_to_itself(loop, run):
    async def scenario():
        MARK.set("server")
        async with remembering_server(loop, 3) as (_, protocols, clients):
            for text in (b"one", b"look", b"two"):
                await tell(clients[0], protocols[0], text)
                await tell(clients[1], protocols[1], b"look")
            await tell(clients[2], protocols[2], b"close")
        return [protocol.seen for protocol in protocols]

    assert run(scenario()) == [
        ["server", "server", "one", "one", "two"],
        ["server", "server", "server", "server", "server"],
        ["server", "server", "closed"],
    ]


@pytest.mark.zloop_only  # as above
@pytest.mark.parametrize("where", ["__init__", "connection_made"])
def test_what_a_connection_sets_in_the_beginning_is_there_later(loop, run, where):
    class Setting(Remembering):
        def __init__(self):
            super().__init__()
            if where == "__init__":
                MARK.set("set")

        def connection_made(self, transport):
            super().connection_made(transport)
            if where == "connection_made":
                MARK.set("set")

    async def scenario():
        async with remembering_server(loop, 2, Setting) as (_, protocols, clients):
            for _ in range(2):
                for client, protocol in zip(clients, protocols, strict=True):
                    await tell(client, protocol, b"look")
        return [protocol.seen[1:] for protocol in protocols]

    assert run(scenario()) == [["set", "set", "set"]] * 2


@pytest.mark.zloop_only  # as above
def test_a_connections_context_is_the_one_that_it_was_asked_for(loop, run):
    async def scenario():
        async with remembering_server(loop, 2) as (_, protocols, clients):
            contexts = [protocol.transport._context for protocol in protocols]
            contexts[0].run(MARK.set, "from outside")
            for client, protocol in zip(clients, protocols, strict=True):
                await tell(client, protocol, b"look")
            assert [protocol.transport._context for protocol in protocols] == contexts
            assert contexts[0] is not contexts[1]
            await tell(clients[1], protocols[1], b"mine")
            assert contexts[1][MARK] == "mine"
        return [protocol.seen for protocol in protocols]

    assert run(scenario()) == [["unset", "from outside", "from outside"], ["unset", "unset", "unset", "mine"]]


@pytest.mark.zloop_only  # as above
def test_a_context_kept_from_inside_data_received_is_not_another_connections(loop, run):
    kept = []

    class Keeping(Remembering):
        def data_received(self, data):
            super().data_received(data)
            kept.append(self.transport._context)

    async def scenario():
        async with remembering_server(loop, 2, Keeping) as (_, protocols, clients):
            await tell(clients[0], protocols[0], b"look")
            kept[0].run(MARK.set, "changed")
            await tell(clients[1], protocols[1], b"look")
            await tell(clients[0], protocols[0], b"look")
        return [protocol.seen[1:] for protocol in protocols]

    assert run(scenario()) == [["unset", "changed", "changed"], ["unset", "unset"]]


def test_a_server_and_its_connections_hold_no_variables_value_when_they_are_gone(loop, run):
    async def scenario():
        value = Value()
        reference = weakref.ref(value)
        MARK.set(value)
        async with remembering_server(loop, 2) as (server, protocols, clients):
            del value
            MARK.set("other")
            for client, protocol in zip(clients, protocols, strict=True):
                await tell(client, protocol, b"look")
        del server, protocols, protocol
        await asyncio.sleep(0.01)
        gc.collect()
        return reference()

    assert run(scenario()) is None
