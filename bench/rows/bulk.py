"""Much at a time: large writes in one direction, many small ones in a turn, files."""

from __future__ import annotations

import asyncio
import tempfile

from rows.declare import KIB, Place, run_behind, server

CHUNK = bytes(64 * KIB)
REQUEST_SIZE = 64
SMALL = bytes(32)
SMALL_WRITES = 64
FILE_SIZE = 256 * KIB


class Sink(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        pass


class BufferedSink(asyncio.BufferedProtocol):
    buffer = bytearray(256 * KIB)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        pass


class Source(asyncio.Protocol):
    """Writes chunks until the transport has enough of them."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.paused = False
        asyncio.get_running_loop().call_soon(self.fill)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.fill()

    def fill(self) -> None:
        # Some at a time: where the kernel takes all that is written, nothing would ever pause this.
        for _ in range(16):
            if self.paused or self.transport.is_closing():
                return
            self.transport.write(CHUNK)
        asyncio.get_running_loop().call_soon(self.fill)


class Answering(asyncio.Protocol):
    """Answers each request of REQUEST_SIZE bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.received = 0

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        while self.received >= REQUEST_SIZE:
            self.received -= REQUEST_SIZE
            self.answer()

    def answer(self) -> None:
        raise NotImplementedError


class ManyWrites(Answering):
    def answer(self) -> None:
        for _ in range(SMALL_WRITES):
            self.transport.write(SMALL)


class WriteLines(Answering):
    lines = (SMALL,) * SMALL_WRITES

    def answer(self) -> None:
        self.transport.writelines(self.lines)


async def serve_sink(place: Place) -> object:
    return await place.serve(Sink)


async def serve_buffered_sink(place: Place) -> object:
    return await place.serve(BufferedSink)


async def serve_stream_sink(place: Place) -> object:
    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(256 * KIB):
            pass
        writer.close()

    return await place.start(drop)


async def serve_source(place: Place) -> object:
    return await place.serve(Source)


async def serve_stream_source(place: Place) -> object:
    async def fill(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(CHUNK)
            await writer.drain()

    return await place.start(fill)


async def serve_many_writes(place: Place) -> object:
    return await place.serve(ManyWrites)


async def serve_writelines(place: Place) -> object:
    return await place.serve(WriteLines)


async def serve_file(place: Place) -> object:
    loop = asyncio.get_running_loop()
    file = tempfile.TemporaryFile()  # noqa: SIM115  (open for as long as this serves)
    file.truncate(FILE_SIZE)

    class SendFile(Answering):
        def answer(self) -> None:
            # One request at a time: the client waits for the answer.
            self.sending = run_behind(loop.sendfile(self.transport, file, 0, FILE_SIZE))

    return await place.serve(SendFile)


IN = {"topic": "bulk", "load": "send --connections 1", "limit": "sink"}
OUT = {"topic": "bulk", "load": "receive --connections 1", "limit": "source"}
ANSWER_SIZE = SMALL_WRITES * len(SMALL)
ANSWER = {
    "topic": "bulk",
    "load": f"answer --size {REQUEST_SIZE} --answer {ANSWER_SIZE}",
    "limit": f"answer --size {REQUEST_SIZE} --answer {ANSWER_SIZE}",
}
FILE = {
    "topic": "bulk",
    "load": f"answer --connections 1 --size {REQUEST_SIZE} --answer {FILE_SIZE}",
    "limit": f"file --size {REQUEST_SIZE} --answer {FILE_SIZE}",
}

server("bulk-in-protocol", "64 KiB received, one connection, Protocol", serve_sink, **IN)
server("bulk-in-buffered", "64 KiB received, one connection, BufferedProtocol", serve_buffered_sink, **IN)
server("bulk-in-streams", "64 KiB received, one connection, streams", serve_stream_sink, **IN)
server("bulk-out-protocol", "64 KiB written, one connection, Protocol", serve_source, **OUT)
server("bulk-out-streams", "64 KiB written, one connection, streams", serve_stream_source, **OUT)
server("small-writes", f"{SMALL_WRITES} writes of 32 bytes in a turn", serve_many_writes, **ANSWER)
server("writelines", f"writelines() of {SMALL_WRITES} times 32 bytes", serve_writelines, **ANSWER)
server("sendfile", "sendfile() of 256 KiB", serve_file, **FILE)
