# cython: language_level=3
"""The transports of a pipe's ends: pipes, FIFOs, character devices, and sockets used in one direction.

The engine's Stream moves the bytes. Behaviour and messages are those of asyncio's _UnixReadPipeTransport and
_UnixWritePipeTransport.
"""
import fcntl
import os
import stat
from asyncio import ReadTransport, Transport, constants
from asyncio.log import logger

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyTypeObject
from libc.errno cimport EBADF, EEXIST, EIO

from zloop.binding.methods cimport flatten_methods
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport load_shared
from zloop.binding.trampolines cimport call_method
from zloop.core.contexts cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from zloop.core.handles cimport raise_current
from zloop.core.loop cimport Loop
from zloop.core.scheduler cimport check
from zloop.engine.stream cimport Stream, StreamOps, pipe_io, write_end_io
from zloop.transports.base cimport BaseTransport, begin, check_new, end_in_context, owner_only, read_callback_failed
from zloop.transports.stream cimport StreamTransport, hold_transport, let_transport_go, release_bytes

from zloop.core import diagnostics

cdef int unwarned = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES


@cython.final
cdef class ReadPipeTransport(BaseTransport, ReadTransport):
    """The reading end of a pipe, tied to a protocol. Made by connect_read_pipe()."""

    def __cinit__(self):
        self.duplicate = -1

    def __repr__(self):
        return describe(self, self._pipe, ["polling" if self.stream.reading() else "idle"])

    cdef bint is_open(self) noexcept:
        return self._pipe is not None

    cdef bint waits_for_kernel(self) noexcept:
        return self.stream.reading()

    cdef int start_reading(self) except -1:
        return check(self.stream.start_reading())

    cdef int stop_reading(self) noexcept:
        self.stream.stop_reading()
        return 0

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
        return self.force_close(None)

    cdef int read_failed(self, int error) except -1:
        return self.fail(diagnostics.os_error(error), "Fatal read error on pipe transport")

    # The other end of a terminal hung up.
    cdef bint only_logs(self, object exception) except -1:
        return isinstance(exception, OSError) and exception.errno == EIO

    cdef int release(self) except -1:
        self.stream.close()
        self.update_keepalive()
        pipe, self._pipe = self._pipe, None
        self.unpin()
        return close_both(pipe, self.duplicate)


@cython.final
cdef class WritePipeTransport(StreamTransport, Transport):
    """The writing end of a pipe, tied to a protocol. Made by connect_write_pipe()."""

    def __cinit__(self):
        self.duplicate = -1

    def __repr__(self):
        polled = ["polling" if self.stream.blocked() else "idle", f"bufsize={self.stream.pending()}"]
        return describe(self, self._pipe, polled)

    cdef bint is_open(self) noexcept:
        return self._pipe is not None

    # ---- writing

    def write(self, data):
        """Send bytes, a bytearray or a memoryview, without waiting. What is passed may be changed afterwards;
        mapped memory, when all of it is sent.

        What the kernel does not take at once is kept if it is bytes, or a memoryview of bytes or of an mmap; of other
        memory there is a copy. On a pipe that is closing the data is dropped, with a warning in the log after a
        few times. AssertionError for other types, as with asyncio.
        """
        owner_only(self)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise AssertionError(repr(data))
        if not data:
            return
        if self.closing:
            self.drop_write("pipe closed by peer or os.write(pipe, data) raised exception.", unwarned)
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

    cdef int write_failed(self, object exception) except -1:
        self.dropped_writes += 1  # as asyncio counts
        return self.fail(exception, "Fatal write error on pipe transport")

    cdef int write_failed_later(self, int error) except -1:
        return self.write_failed(diagnostics.os_error(error))

    def can_write_eof(self):
        """True: it is what close() does."""
        return True

    def write_eof(self):
        """Close when everything written is sent: a pipe has no other way to say that nothing follows."""
        owner_only(self)
        if self.closing:
            return
        self.closing = True
        if self.stream.pending() == 0:
            self.force_close(None)

    # The kernel took something of the queue.
    cdef int flushed(self) except -1:
        if self.ending:
            return 0
        self.update_keepalive()
        self.resume_if_drained()  # which may write, close or abort
        if self.closing and not self.ending and self.stream.pending() == 0:
            self.ending = True
            end_in_context(self, self.context, None)
        return 0

    # ---- the reader at the other end

    def is_reading(self):
        """NotImplementedError: a writing end has nothing to read."""
        raise NotImplementedError

    def pause_reading(self):
        """NotImplementedError: a writing end has nothing to read."""
        raise NotImplementedError

    def resume_reading(self):
        """NotImplementedError: a writing end has nothing to read."""
        raise NotImplementedError

    def _watch_reader(self):
        """Scheduled behind connection_made(): from here on the transport ends when the other end is closed."""
        if not self.ending:
            self.watch()

    cdef int reader_gone(self) except -1:
        if self.loop.debug:
            logger.info("%r was closed by peer", self)
        return self.force_close(BrokenPipeError() if self.stream.pending() else None)

    # ---- the end

    def close(self):
        """Send what is queued, then end the connection."""
        owner_only(self)
        if self._pipe is not None:
            self.write_eof()

    cdef int release(self) except -1:
        self.stream.close()
        self.update_keepalive()
        pipe, self._pipe = self._pipe, None
        self.unpin()
        return close_both(pipe, self.duplicate)


flatten_methods(<PyTypeObject*>WritePipeTransport)


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
    connection_made = check_new(loop, protocol)
    os.set_blocking(fd, False)
    transport = ReadPipeTransport.__new__(ReadPipeTransport)
    initialize(transport, loop, protocol, pipe, fd)
    loop.drop_fd_callback(fd, True)
    loop.forget_if_idle(fd)
    transport.duplicate = open_stream(&transport.stream, loop, fd, read_ops, transport)
    transport._pipe = pipe
    transport.pin(pipe)
    begin(transport, connection_made, transport._start_reading, waiter)
    return transport


def make_write_pipe_transport(Loop loop not None, pipe, protocol, waiter):
    """The same for the writing end. The transport ends by itself when the other end is closed."""
    cdef WritePipeTransport transport
    cdef int fd = pipe.fileno()
    mode = os.fstat(fd).st_mode
    is_fifo = stat.S_ISFIFO(mode)
    if not (is_fifo or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode)):
        raise ValueError("Pipe transport is only for pipes, sockets and character devices")
    # Of a FIFO that is opened both ways the transport is a reader itself: what can be read is what it wrote.
    is_own_reader = is_fifo and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    watches_reader = not is_own_reader and not stat.S_ISCHR(mode)
    connection_made = check_new(loop, protocol)
    os.set_blocking(fd, False)
    transport = WritePipeTransport.__new__(WritePipeTransport)
    initialize(transport, loop, protocol, pipe, fd)
    loop.drop_fd_callback(fd, False)
    if watches_reader:
        loop.drop_fd_callback(fd, True)
    loop.forget_if_idle(fd)
    transport.duplicate = open_stream(&transport.stream, loop, fd, write_ops, transport)
    transport._pipe = pipe
    transport.pin(pipe)
    begin(transport, connection_made, transport._watch_reader if watches_reader else None, waiter)
    return transport


cdef int initialize(BaseTransport transport, Loop loop, object protocol, object pipe, int fd) except -1:
    transport.loop = loop
    transport.protocol = protocol
    transport.context = PyContext_CopyCurrent()
    transport.fd = fd
    transport.extra = {"pipe": pipe}
    return 0


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


cdef str describe(BaseTransport transport, object pipe, list polled):
    """The repr() of a pipe's transport; `polled` is what there is to say while the loop can watch it."""
    cdef Loop loop = transport.loop
    info = [type(transport).__name__]
    if pipe is None:
        info.append("closed")
    elif transport.closing:
        info.append("closing")
    info.append(f"fd={transport.fd}")
    if pipe is None:
        info.append("closed")
    elif loop is None or load_shared(loop.closed):
        info.append("open")
    else:
        info += polled
    return f"<{' '.join(info)}>"


# ---- what the engine calls: the interpreter is held, and nothing may be raised

cdef void write_callback_failed(BaseTransport transport, Loop loop) noexcept:
    try:
        raise_current()
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._write_ready()")


cdef void on_data(void* owner, const char* data, size_t size) noexcept:
    call_method(owner, ReadPipeTransport.receive, read_callback_failed, data, size)


cdef void on_end(void* owner) noexcept:
    call_method(owner, ReadPipeTransport.receive_end, read_callback_failed)


cdef void on_read_error(void* owner, int error) noexcept:
    call_method(owner, ReadPipeTransport.read_failed, read_callback_failed, error)


cdef void on_reader_gone(void* owner) noexcept:
    call_method(owner, WritePipeTransport.reader_gone, read_callback_failed)


cdef void on_flushed(void* owner) noexcept:
    call_method(owner, WritePipeTransport.flushed, write_callback_failed)


cdef void on_write_error(void* owner, int error) noexcept:
    call_method(owner, WritePipeTransport.write_failed_later, write_callback_failed, error)


# What is not set is never called: a reading end has no writes, no end reads into the protocol's memory, and no pipe is
# written to past its queue.
cdef StreamOps read_ops
read_ops.io = &pipe_io
read_ops.release = release_bytes
read_ops.on_data = on_data
read_ops.on_end = on_end
read_ops.on_read_error = on_read_error

cdef StreamOps write_ops
write_ops.io = &write_end_io
write_ops.release = release_bytes
write_ops.hold = hold_transport
write_ops.let_go = let_transport_go
write_ops.on_end = on_reader_gone
write_ops.on_flushed = on_flushed
write_ops.on_write_error = on_write_error


seal_type(<PyTypeObject*>ReadPipeTransport, False)
seal_type(<PyTypeObject*>WritePipeTransport, False)
