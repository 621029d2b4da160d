# cython: language_level=3
"""What the transports that write to a stream share: the protocol, and flow control over what is queued."""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_Check, PyMemoryView_FromObject
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport ENOMEM
from libc.stdint cimport SIZE_MAX

from zloop.binding.sealed_types cimport seal_type
from zloop.core.handles cimport PyContext_Copy, PyContext_Enter, PyContext_Exit
from zloop.engine.stream cimport write_queued
from zloop.engine.write_queue cimport Segment

from mmap import mmap

from zloop.core import diagnostics

cdef extern from "Python.h":
    PyObject* memoryview_base "PyMemoryView_GET_BASE"(object view)


cdef class WritingTransport(TransportBase):
    """A transport whose writes the kernel may not take at once."""

    def __cinit__(self):
        self.low_water, self.high_water = 16 * 1024, 64 * 1024  # as water_marks() has them, and objects made of none

    def __dealloc__(self):
        self.stream.close()  # here, as a destructor must not release what is queued

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        return self.protocol

    def is_closing(self):
        """True when the transport is closed or on its way."""
        return self.closing

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol(self):
        return self.protocol

    @property
    def _context(self):
        return self.own_context()

    # For good: whoever asks may enter it, or change it, at any time.
    cdef object own_context(self):
        if self.shares_context:
            self.context = PyContext_Copy(self.context)
            self.shares_context = False
        return self.context

    @property
    def _protocol_paused(self):
        return bool(self.protocol_paused)

    def _report(self, exc, message):
        if self.loop is not None:
            self.loop.call_exception_handler(
                {"message": message, "exception": exc, "transport": self, "protocol": self.protocol}
            )

    # ---- sending: in the call, and what the kernel does not take waits in the stream's queue

    # False when the connection has ended, and what is written goes nowhere.
    cdef bint takes_writes(self) noexcept:
        raise NotImplementedError

    # The kernel refused what was written.
    cdef int write_failed(self, object exception) except -1:
        raise NotImplementedError

    cdef int send(self, object data) except -1:
        cdef Segment segment
        cdef int status
        if not PyBytes_CheckExact(data):
            return self.send_borrowed(data)
        segment.data = PyBytes_AS_STRING(data)
        segment.size = <size_t>PyBytes_GET_SIZE(data)
        segment.reference = <void*>data
        status = self.stream.write(segment)
        if status == 0:
            return 0
        if status > 0:
            Py_INCREF(data)  # the queue's, given up by release_bytes()
        elif not self.stream.is_open():
            self._write_without_loop(data)
            return 0
        return self.rest_waits(status)

    # Of another kind of exporter: what has to wait is copied, unless it is bytes in the end.
    cdef int send_borrowed(self, object data) except -1:
        cdef object error = None
        cdef Py_buffer view
        cdef int status
        if not self.stream.is_open():
            self._write_without_loop(data)
            return 0
        try:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        except BaseException as exc:  # not contiguous
            error = exc
        if error is not None:
            return self.write_failed(error)
        try:
            # Asking an exporter for its memory may run Python code, and that may close the transport.
            if not self.takes_writes() or not self.stream.is_open():
                return 0
            status = write_memory(&self.stream, data, <const char*>view.buf, <size_t>view.len)
        finally:
            PyBuffer_Release(&view)
        return 0 if status == 0 else self.rest_waits(status)

    # What a write leaves to be done: `status` is -errno if the kernel refused it, else something is queued.
    cdef int rest_waits(self, int status) except -1:
        if status < 0:
            try:
                exception = diagnostics.os_error(-status)
            except MemoryError as exc:
                exception = exc
            return self.write_failed(exception)
        self.anchor()
        return self.pause_protocol_if_full()

    # Offers the kernel what queue_bytes() has queued.
    cdef int flush_queue(self) except -1:
        cdef int status = self.stream.flush()
        if status < 0 or self.stream.pending() > 0:
            return self.rest_waits(status)
        return 0

    # ---- flow control

    def get_write_buffer_size(self):
        """Bytes written that the kernel has not taken."""
        return self.stream.pending()

    def get_write_buffer_limits(self):
        """The low and the high water mark of the write buffer, in bytes."""
        return (self.low_water, self.high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set when pause_writing() (above high) and resume_writing() (at most low) are called: bytes.

        Defaults: high is 64 KiB, or four times low; low is a quarter of high. ValueError unless high >= low >= 0.
        """
        self.low_water, self.high_water = water_marks(high, low)
        self.pause_protocol_if_full()

    cdef int pause_protocol_if_full(self) except -1:
        if self.protocol_paused or self.conn_lost or self.stream.pending() <= self.high_water:
            return 0
        self.protocol_paused = True
        try:
            self.protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.pause_writing() failed")
        return 0

    cdef int resume_protocol_if_drained(self) except -1:
        if not self.protocol_paused or self.stream.pending() > self.low_water:
            return 0
        context = self.own_context()  # first: a protocol that stays paused would wait for ever
        self.protocol_paused = False
        try:
            PyContext_Enter(context)
            try:
                self.protocol.resume_writing()
            finally:
                PyContext_Exit(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.resume_writing() failed")
        return 0

    # ---- lifetime

    # _call_connection_lost(exception) comes next, also when memory is out.
    cdef int end_soon(self, object exception) except -1:
        try:
            self.loop.call_soon(self._call_connection_lost, exception, context=self.own_context())
        except MemoryError:
            self.unscheduled = exception
            self.loop.end_without_memory(self, self.anchorage)
        return 0

    def _end_unscheduled(self):
        """In place of a callback that there was no memory for."""
        exception, self.unscheduled = self.unscheduled, None
        end_in_context(self, None if self.shares_context else self.context, exception)

    cdef int anchor(self) except -1:
        cdef bint waits = self.stream.reading() or self.stream.blocked() or self.stream.pending() > 0
        return self.loop.hold_while(waits, self, self.anchorage)


cdef (size_t, size_t) water_marks(object high, object low) except *:
    """The low and the high one, bytes, as set_write_buffer_limits() is asked for them. ValueError if they cross."""
    if high is None:
        high = 64 * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return min(low, SIZE_MAX), min(high, SIZE_MAX)


# Queues an exact bytes object by reference, behind which flush_queue() is to be called.
cdef int queue_bytes(Stream* stream, object data) except -1:
    cdef Segment segment
    segment.data = PyBytes_AS_STRING(data)
    segment.size = <size_t>PyBytes_GET_SIZE(data)
    segment.reference = <void*>data
    if segment.size == 0:
        return 0
    stream.queue(segment)
    Py_INCREF(data)  # the queue's, given up by release_bytes()
    return 0


# As Stream.write(), of memory that is an object's, or nobody's (None), and that may change afterwards.
cdef int write_memory(Stream* stream, object data, const char* memory, size_t size) except? -1:
    cdef ssize_t sent = stream.send_now(memory, size)
    if sent == <ssize_t>size:
        return 0
    if sent < 0:
        return <int>sent
    try:
        return queue_rest(stream, data, memory + sent, size - <size_t>sent)
    except MemoryError:
        if sent == 0:
            raise
    return -ENOMEM  # an end of the connection: the peer must not take what follows for the rest


# Nobody can change an exact bytes object that a memoryview shows, so it is kept. So is mapped memory, by a view of our
# own, which nobody else can release: others may change a mapping at any time, so that a copy would promise nothing but
# take as much memory again. Of other memory there is a copy.
cdef int queue_rest(Stream* stream, object data, const char* rest, size_t size) except? -1:
    cdef Segment segment
    cdef int status = stream.wait_for_room()
    if status < 0:
        return status
    owner = None
    if PyMemoryView_Check(data) and memoryview_base(data) != NULL:
        owner = <object>memoryview_base(data)
        if isinstance(owner, mmap):
            owner = PyMemoryView_FromObject(data)
    if not PyBytes_CheckExact(owner) and not PyMemoryView_Check(owner):
        owner = PyBytes_FromStringAndSize(rest, <Py_ssize_t>size)
        rest = PyBytes_AS_STRING(owner)
    segment.data = rest
    segment.size = size
    segment.reference = <void*>owner
    stream.queue(segment)
    Py_INCREF(owner)  # the queue's, given up by release_bytes()
    return write_queued


# The shared copy of a context is nobody's to enter, and there is no memory for one more: None, for the current one.
cdef int end_in_context(object transport, object context, object exception) except -1:
    if context is None:
        transport._call_connection_lost(exception)
        return 0
    PyContext_Enter(context)
    try:
        transport._call_connection_lost(exception)
    finally:
        PyContext_Exit(context)
    return 0


cdef void release_bytes(void* data) noexcept:
    Py_DECREF(<object><PyObject*>data)


cdef object bytes_of(object data):
    """The very object if it is bytes, else a copy, which later changes do not reach."""
    cdef Py_buffer view
    if PyBytes_CheckExact(data):
        return data
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)  # BufferError: not contiguous
    try:
        return PyBytes_FromStringAndSize(<const char*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


seal_type(<PyTypeObject*>WritingTransport, False)
