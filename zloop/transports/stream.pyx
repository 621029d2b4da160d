# cython: language_level=3
"""What the transports that write to a stream share.

What is written is sent in the call; what the kernel does not take waits in the stream's queue.
"""
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_Check, PyMemoryView_FromObject
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport ENOMEM

from zloop.binding.sealed_types cimport seal_type
from zloop.core.scheduler cimport check
from zloop.engine.stream cimport write_queued
from zloop.engine.write_queue cimport Segment

from mmap import mmap

from zloop.core import diagnostics

cdef extern from "Python.h":
    PyObject* memoryview_base "PyMemoryView_GET_BASE"(object view)


cdef class StreamTransport(WritingTransport):
    """A stream that is written to: a connected socket, or the writing end of a pipe."""

    def __dealloc__(self):
        self.stream.close()  # here, as a destructor must not release what is queued

    cdef bint waits_for_kernel(self) noexcept:
        return self.stream.reading() or self.stream.blocked() or self.stream.pending() > 0

    cdef int start_reading(self) except -1:
        return check(self.stream.start_reading())

    cdef int stop_reading(self) noexcept:
        self.stream.stop_reading()
        return 0

    cdef size_t buffered(self) noexcept:
        return self.stream.pending()

    cdef int discard_pending(self) except -1:
        self.stream.discard_pending()
        return 0

    # False when what is written is dropped.
    cdef bint takes_writes(self) noexcept:
        return not self.ending

    # The kernel refused what was written.
    cdef int write_failed(self, object exception) except -1:  # pragma: no cover: each kind has its own
        raise NotImplementedError

    cdef int send(self, object data) except -1:
        cdef Segment segment
        cdef int status
        if not PyBytes_CheckExact(data):
            return self.send_view(data)
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

    # As send(), of any other object with a buffer: what has to wait is copied, unless it is a bytes object's memory.
    cdef int send_view(self, object data) except -1:
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

    # After a write that the kernel did not take whole: `status` is -errno if it refused, else the rest is queued.
    cdef int rest_waits(self, int status) except -1:
        if status < 0:
            try:
                exception = diagnostics.os_error(-status)
            except MemoryError as exc:
                exception = exc
            return self.write_failed(exception)
        self.update_keepalive()
        return self.pause_if_full()

    # Offers the kernel what queue_bytes() has queued.
    cdef int flush_queue(self) except -1:
        cdef int status = self.stream.flush()
        if status < 0 or self.stream.pending() > 0:
            return self.rest_waits(status)
        return 0


# Queues an exact bytes object by reference, behind which flush_queue() is to be called.
cdef int queue_bytes(Stream* stream, object data) except -1:
    cdef Segment segment
    segment.data = PyBytes_AS_STRING(data)
    segment.size = <size_t>PyBytes_GET_SIZE(data)
    segment.reference = <void*>data
    if segment.size == 0:
        return 0
    stream.queue(segment)
    Py_INCREF(data)  # given up by release_bytes()  # pragma: no cover: compiled to a line on 3.11 only, which joins
    return 0


# As Stream.write(), of memory of an object (None: of no object) that may change afterwards.
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


# An exact bytes object that a memoryview shows never changes, so it is kept. So is mapped memory, by a view of our own,
# which only we can release: a mapping may change at any time, so that a copy would promise nothing and take as much
# memory again. Of other memory there is a copy.
cdef int queue_rest(Stream* stream, object data, const char* rest, size_t size) except? -1:
    cdef Segment segment
    cdef int status = stream.wait_writable()
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


cdef void release_bytes(void* data) noexcept:
    Py_DECREF(<object><PyObject*>data)


# A mapping's class may drop every other reference to the transport when the mapping is released.
cdef void hold_transport(void* owner) noexcept:
    Py_INCREF(<object><PyObject*>owner)


cdef void let_transport_go(void* owner) noexcept:
    Py_DECREF(<object><PyObject*>owner)


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


seal_type(<PyTypeObject*>StreamTransport, False)
