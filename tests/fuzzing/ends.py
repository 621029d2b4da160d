"""An end of a connection that checks its callbacks: their order, their number, and every byte.

What is written is a stretch of a stream of bytes that no other direction of any connection has. So an end knows what it
has to receive, and a byte that is lost, doubled, out of order or another connection's shows at once.
"""

import asyncio
import random

from loops import FAULT

BLOCK = random.Random(1).randbytes(1 << 16)
"""What the streams of bytes are made of: each begins elsewhere in it, and is XORed with its number."""


class Planned(Exception):
    """Raised by a callback on purpose."""


class PlannedBase(BaseException):
    """The same, of a kind that is no Exception."""


LEAVING = (SystemExit, KeyboardInterrupt)
"""What ends the run of a loop, which goes on when it is run again."""

PLANNED = (Planned, PlannedBase, GeneratorExit)
"""What a callback raises, and the loop reports."""


class Stream:
    """A direction of a connection, and how far it has come."""

    def __init__(self, number):
        self._block = BLOCK.translate(bytes(byte ^ (number * 37 % 256) for byte in range(256)))
        self._start = number * 4099 % len(BLOCK)
        self.written = 0
        """Bytes that may arrive."""
        self.promised = 0
        """Bytes that have to arrive, as long as both ends stay."""
        self.received = 0

    def __repr__(self):
        return f"{self.received} of {self.promised} bytes, at most {self.written}"

    def part(self, begin, size):
        """The stream's bytes from `begin` on."""
        first = (self._start + begin) % len(self._block)
        if first + size <= len(self._block):
            return self._block[first : first + size]
        return (self._block * (2 + size // len(self._block)))[first : first + size]

    def next(self, size):
        """The next bytes to be written."""
        return self.part(self.written, size)

    def take(self, data):
        """Count what has arrived. What is wrong with it, or nothing."""
        begin, self.received = self.received, self.received + len(data)
        if self.received > self.written:
            return f"{self.received} bytes have arrived of {self.written}"
        if data != self.part(begin, len(data)):
            return f"other bytes have arrived than were written, from {begin} on, {len(data)} of them"
        return ""


class FlowControlled:
    """The callbacks of flow control, which take turns. Subclasses have report() and maybe_raise()."""

    writing_paused = False

    def pause_writing(self):
        if self.writing_paused:
            self.report("pause_writing() twice")
        self.writing_paused = True
        self.maybe_raise("pause_writing")

    def resume_writing(self):
        if not self.writing_paused:
            self.report("resume_writing() without pause_writing()")
        self.writing_paused = False
        self.maybe_raise("resume_writing")


class End(FlowControlled):
    """One end of a connection, whichever protocol it has at the moment."""

    def __init__(self, world, name, sends, receives):
        self.world = world
        self.name = name
        self.sends = sends
        self.receives = receives
        self.transport = None
        self.state = "new"  # then made, eof (the peer has ended), lost
        self.closed = False
        """By this program: with close() or abort()."""
        self.eof_written = False
        self.broken = False
        """By abort(), an exception of a callback, or whatever else may lose bytes."""
        self.resumed = False
        """Reading was resumed: asyncio reports an end that it has reported before, too."""
        self.keeps_open = False
        self.plan = []
        """What the next callbacks with data do."""
        self.faulty = {}
        """Callbacks that raise when they are called next, and what."""
        self.sending = None
        """The task of a sendfile() in progress."""
        self.layers = 0
        """Of TLS, by start_tls()."""

    def __repr__(self):
        return self.name

    def report(self, problem):
        self.world.problems.append(f"{self.name}: {problem}")

    # ---- callbacks

    def connection_made(self, transport):
        if self.state != "new":
            self.report(f"connection_made() when {self.state}")
        self.state = "made"
        self.transport = transport
        self.maybe_raise("connection_made")

    def data_received(self, data):
        if self.state != "made":
            self.report(f"data when {self.state}")
        if problem := self.receives.take(data):
            self.report(problem)
        if self.plan:
            self.world.act(self, self.plan.pop(0))
        self.maybe_raise("data_received")

    def eof_received(self):
        if self.state != "made" and not (self.state == "eof" and self.resumed):
            self.report(f"eof_received() when {self.state}")
        self.state = "eof"
        self.resumed = False
        self.maybe_raise("eof_received")
        return self.keeps_open

    def connection_lost(self, exception):
        if self.state not in {"made", "eof"}:
            self.report(f"connection_lost({exception!r}) when {self.state}")
        self.state = "lost"
        self.maybe_raise("connection_lost")

    def maybe_raise(self, callback):
        kind = self.faulty.pop(callback, None)
        if kind in LEAVING:
            self.resumed = self.resumed or callback == "eof_received"  # it may be told of the end again
            self.world.leaving += 1
            raise kind(callback)
        if kind is not None:
            if callback in {"data_received", "eof_received"}:
                self.broken = True
            raise kind(callback)

    # ---- what the program does

    def is_sound(self):
        """Whether nothing has ended yet, nor will by what was done so far."""
        return self.state == "made" and not (self.closed or self.broken or self.eof_written or self.faulty)

    def write(self, size, kind):
        """Write the stream's next bytes as an object of a kind."""
        if self.sending is not None:
            return
        data = self.sends.next(size)
        if FAULT == "loses bytes" and size == 5000:
            data = data[:-1]
        dropped = self.closed or self.eof_written or self.state == "lost" or self.transport.is_closing()
        try:
            if kind == "bytes":
                self.transport.write(data)
            elif kind == "bytearray":
                changing = bytearray(data)
                self.transport.write(changing)
                changing[:] = bytes(size)
            elif kind == "view":
                changing = bytearray(data)
                self.transport.write(memoryview(changing))
                changing[:] = bytes(size)
            elif kind == "view of bytes":
                self.transport.write(memoryview(b"-" + data)[1:])
            else:
                third = size // 3
                changing = bytearray(data[third : 2 * third])
                self.transport.writelines([data[:third], changing, b"", memoryview(data)[2 * third :]])
                changing[:] = bytes(third)
        except RuntimeError:
            if not self.eof_written:
                raise
            return
        self.sends.written += size
        if not dropped:
            self.sends.promised = self.sends.written


class Forwarding:
    """Passes on to an End the callbacks that protocols of both kinds have."""

    def __init__(self, end):
        self.end = end

    def connection_made(self, transport):
        self.end.connection_made(transport)

    def eof_received(self):
        return self.end.eof_received()

    def connection_lost(self, exc):
        self.end.connection_lost(exc)

    def pause_writing(self):
        self.end.pause_writing()

    def resume_writing(self):
        self.end.resume_writing()


class PlainProtocol(Forwarding, asyncio.Protocol):
    """Gets bytes."""

    def data_received(self, data):
        if type(data) is not bytes:
            self.end.report(f"data_received() of {type(data)}")
        self.end.data_received(data)


class BufferedProtocol(Forwarding, asyncio.BufferedProtocol):
    """Has a buffer of its own, of a size that it is made with."""

    def __init__(self, end, size):
        super().__init__(end)
        self.buffer = bytearray(size)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        if not 0 < nbytes <= len(self.buffer):
            self.end.report(f"buffer_updated({nbytes}) of {len(self.buffer)}")
        data = bytes(self.buffer[:nbytes])
        self.buffer[:] = bytes(len(self.buffer))
        self.end.data_received(data)
