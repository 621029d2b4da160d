# What the transports that write to a stream share.
from libcpp cimport bool as cpp_bool

from zloop.binding.transport_base cimport TransportBase
from zloop.core.loop cimport Loop
from zloop.engine.hook_list cimport ListHook
from zloop.engine.stream cimport Stream


cdef class WritingTransport(TransportBase):
    cdef ListHook anchorage      # in the list of that name; the first attribute, at one offset in all transports
    cdef object __weakref__
    cdef dict __dict__           # programs set attributes, and replace methods, on transports
    cdef Stream stream           # opened by the derived class, with itself as the owner
    cdef Loop loop               # None once the connection is lost; its `anchored` owns a transport at work
    cdef object protocol         # None once the connection is lost
    cdef object context          # protocol callbacks run in it; while shares_context, a snapshot of it
    cdef object unscheduled      # what _end_unscheduled() is to say
    cdef cpp_bool closing        # close() or abort() was called, or an error was met
    cdef cpp_bool protocol_paused  # pause_writing() was called last
    cdef cpp_bool shares_context  # `context` is a ContextCache's: to be copied before anything enters it
    cdef int conn_lost           # not 0: nothing can be sent any more; counts the writes since
    cdef size_t high_water       # bytes
    cdef size_t low_water        # bytes

    cdef object own_context(self)
    cdef int end_soon(self, object exception) except -1
    cdef bint takes_writes(self) noexcept
    cdef int write_failed(self, object exception) except -1
    cdef int send(self, object data) except -1
    cdef int send_borrowed(self, object data) except -1
    cdef int rest_waits(self, int status) except -1
    cdef int flush_queue(self) except -1
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1
    cdef int anchor(self) except -1


cdef (size_t, size_t) water_marks(object high, object low) except *
cdef int queue_bytes(Stream* stream, object data) except -1
cdef int write_memory(Stream* stream, object data, const char* memory, size_t size) except? -1
cdef int queue_rest(Stream* stream, object data, const char* rest, size_t size) except? -1
cdef int end_in_context(object transport, object context, object exception) except -1
cdef void release_bytes(void* data) noexcept
cdef object bytes_of(object data)
