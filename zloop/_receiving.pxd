# Protocols that take received bytes where they are.

cdef class NativeProtocol:
    cdef int receive(self, const char* data, size_t size) except -1


cdef class StreamFeeder(NativeProtocol):
    cdef object protocol         # the asyncio.StreamReaderProtocol

    cdef object plain_reader(self)


cdef NativeProtocol native_protocol(object protocol)
