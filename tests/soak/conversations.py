"""Connections with both ends on the loop: TCP, TLS and Unix; each end sends a stream of its own and checks the other's.

Most are short; of those at a time a tenth lasts. Ends stop reading for a while, write in every way, and are of both
kinds of protocols. A conversation ends by a half-close and an answer, by close() once all is said, or by a reset;
another takes its place.
"""

import asyncio
import contextlib
import itertools
import os
import socket
import ssl
import struct
import tempfile
import time

import keyed
import trustme

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
NAME = "soak.example"
KINDS = ("tcp", "tcp", "tls", "unix")
ENDINGS = ("half-close", "close", "close", "reset")
CONNECTING_AT_ONCE = 20
SLICE = 40
"""Bursts between two pauses of the driver."""
RESETTING = struct.pack("ii", 1, 0)
"""SO_LINGER's value for a close that sends RST."""
LASTING = 10_000
"""Bursts of a conversation that lasts."""
LASTING_SHARE = 0.1
"""Of the conversations at a time: with more of them, an hour's soak would come to have no others."""
HEADER = 8
NAMED_FROM = 1 << 18
"""Where bytes are wrong, this much of each other stream is looked through for them, and so often."""
MOST_NAMED = 5


async def run(world):
    topic = Conversations(world)
    async with topic.serving():
        filling = asyncio.ensure_future(topic.fill())
        await topic.drive()
        await filling
        await topic.finish()


class Conversations:
    """All of them, and the servers that they are with."""

    def __init__(self, world):
        self.world = world
        self.random = world.random("conversations")
        self.live = {}
        self.lasting = 0
        self.keys = itertools.count(self.random.getrandbits(30) << 16)
        self.addresses = {}
        self.authority = trustme.CA()
        self.client_context = ssl.create_default_context()
        self.authority.configure_trust(self.client_context)
        self.connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)

    @contextlib.asynccontextmanager
    async def serving(self):
        loop = self.world.loop
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(NAME).configure_cert(context)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "socket")
            servers = {
                "tcp": await loop.create_server(self.accepted, HOSTS, 0, backlog=1000),
                "tls": await loop.create_server(self.accepted, HOSTS, 0, backlog=1000, ssl=context),
                "unix": await loop.create_unix_server(self.accepted, path, backlog=1000),
            }
            self.addresses = {
                kind: [path] if kind == "unix" else [sock.getsockname() for sock in server.sockets]
                for kind, server in servers.items()
            }
            yield
            for server in servers.values():
                server.close()
                await server.wait_closed()

    def accepted(self):
        """A protocol for a connection that a server has accepted; its first bytes say which conversation it is."""
        return self.random.choice(PROTOCOLS)(self)

    async def fill(self):
        """Keep up the number of conversations."""
        tasks = set()
        while not self.world.stopping.is_set():
            for _ in range(min(self.world.connections - len(self.live) - len(tasks), CONNECTING_AT_ONCE)):
                task = asyncio.ensure_future(self.begin())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await self.world.pause(0.02)
        if tasks:
            await asyncio.wait(tasks)

    async def begin(self):
        kind = self.random.choice(KINDS)
        address = self.random.choice(self.addresses[kind])
        conversation = Conversation(self, next(self.keys), kind)
        try:
            async with self.connecting, asyncio.timeout(self.world.patience):
                if kind == "unix":
                    await self.world.loop.create_unix_connection(lambda: conversation.client, address)
                else:
                    context = {"ssl": self.client_context, "server_hostname": NAME} if kind == "tls" else {}
                    await self.world.loop.create_connection(lambda: conversation.client, *address, **context)
        except Exception as error:
            self.world.complain(f"a connection ({kind}) was not made: {error!r}")
            self.forget(conversation)

    def forget(self, conversation):
        if self.live.pop(conversation.key, None) is not None:
            self.lasting -= conversation.lasts

    async def drive(self):
        """Let ends speak, at random. The loop rests as long as it has worked: lag is not to be the load's."""
        while not self.world.stopping.is_set():
            began = time.perf_counter()
            for conversation in self.random.choices(list(self.live.values()) or [None], k=SLICE):
                if conversation is not None:
                    conversation.go_on()
            await asyncio.sleep(0)
            await asyncio.sleep(time.perf_counter() - began)

    async def finish(self):
        """End all that are left, and wait for it."""
        for conversation in list(self.live.values()):
            conversation.end()
        deadline = self.world.loop.time() + self.world.patience
        while self.live and self.world.loop.time() < deadline:
            await asyncio.sleep(0.01)
        for conversation in list(self.live.values()):
            self.world.complain(f"{conversation} did not end")
            conversation.cut()

    def suspects(self):
        """All streams, as (key, length); none any more once some faults have been named, which takes time."""
        if self.world.counts["named"] >= MOST_NAMED:
            return
        self.world.counts["named"] += 1
        for conversation in self.live.values():
            for end in (conversation.client, conversation.server):
                if end is not None:
                    yield end.key, min(end.sent, NAMED_FROM)


class Conversation:
    """Two ends, and how far they are."""

    def __init__(self, topic, key, kind):
        self.topic, self.key, self.kind = topic, key, kind
        random = topic.random
        self.lasts = topic.lasting < LASTING_SHARE * topic.world.connections and random.random() < LASTING_SHARE
        topic.lasting += self.lasts
        self.bursts = LASTING if self.lasts else random.randrange(1, 40)
        self.client = random.choice(PROTOCOLS)(topic)
        self.client.join(self, 2 * key)
        self.server = None
        self.ending = None
        self.lost = 0
        topic.live[key] = self

    def __repr__(self):
        return f"conversation {self.key} ({self.kind}, {self.ending or 'going on'})"

    @property
    def ends(self):
        return (self.client, self.server)

    def go_on(self):
        """One of the ends does something."""
        if self.server is None or self.ending is not None:
            return
        random = self.topic.random
        self.bursts -= 1
        if self.bursts < 0:
            self.end()
        elif random.random() < 0.02:
            random.choice(self.ends).rest(random.uniform(0, 1))
        else:
            random.choice(self.ends).burst()

    def end(self):
        """Nobody says more: end, in the one way or the other."""
        if self.ending is not None:
            return
        random = self.topic.random
        self.ending = random.choice(ENDINGS)
        if self.server is None:  # has not been accepted yet, or its first bytes have not arrived
            self.ending = "reset"
        if self.ending == "reset":
            random.choice([end for end in self.ends if end is not None and end.transport is not None]).reset()
            return
        if self.ending == "half-close" and self.client.transport.can_write_eof():
            self.client.transport.write_eof()
        self.close_if_all_is_said()

    def cut(self):
        """End both ends at once: one that has been told of the end reads no more."""
        for end in self.ends:
            if end is not None and end.transport is not None:
                end.transport.abort()

    def close_if_all_is_said(self):
        """The server closes, when nothing is on its way to it: unread bytes would make a reset of it."""
        if self.ending in ("half-close", "close") and self.server.received == self.client.sent:
            self.server.transport.close()

    def end_lost(self, end, error):
        """An end has lost its connection."""
        world = self.topic.world
        self.lost += 1
        if self.ending is None:
            world.complain(f"{self} was lost: {error!r}")
            self.ending = "lost"
        if self.ending in ("half-close", "close"):
            other = self.server if end is self.client else self.client
            if error is not None:
                world.complain(f"{self} ended with {error!r}")
            if end.received != other.sent:
                world.complain(f"{self}: {end.received} of {other.sent} bytes had arrived when it ended")
        elif not (error is None or isinstance(error, OSError)):
            world.complain(f"{self} ended with {error!r}")
        if self.lost == len([one for one in self.ends if one is not None]):
            self.topic.forget(self)
            world.counts[f"{self.kind} conversations"] += 1
            world.counts["bytes"] += sum(one.received for one in self.ends if one is not None)


class End:
    """What both kinds of protocols have."""

    def __init__(self, topic):
        self.topic = topic
        self.conversation = None
        self.transport = None
        self.key = None
        self.sent = self.received = 0
        self.header = b""
        self.may_write = True

    def join(self, conversation, key):
        self.conversation, self.key = conversation, key

    def connection_made(self, transport):
        self.transport = transport
        if self.conversation is not None:
            transport.write(self.conversation.key.to_bytes(HEADER, "big"))
            if "leaks a descriptor" in self.topic.world.faults:
                self.topic.world.kept.append(os.dup(0))

    def take(self, data):
        """Bytes have arrived: which conversation's, at first, then the other end's stream."""
        if self.conversation is None:
            wanted = HEADER - len(self.header)
            self.header += bytes(data[:wanted])
            data = data[wanted:]
            if len(self.header) < HEADER:
                return
            conversation = self.topic.live.get(int.from_bytes(self.header, "big"))
            if conversation is None or conversation.server is not None:
                # One that has been reset before it was accepted may be gone; then nothing follows.
                self.transport.abort()
                return
            self.join(conversation, 2 * conversation.key + 1)
            conversation.server = self
        if len(data):
            self.check(bytes(data))
        self.conversation.close_if_all_is_said()

    def check(self, data):
        world, random = self.topic.world, self.topic.random
        present = [fault for fault in ("loses a byte", "mixes connections") if fault in world.faults]
        # What is lost of fewer bytes nobody would miss, if they are the last.
        if present and len(data) >= keyed.NAMING_LENGTH and random.random() < 0.05:
            other = random.choice(list(self.topic.live.values())).client
            if present[world.counts["named"] % len(present)] == "loses a byte":
                data = data[1:]
            elif other is not self and other.sent >= len(data):
                data = keyed.stream(other.key, 0, len(data))
        try:
            keyed.check(self.key ^ 1, self.received, data, self.topic.suspects())
        except keyed.Mismatch as error:
            world.complain(f"{self.conversation}: {error}")
            self.conversation.ending = "reset"
            self.conversation.cut()
        self.received += len(data)

    def eof_received(self):
        """Stay open after a half-close: the other end waits for the answer. TLS closes all the same."""
        answers = self.conversation is not None and self is self.conversation.server
        return answers and self.conversation.ending == "half-close" and self.conversation.kind != "tls"

    def connection_lost(self, exc):
        if self.conversation is not None:
            self.conversation.end_lost(self, exc)

    def pause_writing(self):
        self.may_write = False

    def resume_writing(self):
        self.may_write = True

    def burst(self):
        """Say more, unless the other end does not keep up."""
        world, random = self.topic.world, self.topic.random
        if not self.may_write or self.transport.is_closing():
            world.counts["bursts put off"] += 1
            return
        count = random.choice((1, 100, 1000, 5000, random.randrange(1, 200_000) if random.random() < 0.1 else 10))
        data = keyed.stream(self.key, self.sent, count)
        self.sent += count
        how = random.randrange(5)
        if how == 0:
            cut = random.randrange(count + 1)
            lines = [data[:cut], data[cut:]]
            self.transport.writelines([line for line in lines if line] if world.spares_asyncio else lines)
        elif how == 1:
            memory = bytearray(data)
            self.transport.write(memory)
            if not world.spares_asyncio:
                memory[:] = bytes(count)
        elif how == 2:
            self.transport.write(memoryview(data))
        else:
            self.transport.write(data)
        world.counts["bursts"] += 1

    def reset(self):
        """End at once; half of the TCP connections by RST, also where all has been read."""
        if self.conversation.kind == "tcp" and self.topic.random.random() < 0.5:
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETTING)
        self.transport.abort()

    def rest(self, seconds):
        """Read nothing for a while."""
        if self.transport.is_closing():
            return
        self.transport.pause_reading()
        self.topic.world.loop.call_later(seconds, self.read_on)

    def read_on(self):
        if not self.transport.is_closing():
            self.transport.resume_reading()


class Stream(End, asyncio.Protocol):
    def data_received(self, data):
        self.take(data)


class Buffered(End, asyncio.BufferedProtocol):
    def __init__(self, topic):
        super().__init__(topic)
        self.buffer = memoryview(bytearray(topic.random.choice((1000, 16_384, 100_000))))

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.take(self.buffer[:nbytes])


PROTOCOLS = (Stream, Stream, Buffered)
