# What the transports that write to a stream share.
from zloop.engine.stream cimport Stream
from zloop.transports.base cimport WritingTransport


cdef class StreamTransport(WritingTransport):
    cdef Stream stream           # opened where the transport is made, with the transport as its owner

    cdef int write_failed(self, object exception) except -1
    cdef int send(self, object data) except -1
    cdef int send_view(self, object data) except -1
    cdef int rest_waits(self, int status) except -1
    cdef int flush_queue(self) except -1
    cdef bint takes_writes(self) noexcept


cdef int queue_bytes(Stream* stream, object data) except -1
cdef int write_memory(Stream* stream, object data, const char* memory, size_t size) except? -1
cdef int queue_rest(Stream* stream, object data, const char* rest, size_t size) except? -1
cdef void release_bytes(void* data) noexcept
cdef void hold_transport(void* owner) noexcept
cdef void let_transport_go(void* owner) noexcept
cdef object bytes_of(object data)
