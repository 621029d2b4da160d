# cython: language_level=3
"""Protocols with a C-level interface: they take received bytes where they are, with no object made of them.

A transport asks native_protocol() for that interface of each protocol that it gets, and calls data_received() where
there is none: with a bytes object, which cut_bytes() makes fit what was received.
"""
from asyncio import StreamReader, StreamReaderProtocol

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.method cimport PyMethod_Check, PyMethod_GET_FUNCTION
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF
from libc.string cimport memcpy

from zloop.binding.sealed_types cimport seal_type

cdef extern from "Python.h":
    int resize_bytes "_PyBytes_Resize"(PyObject** bytes, Py_ssize_t size) except -1

# Programs and their tests replace methods of classes and of single objects: an adapter is used only if all are these.
cdef object plain_data_received = StreamReaderProtocol.data_received
cdef object plain_feed_data = StreamReader.feed_data


cdef class NativeProtocol:
    """A protocol that reads received bytes where they are, and needs no object made of them."""

    # In place of data_received(). The memory is gone after the call.
    cdef int receive(self, const char* data, size_t size) except -1:  # pragma: no cover: each kind has its own
        raise NotImplementedError

    # For large reads: lends memory of that size for the next read, or returns False. The memory does not move. After a
    # True exactly one filled() follows, in place of receive(), with the number of bytes read, which may be 0.
    cdef bint lend(self, char** data, size_t size) except -1:  # pragma: no cover: asked only where `lends` is true
        return False

    cdef int filled(self, size_t size) except -1:  # pragma: no cover: as lend()
        raise NotImplementedError


cdef class StreamReaderAdapter(NativeProtocol):
    """Puts what is received straight into the buffer of asyncio's own StreamReader.

    Does what StreamReaderProtocol.data_received() and StreamReader.feed_data() do, the same from CPython 3.11 to 3.15.
    """

    cdef int receive(self, const char* data, size_t size) except -1:
        cdef Py_ssize_t filled
        reader = self.plain_reader()
        if reader is None:
            self.protocol.data_received(PyBytes_FromStringAndSize(data, <Py_ssize_t>size))
            return 0
        buffer = reader._buffer
        with cython.critical_section(buffer):
            filled = PyByteArray_GET_SIZE(buffer)
            PyByteArray_Resize(buffer, filled + <Py_ssize_t>size)
            memcpy(PyByteArray_AS_STRING(buffer) + filled, data, size)
        return self.announce(reader, filled + <Py_ssize_t>size)

    cdef bint lend(self, char** data, size_t size) except -1:
        reader = self.plain_reader()
        if reader is None:
            return False
        buffer = reader._buffer
        with cython.critical_section(buffer):
            self.kept = PyByteArray_GET_SIZE(buffer)
            PyByteArray_Resize(buffer, self.kept + <Py_ssize_t>size)
            PyObject_GetBuffer(buffer, &self.view, PyBUF_SIMPLE | PyBUF_WRITABLE)  # nothing can move it until filled()
        self.reader = reader
        data[0] = <char*>self.view.buf + self.kept
        return True

    cdef int filled(self, size_t size) except -1:
        reader, self.reader = self.reader, None
        buffer = <object>self.view.obj
        PyBuffer_Release(&self.view)
        PyByteArray_Resize(buffer, self.kept + <Py_ssize_t>size)
        return self.announce(reader, self.kept + <Py_ssize_t>size) if size > 0 else 0

    # `size`: bytes that the reader's buffer has now.
    cdef int announce(self, object reader, Py_ssize_t size) except -1:
        waiter = reader._waiter
        if waiter is not None:
            reader._waiter = None
            if not waiter.cancelled():
                waiter.set_result(None)
        if exceeds_twice(size, reader._limit) and reader._transport is not None and not reader._paused:
            try:
                reader._transport.pause_reading()
            except NotImplementedError:
                reader._transport = None
            else:
                reader._paused = True
        return 0

    # The protocol's StreamReader; None where the protocol has to be asked.
    cdef object plain_reader(self):
        if not is_method(self.protocol.data_received, plain_data_received):
            return None
        reference = self.protocol._stream_reader_wr
        reader = reference() if reference is not None else None
        if type(reader) is not StreamReader or not is_method(reader.feed_data, plain_feed_data):
            return None
        return reader if type(reader._buffer) is bytearray and not reader._eof else None


# size > 2 * limit, without an object more if the limit is an int that fits. `size` is not 0.
cdef bint exceeds_twice(Py_ssize_t size, object limit) except -1:
    cdef int too_large = 0
    cdef long long number
    if PyLong_CheckExact(limit):
        number = PyLong_AsLongLongAndOverflow(limit, &too_large)
        if not too_large:
            return (size - 1) >> 1 >= number
    return size > 2 * limit


cdef bint is_method(object attribute, object function) noexcept:
    return PyMethod_Check(attribute) and PyMethod_GET_FUNCTION(attribute) == <PyObject*>function


cdef NativeProtocol native_protocol(object protocol):
    """The C-level interface of a protocol, or None."""
    cdef StreamReaderAdapter feeder
    if isinstance(protocol, NativeProtocol):
        return protocol
    if type(protocol) is not StreamReaderProtocol:
        return None
    feeder = StreamReaderAdapter.__new__(StreamReaderAdapter)
    feeder.protocol = protocol
    feeder.lends = True
    return feeder


# A bytes object that was made to be filled, cut to its first `size` bytes. Takes over the only reference to it.
cdef object cut_bytes(PyObject* made, Py_ssize_t size):
    resize_bytes(&made, size)
    result = <object>made
    Py_DECREF(result)
    return result


seal_type(<PyTypeObject*>NativeProtocol, False)
seal_type(<PyTypeObject*>StreamReaderAdapter, False)
