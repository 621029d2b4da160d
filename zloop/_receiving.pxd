# Protocols that take received bytes where they are.

cdef class NativeProtocol:
    cdef int receive(self, const char* data, size_t size) except -1
    cdef char* reserve(self, Py_ssize_t capacity) except? NULL
    cdef int commit(self, Py_ssize_t size) except -1


cdef class StreamFeeder(NativeProtocol):
    cdef object protocol         # the asyncio.StreamReaderProtocol

    # From reserve() to commit():
    cdef object reader           # its StreamReader; else None
    cdef Py_buffer reserved      # the reader's buffer
    cdef Py_ssize_t filled       # bytes that were in it before

    cdef object plain_reader(self)


cdef NativeProtocol native_protocol(object protocol)
