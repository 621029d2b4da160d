# cython: language_level=3
"""The transports of a pipe's ends: pipes, FIFOs, character devices, and sockets used in one direction.

The engine's Stream moves the bytes. Behaviour and messages are those of asyncio's _UnixReadPipeTransport and
_UnixWritePipeTransport.
"""
import fcntl
import os
import stat
import warnings
from asyncio import constants
from asyncio.log import logger

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyTypeObject
from libc.errno cimport EBADF, EEXIST, EIO

from zloop.binding.methods cimport adopt_methods
from zloop.binding.sealed_types cimport seal_type
from zloop.core.handles cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from zloop.core.loop cimport Loop, check
from zloop.engine.stream cimport Stream, StreamOps, pipe_io, write_end_io
from zloop.transports.writing cimport WritingTransport, end_in_context, release_bytes

from zloop.core import diagnostics
from zloop.core.waiters import set_result_unless_cancelled

cdef object dont_nag_before = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


cdef class ReadPipeTransport(ReadTransportBase):
    """The reading end of a pipe, tied to a protocol. Made by connect_read_pipe()."""

    def __cinit__(self):
        self.fd = -1
        self.duplicate = -1

    def __del__(self):
        if self._pipe is None:
            return
        try:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        finally:
            self.let_go()  # whatever becomes of the warning

    def __repr__(self):
        polled = ["polling" if self.stream.reading() else "idle"]
        return describe(self, self._pipe, self.closing, self.fd, self.loop, polled)

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        """Let another protocol have what is read from here on."""
        self.protocol = protocol

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        return self.protocol

    def is_closing(self):
        """True when the transport is closed or on its way."""
        return self.closing

    # ---- reading

    def is_reading(self):
        """True when data is passed to the protocol as it comes."""
        return not self.closing and not self._paused

    def pause_reading(self):
        """Pass no data to the protocol until resume_reading(). Does nothing when closing or paused."""
        if not self.is_reading():
            return
        self._paused = True
        self.stream.stop_reading()
        self.anchor()
        if self.loop.debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Pass data to the protocol again. Does nothing when closing or not paused."""
        if self.closing or not self._paused:
            return
        self._paused = False
        self._start_reading()
        if self.loop.debug:
            logger.debug("%r resumes reading", self)

    def _start_reading(self):
        """Also scheduled behind connection_made(), which may have paused or closed."""
        if self.is_reading():
            check(self.stream.start_reading())
            self.anchor()

    # An exception of the protocol is reported by the caller, and the pipe stays open.
    cdef int receive(self, const char* data, size_t size) except -1:
        payload = PyBytes_FromStringAndSize(data, <Py_ssize_t>size)
        PyContext_Enter(self.context)
        try:
            self.protocol.data_received(payload)
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int receive_end(self) except -1:
        if self.loop.debug:
            logger.info("%r was closed by peer", self)
        self.loop.call_soon(self.protocol.eof_received, context=self.context)
        return self.end(None)

    # ---- the end

    def close(self):
        """End the connection. Nothing more is received."""
        if not self.closing:
            self.end(None)

    # The other end of a terminal hung up: EIO, which is only logged in debug mode.
    cdef int fail(self, object exception) except -1:
        message = "Fatal read error on pipe transport"
        if isinstance(exception, OSError) and exception.errno == EIO:
            if self.loop.debug:
                logger.debug("%r: %s", self, message, exc_info=exception)
        else:
            self.loop.call_exception_handler(
                {"message": message, "exception": exception, "transport": self, "protocol": self.protocol}
            )
        return self.end(exception)

    cdef int end(self, object exception) except -1:
        self.closing = True
        self.stream.stop_reading()
        self.anchor()
        try:
            self.loop.call_soon(self._call_connection_lost, exception, context=self.context)
        except MemoryError:
            self.unscheduled = exception
            self.loop.end_without_memory(self, self.anchorage)
        return 0

    def _end_unscheduled(self):
        """In place of a callback that there was no memory for."""
        exception, self.unscheduled = self.unscheduled, None
        end_in_context(self, self.context, exception)

    def _call_connection_lost(self, exc):
        """Tell the protocol, once, and let everything go."""
        if self.loop is None:
            return
        self.closing = True
        try:
            self.protocol.connection_lost(exc)
        finally:
            self.let_go()
            self.protocol = None
            self.loop = None

    cdef int anchor(self) except -1:
        cdef bint waits = self.stream.reading()
        return self.loop.hold_while(waits, self, self.anchorage)

    cdef int let_go(self) except -1:
        self.stream.close()
        self.anchor()
        pipe, self._pipe = self._pipe, None
        close_both(pipe, self.duplicate)
        return 0


cdef class WritePipeTransport(WritingTransport):
    """The writing end of a pipe, tied to a protocol. Made by connect_write_pipe()."""

    def __cinit__(self):
        self.fd = -1
        self.duplicate = -1

    def __del__(self):
        if self._pipe is None:
            return
        try:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        finally:
            self.let_go()  # whatever becomes of the warning

    def __repr__(self):
        polled = ["polling" if self.stream.blocked() else "idle", f"bufsize={self.stream.pending()}"]
        return describe(self, self._pipe, self.closing, self.fd, self.loop, polled)

    def set_protocol(self, protocol):
        """Tell another protocol from here on."""
        self.protocol = protocol

    # ---- writing

    def write(self, data):
        """Send bytes, a bytearray or a memoryview, without waiting. What is passed may be changed afterwards;
        mapped memory, when all of it is sent.

        What the kernel does not take at once is kept if it is bytes, or a memoryview of bytes or of an mmap; of other
        memory there is a copy. On a pipe that is closing the data is dropped, with a warning in the log after a
        few times. AssertionError for other types, as with asyncio.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise AssertionError(repr(data))
        if not data:
            return
        if self.closing:
            if self.conn_lost >= dont_nag_before:
                logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
            self.conn_lost += 1
            return
        self.send(data)

    cdef bint takes_writes(self) noexcept:
        return not self.closing

    def _write_without_loop(self, data):
        """After loop.close(): what the kernel takes is sent; for the rest the closed loop would be needed."""
        if self.stream.lost():  # the descriptor is another file's by now
            self.loop.check_closed()
            self.write_failed(diagnostics.os_error(EBADF))
            return
        if os.write(self.fd, data) < memoryview(data).nbytes:
            self.loop.check_closed()

    def can_write_eof(self):
        """True: it is what close() does."""
        return True

    def write_eof(self):
        """Close when everything written is sent: a pipe has no other way to say that nothing follows."""
        if self.closing:
            return
        self.closing = True
        if self.stream.pending() == 0:
            self.end(None)

    # The kernel took something of the queue.
    cdef int flushed(self) except -1:
        if self.ending:
            return 0
        self.anchor()
        self.resume_protocol_if_drained()  # which may write, close or abort
        if self.closing and not self.ending and self.stream.pending() == 0:
            self.ending = True
            end_in_context(self, self.context, None)
        return 0

    def _watch_reader(self):
        """Scheduled behind connection_made(): from here on the transport ends when nobody reads the pipe."""
        if not self.ending:
            check(self.stream.start_reading())
            self.anchor()

    cdef int reader_gone(self) except -1:
        if self.loop.debug:
            logger.info("%r was closed by peer", self)
        return self.end(BrokenPipeError() if self.stream.pending() else None)

    # ---- the end

    def close(self):
        """Send what is queued, then end the connection."""
        if self._pipe is not None:
            self.write_eof()

    def abort(self):
        """End the connection now; what the kernel has not taken is lost."""
        self.end(None)

    cdef int write_failed(self, object exception) except -1:
        self.conn_lost += 1
        return self.fail(exception, "Fatal write error on pipe transport")

    # OSError is the reader's business and is only logged in debug mode.
    cdef int fail(self, object exception, str message) except -1:
        if not isinstance(exception, OSError):
            self._report(exception, message)
        elif self.loop.debug:
            logger.debug("%r: %s", self, message, exc_info=exception)
        return self.end(exception)

    cdef int end(self, object exception) except -1:
        if self.ending:
            return 0
        self.closing = True
        self.stream.discard_pending()
        self.stream.stop_reading()
        self.anchor()
        self.ending = True
        return self.end_soon(exception)

    def _call_connection_lost(self, exc):
        """Tell the protocol, once, and let everything go."""
        if self.loop is None:
            return
        self.closing = True
        self.ending = True
        try:
            self.protocol.connection_lost(exc)
        finally:
            self.let_go()
            self.protocol = None
            self.loop = None

    cdef int let_go(self) except -1:
        self.stream.close()
        self.anchor()
        pipe, self._pipe = self._pipe, None
        close_both(pipe, self.duplicate)
        return 0


adopt_methods(<PyTypeObject*>WritePipeTransport)


def make_read_pipe_transport(Loop loop not None, pipe, protocol, waiter):
    """Tie the reading end of a pipe, a file object or a socket, to a protocol. The transport owns it from here on.

    connection_made() is called in the next turn, reading begins after it, and `waiter` (a future) is done after that.
    ValueError for what is no pipe, socket or character device; the pipe is the caller's then.
    """
    cdef ReadPipeTransport transport
    cdef int fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is for pipes/sockets only.")
    # A closed loop and what is no protocol are found out before anything is tied.
    loop.check_closed()
    connection_made = protocol.connection_made
    os.set_blocking(fd, False)
    transport = ReadPipeTransport.__new__(ReadPipeTransport)
    transport.loop = loop
    transport.protocol = protocol
    transport.context = PyContext_CopyCurrent()
    transport.fd = fd
    transport.extra = {"pipe": pipe}
    loop.drop_fd_callback(fd, True)
    loop.forget_if_idle(fd)
    transport.duplicate = open_stream(&transport.stream, loop, fd, read_ops, transport)
    transport._pipe = pipe
    loop.call_soon(connection_made, transport, context=transport.context)
    loop.call_soon(transport._start_reading, context=transport.context)
    loop.call_soon(set_result_unless_cancelled, waiter, None, context=transport.context)
    return transport


def make_write_pipe_transport(Loop loop not None, pipe, protocol, waiter):
    """The same for the writing end. When nobody reads a pipe or a socket any more, the transport ends by itself."""
    cdef WritePipeTransport transport
    cdef int fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    is_fifo = stat.S_ISFIFO(mode)
    if not (is_fifo or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is only for pipes, sockets and character devices")
    # Of a FIFO that is opened both ways the transport is a reader itself: what can be read is what it wrote.
    is_own_reader = is_fifo and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    tells_of_reader = not is_own_reader and not stat.S_ISCHR(mode)
    # A closed loop and what is no protocol are found out before anything is tied.
    loop.check_closed()
    connection_made = protocol.connection_made
    os.set_blocking(fd, False)
    transport = WritePipeTransport.__new__(WritePipeTransport)
    transport.loop = loop
    transport.protocol = protocol
    transport.context = PyContext_CopyCurrent()
    transport.fd = fd
    transport.extra = {"pipe": pipe}
    loop.drop_fd_callback(fd, False)
    if tells_of_reader:
        loop.drop_fd_callback(fd, True)
    loop.forget_if_idle(fd)
    transport.duplicate = open_stream(&transport.stream, loop, fd, write_ops, transport)
    transport._pipe = pipe
    loop.call_soon(connection_made, transport, context=transport.context)
    if tells_of_reader:
        loop.call_soon(transport._watch_reader, context=transport.context)
    loop.call_soon(set_result_unless_cancelled, waiter, None, context=transport.context)
    return transport


# Ties a stream to a descriptor; or, if the loop watches that number already (a terminal is often read and written
# through one), to a duplicate of it. Returns the duplicate, which the caller owns, or -1.
cdef int open_stream(Stream* stream, Loop loop, int fd, const StreamOps& ops, object transport) except -2:
    cdef int status = stream.open(loop.reactor, fd, ops, <void*>transport)
    cdef int duplicate
    if status != -EEXIST:
        check(status)
        return -1
    duplicate = os.dup(fd)
    status = stream.open(loop.reactor, duplicate, ops, <void*>transport)
    if status < 0:
        os.close(duplicate)
        check(status)
    return duplicate


cdef int close_both(object pipe, int duplicate) except -1:
    if duplicate >= 0:
        os.close(duplicate)
    if pipe is not None:
        pipe.close()
    return 0


cdef str describe(object transport, object pipe, bint closing, int fd, Loop loop, list polled):
    """The repr() of a pipe's transport; `polled` is what there is to say while the loop can watch it."""
    info = [type(transport).__name__]
    if pipe is None:
        info.append("closed")
    elif closing:
        info.append("closing")
    info.append(f"fd={fd}")
    if pipe is None:
        info.append("closed")
    elif loop is None or loop.closed:
        info.append("open")
    else:
        info += polled
    return f"<{' '.join(info)}>"


# ---- what the engine calls: the interpreter is held, and nothing may be raised

cdef void on_data(void* owner, const char* data, size_t size) noexcept:
    cdef ReadPipeTransport transport = <ReadPipeTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.receive(data, size)
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._read_ready()")


cdef void on_end(void* owner) noexcept:
    cdef ReadPipeTransport transport = <ReadPipeTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.receive_end()
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._read_ready()")


cdef void on_read_error(void* owner, int error) noexcept:
    cdef ReadPipeTransport transport = <ReadPipeTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.fail(diagnostics.os_error(error))
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._read_ready()")


cdef void on_reader_gone(void* owner) noexcept:
    cdef WritePipeTransport transport = <WritePipeTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.reader_gone()
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._read_ready()")


cdef void on_flushed(void* owner) noexcept:
    cdef WritePipeTransport transport = <WritePipeTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.flushed()
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._write_ready()")


cdef void on_write_error(void* owner, int error) noexcept:
    cdef WritePipeTransport transport = <WritePipeTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.write_failed(diagnostics.os_error(error))
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._write_ready()")


# What is not set is never called: a reading end has no writes, no end reads into the protocol's memory, and nobody
# waits for room past the queue.
cdef StreamOps read_ops
read_ops.io = &pipe_io
read_ops.release = release_bytes
read_ops.on_data = on_data
read_ops.on_end = on_end
read_ops.on_read_error = on_read_error

cdef StreamOps write_ops
write_ops.io = &write_end_io
write_ops.release = release_bytes
write_ops.on_end = on_reader_gone
write_ops.on_flushed = on_flushed
write_ops.on_write_error = on_write_error


seal_type(<PyTypeObject*>ReadPipeTransport, False)
seal_type(<PyTypeObject*>WritePipeTransport, False)
