"""A state machine that drives connections of every kind through random interleavings of what a program may do."""

import asyncio
import contextlib
import gc
import os
import socket
import sys
import tempfile
import threading
import time
import traceback
import warnings

from ends import LEAVING, PLANNED, BufferedProtocol, End, PlainProtocol, Stream
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from loops import FAULT, KIND, contexts, new_loop
from machines import LIMIT, OneLoop

SIZES = st.sampled_from([0, 1, 2, 100, 1000, 5000, 16_384, 70_000, 400_000])
KINDS = st.sampled_from(["bytes", "bytearray", "view", "view of bytes", "lines"])
CONNECTION_KINDS = ["tcp", "unix", "pair"]
if KIND == "zloop":  # asyncio's TLS gives a small buffer other bytes than were sent
    CONNECTION_KINDS.append("tls")
BUFFERS = st.sampled_from([None, 50, 5000, 65_536])
ACTIONS = ["write", "close", "abort", "pause", "resume", "write_eof", "protocol", "collect", "limits", "get_info"]
CONNECTIONS = 4
CHILDREN = 2
"""At the same time, at most."""


class Connections(OneLoop):
    """Connections of one loop, both of whose ends are in its hands."""

    expected = (*PLANNED, ConnectionError)

    def __init__(self):
        super().__init__()
        self.pairs = []
        self.servers = {}
        self.server_ends = []
        self.streams = 0
        self.calls = 0
        self.children = []
        self.leaving = 0
        """Exceptions that are to end a run, and have not done so yet."""
        self.threads = set(threading.enumerate())  # also of a program before, which is about to end

    def handle(self, loop, context):
        if str(context.get("exception")) == "Invalid state: reading should be paused":
            return  # of the protocol of sendfile()'s fallback, which asyncio's TLS tells of the end, too
        super().handle(loop, context)

    # ---- running

    def run(self, coroutine):
        """Run a coroutine to its end, however often a callback ends the run of the loop."""
        task = self.loop.create_task(asyncio.wait_for(coroutine, LIMIT))
        while True:
            try:
                return self.loop.run_until_complete(task)
            except LEAVING:
                self.leave()

    def leave(self):
        self.leaving -= 1
        assert not self.loop.is_running()

    # ---- connections

    def new_ends(self):
        there, back = Stream(self.streams), Stream(self.streams + 1)
        name = f"connection {self.streams // 2}"
        self.streams += 2
        return End(self, f"{name}, client", there, back), End(self, f"{name}, server", back, there)

    def protocol(self, end, buffer):
        return PlainProtocol(end) if buffer is None else BufferedProtocol(end, buffer)

    async def serve(self, kind):
        """The server for a kind of connections, made with its first; it takes the ends that are put into its list."""
        if kind not in self.servers:
            expected = []

            def factory():
                return self.protocol(*expected.pop(0))

            if kind == "unix":
                server = await self.loop.create_unix_server(factory, os.path.join(self.folder.name, "socket"))
            else:
                tls = contexts().server if kind == "tls" else None
                server = await self.loop.create_server(factory, "127.0.0.1", 0, ssl=tls)
            self.servers[kind] = server, expected
        return self.servers[kind]

    @precondition(lambda self: len(self.pairs) < CONNECTIONS)
    @rule(kind=st.sampled_from(CONNECTION_KINDS), buffers=st.tuples(BUFFERS, BUFFERS), narrow=st.booleans())
    def connect(self, kind, buffers, narrow):
        """A connection; through a narrow one the kernel takes large writes in many pieces."""

        async def connect():
            client, server = self.new_ends()
            if FAULT == "leaks descriptors":
                os.dup(0)
            if kind == "pair":
                first, second = socket.socketpair()
                first.setblocking(False)
                second.setblocking(False)
                await self.loop.connect_accepted_socket(lambda: self.protocol(server, buffers[1]), second)
                await self.loop.create_unix_connection(lambda: self.protocol(client, buffers[0]), sock=first)
            else:
                listening, expected = await self.serve(kind)
                expected.append((server, buffers[1]))
                address = listening.sockets[0].getsockname()
                factory = lambda: self.protocol(client, buffers[0])  # noqa: E731
                if kind == "unix":
                    await self.loop.create_unix_connection(factory, address)
                else:
                    tls = {"ssl": contexts().client, "server_hostname": "tls.example"} if kind == "tls" else {}
                    await self.loop.create_connection(factory, *address, **tls)
                while server.transport is None:
                    await asyncio.sleep(0)
            # asyncio sends what a buffer holds by then, and not what was written.
            for end in (client, server) if narrow and KIND == "zloop" else ():
                end.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            return client, server

        self.pairs.append(self.run(connect()))

    @rule(turns=st.integers(0, 3))
    def connect_and_give_up(self, turns):
        """An attempt that is cancelled on the way."""

        async def connect():
            client, server = self.new_ends()
            listening, expected = await self.serve("tcp")
            expected.append((server, None))
            self.server_ends.append(server)
            server.broken = client.broken = True
            address = listening.sockets[0].getsockname()
            attempt = asyncio.ensure_future(self.loop.create_connection(lambda: self.protocol(client, None), *address))
            for _ in range(turns):
                await asyncio.sleep(0)
            attempt.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                transport, _ = await attempt
                transport.abort()
            for _ in range(20):
                await asyncio.sleep(0)
            if server.transport is None and (server, None) in expected:
                expected.remove((server, None))

        self.run(connect())

    # ---- what is done to an end

    def act(self, end, action, size=1000):
        """Do something to an end; also from inside of its callbacks."""
        self.calls += 1
        if end.sending is not None and action in {"pause", "resume", "protocol", "write_eof"}:
            return  # sendfile()'s fallback has a protocol of its own on the transport
        getattr(self, f"do_{action}")(end, size)

    def do_write(self, end, size):
        end.write(size, "bytes")

    def do_close(self, end, _size):
        end.closed = True
        end.transport.close()

    def do_abort(self, end, _size):
        end.closed = end.broken = True
        end.transport.abort()

    def do_pause(self, end, _size):
        end.transport.pause_reading()

    def do_resume(self, end, _size):
        end.resumed = True
        end.transport.resume_reading()

    def do_write_eof(self, end, _size):
        if end.transport.can_write_eof():
            end.eof_written = True
            end.transport.write_eof()

    def do_protocol(self, end, _size):
        self.change_protocol(end)

    def do_collect(self, _end, _size):
        gc.collect()

    def do_limits(self, end, _size):
        end.transport.set_write_buffer_limits(high=self.calls * 1000 % 100_000)

    def do_get_info(self, end, _size):
        end.transport.get_extra_info("socket")
        end.transport.get_write_buffer_size()
        repr(end.transport)

    def do_nothing(self, _end, _size):
        pass

    def change_protocol(self, end, buffer=None):
        if end.state != "made" or end.sending is not None:
            return
        protocol = end.transport.get_protocol()
        if buffer is None:
            buffer = 1000 if isinstance(protocol, PlainProtocol) else None
        end.transport.set_protocol(self.protocol(end, buffer))

    def end_of(self, data):
        pair = data.draw(st.integers(0, len(self.pairs) - 1), "pair")
        return self.pairs[pair][data.draw(st.integers(0, 1), "end")]

    has_connection = precondition(lambda self: self.pairs)

    @has_connection
    @rule(data=st.data(), size=SIZES, kind=KINDS)
    def write(self, data, size, kind):
        self.end_of(data).write(size, kind)

    @has_connection
    @rule(data=st.data(), action=st.sampled_from(ACTIONS))
    def call(self, data, action):
        end = self.end_of(data)
        try:
            self.act(end, action)
        except LEAVING:  # TLS passes on what has come when it is closed, as asyncio's does
            self.leave()

    @has_connection
    @rule(data=st.data(), plan=st.lists(st.sampled_from([*ACTIONS, "nothing"]), max_size=4))
    def plan(self, data, plan):
        """What an end does in its next callbacks."""
        self.end_of(data).plan = plan

    @has_connection
    @rule(
        data=st.data(),
        callbacks=st.dictionaries(
            st.sampled_from(["data_received", "eof_received", "connection_lost", "resume_writing"]),
            st.sampled_from([*PLANNED, *LEAVING]),
        ),
        when_paused=st.sampled_from([None, *PLANNED]),
    )
    def raise_in(self, data, callbacks, when_paused):
        """Those that a write calls itself do not end a run: that would leave open whether it has written."""
        self.end_of(data).faulty = callbacks | ({} if when_paused is None else {"pause_writing": when_paused})

    @has_connection
    @rule(data=st.data(), keeps=st.booleans())
    def keep_open(self, data, keeps):
        self.end_of(data).keeps_open = keeps

    @has_connection
    @rule(data=st.data(), buffer=BUFFERS)
    def change(self, data, buffer):
        self.change_protocol(self.end_of(data), buffer)

    @has_connection
    @rule(data=st.data(), offset=st.sampled_from([0, 10]), size=SIZES, fallback=st.booleans())
    def sendfile(self, data, offset, size, fallback):
        """Send the stream's next bytes from a file."""
        pair = self.pairs[data.draw(st.integers(0, len(self.pairs) - 1), "pair")]
        end = pair[data.draw(st.integers(0, 1), "end")]
        # Not both at a time: sendfile() does not read, so they may wait for one another for ever, with asyncio as well.
        if not end.is_sound() or any(each.sending is not None for each in pair) or size == 0:
            return
        self.act(end, "resume")
        file = tempfile.TemporaryFile()  # noqa: SIM115  # send() closes it
        file.write(bytes(offset) + end.sends.next(size) + b"behind the end")
        file.flush()
        end.sends.written += size

        async def send():
            try:
                with file:
                    sent = await self.loop.sendfile(
                        end.transport, file, offset, size, fallback=fallback or end.layers > 0
                    )
            except (OSError, RuntimeError, NotImplementedError):  # the connection has ended; or no file goes over TLS
                end.broken = True
                end.transport.abort()
            else:
                if sent != size:
                    end.report(f"sendfile() has sent {sent} of {size}")
                if end.is_sound():
                    end.sends.promised = end.sends.written
            end.sending = None

        end.sending = self.loop.create_task(send())

    @has_connection
    @rule(data=st.data())
    def start_tls(self, data):
        """Wrap a connection in TLS, or in one more layer of it, once all has arrived that was written."""
        client, server = pair = self.pairs[data.draw(st.integers(0, len(self.pairs) - 1), "pair")]
        if KIND != "zloop" or client.layers > 1 or not all(end.is_sound() and end.sending is None for end in pair):
            return
        for end in pair:
            end.plan.clear()
            self.act(end, "resume")
        self.run_until(lambda: self.is_settled(pair))
        if not all(end.is_sound() for end in pair):
            return

        async def upgrade():
            client.transport, server.transport = await asyncio.gather(
                *(
                    self.loop.start_tls(end.transport, end.transport.get_protocol(), context, **options)
                    for end, context, options in (
                        (client, contexts().client, {"server_hostname": "tls.example"}),
                        (server, contexts().server, {"server_side": True}),
                    )
                )
            )

        self.run(upgrade())
        client.layers += 1
        server.layers += 1

    def turn(self):
        stops = []

        def stop():
            stops.append(True)
            self.loop.stop()

        self.loop.call_soon(stop)
        while not stops:
            try:
                self.loop.run_forever()
            except LEAVING:
                self.leave()

    @rule(count=st.integers(1, 3))
    def from_a_thread(self, count):
        """Callbacks of another thread arrive, in order."""
        arrived = []

        def schedule():
            for number in range(count):
                self.loop.call_soon_threadsafe(arrived.append, number)

        thread = threading.Thread(target=schedule)
        thread.start()
        deadline = time.monotonic() + LIMIT
        while len(arrived) < count and time.monotonic() < deadline:
            self.run(asyncio.sleep(0))
        thread.join()
        assert arrived == list(range(count))

    @precondition(lambda self: len(self.children) < CHILDREN)
    @rule(inside=st.booleans(), what=st.sampled_from(["use", "drop", "close"]))
    def fork(self, inside, what):
        """A child that has its own loop, and perhaps gives up what it has inherited; meanwhile, the parent goes on.

        An inherited loop that runs cannot be closed. asyncio's takes descriptors out of the parent's poll set.
        """
        if what == "close" and (inside or KIND != "zloop"):
            what = "use"

        async def fork():
            self.children.append(self.start_child(what))

        if inside:
            self.run(fork())
        else:
            self.children.append(self.start_child(what))

    def start_child(self, what):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which an executor may have
            pid = os.fork()
        if pid > 0:
            return pid
        status = 1
        try:
            warnings.simplefilter("ignore", ResourceWarning)  # of what it drops
            sys.unraisablehook = lambda _error: None  # of coroutines that it drops
            if what == "close":
                self.loop.close()
            if what != "use":
                self.pairs.clear()
                self.servers.clear()
                gc.unfreeze()
                gc.collect()
            use_own_loop()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def reap(self):
        deadline = time.monotonic() + LIMIT
        for pid in self.children:
            while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.001)
            assert ended == (pid, 0)
        self.children.clear()

    # ---- the end

    def teardown(self):
        try:
            super().teardown()
        finally:
            self.reap()
        if sys.exception() is not None:
            return
        # loop.close() tells the executor's threads to end, and does not wait for them.
        deadline = time.monotonic() + LIMIT
        while set(threading.enumerate()) - self.threads and time.monotonic() < deadline:
            time.sleep(0)
        assert set(threading.enumerate()) - self.threads == set()

    def let_go(self):
        transports = [end.transport for pair in self.pairs for end in pair if end.transport is not None]
        self.pairs.clear()
        self.server_ends.clear()
        self.servers.clear()
        return transports

    def finish(self):
        """Let everything that is promised arrive, then end all connections."""
        ends = [end for pair in self.pairs for end in pair]
        for end in ends:
            end.faulty.clear()
            end.plan.clear()
            self.act(end, "resume")
        self.run_until(lambda: all(self.is_settled(pair) for pair in self.pairs))
        self.run_until(lambda: all(end.sending is None for end in ends))
        for end in ends:
            end.closed = True
            end.transport.close()
        self.run_until(lambda: all(end.state == "lost" for end in ends))
        for server, expected in self.servers.values():
            assert expected == []
            server.close()
        for end in self.server_ends:
            if end.transport is not None:
                end.transport.abort()
        self.run_until(lambda: all(end.state in {"lost", "new"} for end in self.server_ends))
        assert self.leaving == 0
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    def run_until(self, condition):
        super().run_until(condition, lambda: [end.receives.received for pair in self.pairs for end in pair])

    def is_settled(self, pair):
        """Whether both directions have come as far as they will."""
        return all(self.has_arrived(sender, receiver) for sender, receiver in (pair, pair[::-1]))

    def has_arrived(self, sender, receiver):
        """Whether all that is promised is there; not owed once an end has gone otherwise than by an orderly end."""
        if sender.broken or receiver.broken or sender.state == "lost" or receiver.state == "lost":
            return True
        if sender.closed or receiver.closed:
            return False  # connection_lost() is to come
        return receiver.receives.received >= sender.sends.promised

    def describe(self):
        return "; ".join(
            f"{end!r} is {end.state}, closed={end.closed}, broken={end.broken}, {end.sends.promised} promised, "
            f"{end.receives.received} received, {end.transport!r}"
            for pair in self.pairs
            for end in pair
        )


def use_own_loop():
    """Pass bytes through a loop that is made for it."""
    loop = new_loop()

    async def use():
        left, right = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=left)
        with right:
            right.setblocking(False)
            await loop.sock_sendall(right, b"data")
            assert await reader.readexactly(4) == b"data"
            writer.write(b"back")
            assert await loop.sock_recv(right, 10) == b"back"
            heard = asyncio.Event()
            loop.call_soon_threadsafe(heard.set)
            await heard.wait()
            writer.close()
            await writer.wait_closed()

    try:
        loop.run_until_complete(asyncio.wait_for(use(), LIMIT))
    finally:
        loop.close()
