# The transport of a connected stream socket.
from libcpp.optional cimport optional

from zloop._loop cimport Loop
from zloop.binding.transport_base cimport TransportBase
from zloop.engine.stream cimport Stream


cdef class SocketTransport(TransportBase):
    cdef object __weakref__
    cdef dict __dict__           # programs set attributes, and replace methods, on transports
    cdef optional[Stream] stream_storage
    cdef Stream* stream          # in stream_storage
    cdef Loop loop               # None once the connection is lost; its `anchored` owns a transport at work
    cdef object reference        # a weak one to this transport: what the loop's `transports` has
    cdef bint anchored           # in the loop's set of that name
    cdef object protocol         # None once the connection is lost
    cdef readonly object _sock   # owns the descriptor, held open against its other users; None once closed
    cdef object server           # the asyncio Server that counts this transport, or None
    cdef readonly object _context     # protocol callbacks run in it
    cdef int fd                  # kept for repr() and for the loop's table when the socket is gone
    cdef Py_buffer read_view     # the protocol's buffer, during one read
    cdef bint closing            # close() or abort() was called, or an error was met
    cdef int conn_lost           # connection_lost() is scheduled; counts writes after that, too
    cdef bint eof_written        # write_eof() was called
    cdef readonly bint _paused    # pause_reading() was called last
    cdef bint protocol_paused    # pause_writing() was called last
    cdef size_t high_water       # bytes
    cdef size_t low_water        # bytes
    cdef object empty_waiter     # a future that waits for an empty write queue: sendfile is in progress

    cdef int receive(self, const char* data, size_t size) except -1
    cdef int receive_end(self) except -1
    cdef bint lend_buffer(self, char** data, size_t* size) except -1
    cdef int buffer_filled(self, ssize_t result) except -1
    cdef int flushed(self) except -1
    cdef int room_made(self) except -1
    cdef int finish_writing(self) except -1
    cdef int enqueue(self, object data) except -1
    cdef int flush_now(self) except -1
    cdef int balance(self) except -1
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1
    cdef int fail(self, object exception, str message) except -1
    cdef int force_close(self, object exception) except -1
    cdef int schedule_connection_lost(self, object exception) except -1
    cdef int anchor(self) except -1
    cdef int let_go(self) except -1


cdef SocketTransport new_socket_transport(
    Loop loop, object sock, object protocol, object waiter, dict extra, object server, object context)


# For every kind of transport.
cdef str describe_transport(
    object transport, Loop loop, bint closing, int fd, bint reading, bint blocked, size_t pending)
cdef (size_t, size_t) water_marks(object high, object low) except *
cdef int describe_socket(dict extra, object sock) except -1
