# The transport of a connected stream socket.
cimport cython
from zloop.core.loop cimport Loop
from zloop.engine.hook_list cimport ListHook
from zloop.transports.lazy_socket cimport LazySocketTransport
from zloop.transports.receiver cimport NativeProtocol
from zloop.transports.state cimport TransportState


@cython.final
cdef class SocketTransport(LazySocketTransport):
    cdef NativeProtocol native   # the protocol's C-level interface, if it has one; else None
    cdef object server           # the asyncio Server that counts this transport, or None
    cdef ListHook membership    # in that server's Clients

    cdef int receive(self, const char* data, size_t size) except -1
    cdef int deliver(self, object data) except -1
    cdef int deliver_natively(self, NativeProtocol native, const char* data, size_t size) except -1
    cdef int protocol_failed(self, str method) except -1
    cdef int read_directly(self, bint on) except -1
    cdef int get_memory(self, char** data, size_t* size) except -1
    cdef int memory_filled(self, ssize_t result) except -1
    cdef bint lend_direct_buffer(self, char** data, size_t* size) except -1
    cdef int direct_buffer_filled(self, TransportState state, ssize_t result) except -1
    cdef bint lend_buffer(self, char** data, size_t* size) except -1
    cdef int buffer_filled(self, TransportState state, ssize_t result) except -1
    cdef int nothing_received(self, ssize_t result) except -1
    cdef int read_failed(self, int error) except -1
    cdef int receive_end(self) except -1
    cdef int refuse_write(self, str method) except -1
    cdef bint dropped(self) except -1
    cdef int send_borrowed(self, const char* data, size_t size) except -1
    cdef int queue_all(self, object list_of_data) except -1
    cdef int write_failed_later(self, int error) except -1
    cdef int flushed(self) except -1
    cdef int finish_writing(self) except -1
    cdef int kernel_has_room(self) except -1
    cdef object set_empty_waiter(self)
    cdef int wake_empty_waiter(self, object exception) except -1
    cdef int attach_server(self, object server) except -1


cdef SocketTransport open_transport(Loop loop, int fd, object protocol, object context)
