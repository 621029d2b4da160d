# Protocols that take received bytes where they are; and bytes objects, for the others.
from cpython.object cimport PyObject


cdef class NativeProtocol:
    cdef bint lends              # lend() may give something

    cdef int receive(self, const char* data, size_t size) except -1
    cdef bint lend(self, char** data, size_t size) except -1
    cdef int filled(self, size_t size) except -1


cdef class StreamReaderAdapter(NativeProtocol):
    cdef object protocol         # the asyncio.StreamReaderProtocol

    # From lend() to filled():
    cdef object reader           # the protocol's StreamReader; else None
    cdef Py_buffer view          # of the whole of its buffer
    cdef Py_ssize_t kept         # bytes that were in it before

    cdef object plain_reader(self)
    cdef int announce(self, object reader, Py_ssize_t size) except -1


cdef NativeProtocol native_protocol(object protocol)
cdef object cut_bytes(PyObject* made, Py_ssize_t size)
