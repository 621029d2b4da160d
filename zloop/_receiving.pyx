# cython: language_level=3
"""Protocols that take received bytes where they are, with no object made of them.

A transport asks native_protocol() for the native face of each protocol that it gets, and calls data_received() where
there is none.
"""
from asyncio import StreamReader, StreamReaderProtocol

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.method cimport PyMethod_Check, PyMethod_GET_FUNCTION
from cpython.object cimport PyObject
from libc.string cimport memcpy

# Programs and their tests replace methods, of classes and of single objects. What is not these does its own work.
cdef object plain_data_received = StreamReaderProtocol.data_received
cdef object plain_feed_data = StreamReader.feed_data


cdef class NativeProtocol:
    """A protocol that looks at received bytes where they are, and has no use for an object made of them."""

    # In place of data_received(). The memory is gone after the call.
    cdef int receive(self, const char* data, size_t size) except -1:
        raise NotImplementedError

    # Instead of receive(), for who makes the bytes: memory for at most `capacity` of them, whose first `size` commit()
    # passes on. NULL, and no commit(): the protocol's data_received() is to be called.
    cdef char* reserve(self, Py_ssize_t capacity) except? NULL:
        return NULL

    cdef int commit(self, Py_ssize_t size) except -1:
        raise NotImplementedError


cdef class StreamFeeder(NativeProtocol):
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
        filled = PyByteArray_GET_SIZE(buffer)
        PyByteArray_Resize(buffer, filled + <Py_ssize_t>size)
        memcpy(PyByteArray_AS_STRING(buffer) + filled, data, size)
        return tell_reader(reader, filled + <Py_ssize_t>size)

    cdef char* reserve(self, Py_ssize_t capacity) except? NULL:
        cdef Py_ssize_t filled
        reader = self.plain_reader()
        if reader is None:
            return NULL
        buffer = reader._buffer
        filled = PyByteArray_GET_SIZE(buffer)
        PyByteArray_Resize(buffer, filled + capacity)
        # Held, so that nothing can move it until commit().
        PyObject_GetBuffer(buffer, &self.reserved, PyBUF_SIMPLE | PyBUF_WRITABLE)
        self.reader = reader
        self.filled = filled
        return <char*>self.reserved.buf + filled

    cdef int commit(self, Py_ssize_t size) except -1:
        reader, self.reader = self.reader, None
        buffer = <object>self.reserved.obj
        PyBuffer_Release(&self.reserved)
        PyByteArray_Resize(buffer, self.filled + size)
        return tell_reader(reader, self.filled + size) if size > 0 else 0

    # The protocol's StreamReader; None where the protocol has to be asked.
    cdef object plain_reader(self):
        if not is_method(self.protocol.data_received, plain_data_received):
            return None
        reference = self.protocol._stream_reader_wr
        reader = reference() if reference is not None else None
        if type(reader) is not StreamReader or not is_method(reader.feed_data, plain_feed_data):
            return None
        return reader if type(reader._buffer) is bytearray and not reader._eof else None


# What feed_data() does when the bytes are in the reader's buffer, which has `size` of them now.
cdef int tell_reader(object reader, Py_ssize_t size) except -1:
    waiter = reader._waiter
    if waiter is not None:
        reader._waiter = None
        if not waiter.cancelled():
            waiter.set_result(None)
    if size > 2 * reader._limit and reader._transport is not None and not reader._paused:
        try:
            reader._transport.pause_reading()
        except NotImplementedError:
            reader._transport = None
        else:
            reader._paused = True
    return 0


cdef bint is_method(object attribute, object function) noexcept:
    return PyMethod_Check(attribute) and PyMethod_GET_FUNCTION(attribute) == <PyObject*>function


cdef NativeProtocol native_protocol(object protocol):
    """The native face of a protocol, or None."""
    cdef StreamFeeder feeder
    if isinstance(protocol, NativeProtocol):
        return protocol
    if type(protocol) is not StreamReaderProtocol:
        return None
    feeder = StreamFeeder.__new__(StreamFeeder)
    feeder.protocol = protocol
    return feeder
