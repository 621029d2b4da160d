"""A state machine that drives asyncio's streams: reads of every kind against writes of every size, byte by byte."""

import asyncio
import contextlib
import os
import time

from connections import CONNECTION_KINDS, KINDS, SIZES
from ends import Stream
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from loops import contexts
from machines import LIMIT, OneLoop

READS = st.one_of(
    st.tuples(st.just("read"), st.sampled_from([1, 100, 5000, 100_000])),
    st.tuples(st.just("readexactly"), st.sampled_from([1, 100, 5000, 100_000])),
    st.tuples(st.just("readuntil"), st.sampled_from([b"\n", b"\x00", b"ab"])),
)
LIMITS = st.sampled_from([64, 1000, 65_536])
"""Of a reader's buffer, in bytes: it stops the transport above twice as many."""


class StreamEnd:
    """A reader and a writer, and a task that reads."""

    def __init__(self, sends, receives):
        self.sends = sends
        self.receives = receives
        self.reader = self.writer = self.reading = None
        self.ended = False

    def write(self, size, kind):
        data = self.sends.next(size)
        if kind == "lines":
            self.writer.writelines([data[: size // 2], bytearray(data[size // 2 :])])
        elif kind in {"view", "view of bytes"}:
            self.writer.write(memoryview(data))
        else:
            changing = bytearray(data)
            self.writer.write(changing if kind == "bytearray" else data)
            changing[:] = bytes(size)
        self.sends.written += size

    def take(self, data):
        problem = self.receives.take(bytes(data))
        assert not problem, problem

    async def read(self, how, argument):
        """One read; what it returns, or leaves in the buffer, is the stream's next bytes."""
        try:
            data = await getattr(self.reader, how)(argument)
        except asyncio.IncompleteReadError as error:
            data, self.ended = error.partial, True
        except asyncio.LimitOverrunError as error:
            data = await self.reader.readexactly(error.consumed)
        else:
            if how == "read":
                assert len(data) <= argument
                self.ended = not data
            elif how == "readexactly":
                assert len(data) == argument
            else:
                assert data.endswith(argument)
                assert data.count(argument) == 1
        self.take(data)

    async def finish(self):
        """Write the end, where there is one of a single direction, and read all that is to come."""
        if self.writer.can_write_eof():
            self.writer.write_eof()
            while not self.ended:
                await self.read("read", 65_536)
        while self.receives.received < self.receives.written:
            await self.read("read", 65_536)


class Streams(OneLoop):
    """Pairs of streams on one loop."""

    expected = ()

    def __init__(self):
        super().__init__()
        self.pairs = []

    @precondition(lambda self: len(self.pairs) < 3)
    @rule(kind=st.sampled_from([kind for kind in CONNECTION_KINDS if kind != "pair"]), limits=st.tuples(LIMITS, LIMITS))
    def connect(self, kind, limits):
        async def connect():
            there, back = (Stream(2 * len(self.pairs) + 10 * number) for number in (1, 2))
            client, server = StreamEnd(there, back), StreamEnd(back, there)
            accepted = self.loop.create_future()
            tls = contexts() if kind == "tls" else None

            def accept(*streams):
                accepted.set_result(streams)

            if kind == "unix":
                path = os.path.join(self.folder.name, str(len(self.pairs)))
                listening = await asyncio.start_unix_server(accept, path, limit=limits[0])
                client.reader, client.writer = await asyncio.open_unix_connection(path, limit=limits[1])
            else:
                options = {"ssl": tls.client, "server_hostname": "tls.example"} if tls else {}
                listening = await asyncio.start_server(
                    accept, "127.0.0.1", 0, limit=limits[0], ssl=tls.server if tls else None
                )
                address = listening.sockets[0].getsockname()
                client.reader, client.writer = await asyncio.open_connection(*address, limit=limits[1], **options)
            server.reader, server.writer = await accepted
            listening.close()
            return client, server

        self.pairs.append(self.run(connect()))

    def end_of(self, data):
        pair = data.draw(st.integers(0, len(self.pairs) - 1), "pair")
        return self.pairs[pair][data.draw(st.integers(0, 1), "end")]

    has_connection = precondition(lambda self: self.pairs)

    @has_connection
    @rule(data=st.data(), size=SIZES, kind=KINDS)
    def write(self, data, size, kind):
        self.end_of(data).write(size, kind)

    @has_connection
    @rule(data=st.data(), read=READS, gives_up=st.booleans())
    def read(self, data, read, gives_up):
        """Begin to read, if nothing does; or let that be, after a few turns."""
        end = self.end_of(data)
        if end.reading is not None and not end.reading.done():
            if gives_up and read[0] == "readuntil":
                self.turns(1)
            return
        end.reading = self.loop.create_task(end.read(*read))

    @has_connection
    @rule(data=st.data())
    def cancel_read(self, data):
        """A read that is given up has taken nothing."""
        end = self.end_of(data)
        if end.reading is not None:
            end.reading.cancel()
            self.run(asyncio.wait([end.reading]))
            end.reading = None

    def let_go(self):
        writers = [end.writer for pair in self.pairs for end in pair]
        self.pairs.clear()
        return writers

    def finish(self):
        """Both ends write their end, and read to the other's; all bytes have arrived then."""
        ends = [end for pair in self.pairs for end in pair]
        for end in ends:
            if end.reading is not None:
                end.reading.cancel()
                self.run(asyncio.wait([end.reading]))
                if not end.reading.cancelled():
                    end.reading.result()
        self.loop.run_until_complete(self.read_to_the_end(ends))
        for end in ends:
            assert end.receives.received == end.receives.written
            end.writer.close()
        self.run(self.wait_closed(ends))
        self.turns(3)

    async def read_to_the_end(self, ends):
        """For as long as bytes arrive."""
        tasks = [asyncio.ensure_future(end.finish()) for end in ends]
        deadline, progress = 0.0, None
        while not all(task.done() for task in tasks):
            if progress != (progress := [end.receives.received for end in ends]):
                deadline = time.monotonic() + LIMIT
            assert time.monotonic() < deadline, [(end.receives.received, end.receives.written) for end in ends]
            await asyncio.wait(tasks, timeout=0.001)
        await asyncio.gather(*tasks)

    async def wait_closed(self, ends):
        for end in ends:
            with contextlib.suppress(ConnectionError):  # the other end was faster
                await end.writer.wait_closed()
