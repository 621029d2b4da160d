# The transport of a connected stream socket.
from cpython.object cimport PyObject
from libcpp cimport bool as cpp_bool
from libcpp.memory cimport unique_ptr

from zloop.core.loop cimport Loop
from zloop.engine.address cimport SmallAddress
from zloop.engine.hook_list cimport ListHook
from zloop.engine.listener cimport sockaddr_storage, socklen_t
from zloop.transports.receiver cimport NativeProtocol
from zloop.transports.writing cimport WritingTransport


cdef class SocketTransport(WritingTransport):
    cdef NativeProtocol native   # the protocol's native face, if it has one; else None
    cdef object sock             # owns the descriptor, held open against its other users; None: not made yet, or closed
    cdef tuple kind              # family, type and protocol of a socket object that is made when asked for; else None
    cdef SmallAddress peer       # of such a connection: its peername, until somebody asks
    cdef unique_ptr[SmallAddress] local  # and its sockname, when it is closed
    cdef object server           # the asyncio Server that counts this transport, or None
    cdef ListHook membership     # in that server's Clients
    cdef object empty_waiter     # a future that waits for an empty write queue: sendfile is in progress
    cdef int fd                  # kept for repr() when the socket is gone
    cdef cpp_bool holds_fd       # until the connection is let go; while there is no `sock`, `fd` is the transport's own
    cdef cpp_bool reads_in_place  # much comes at a time: the next read goes straight to where its bytes are to be
    cdef cpp_bool eof_written    # write_eof() was called
    cdef readonly cpp_bool _paused  # pause_reading() was called last

    cdef int receive(self, const char* data, size_t size) except -1
    cdef int tell(self, str method, object argument) except -1
    cdef int told(self, PyObject* result, str method) except -1
    cdef int deliver_natively(self, NativeProtocol native, const char* data, size_t size) except -1
    cdef int protocol_failed(self, str method) except -1
    cdef void lost_bytes(self, object exception, Loop loop) noexcept
    cdef void broken(self, object exception, Loop loop) noexcept
    cdef int read_in_place(self, bint on) except -1
    cdef bint lend_place(self, char** data, size_t* size) except -1
    cdef int place_filled(self, ssize_t result) except -1
    cdef int nothing_received(self, ssize_t result) except -1
    cdef int receive_end(self) except -1
    cdef bint lend_buffer(self, char** data, size_t* size) except -1
    cdef int buffer_filled(self, ssize_t result) except -1
    cdef bint dropped(self) except -1
    cdef int flushed(self) except -1
    cdef int room_made(self) except -1
    cdef int finish_writing(self) except -1
    cdef int send_lent(self, const char* data, size_t size) except -1
    cdef int queue_all(self, object list_of_data) except -1
    cdef int fail(self, object exception, str message) except -1
    cdef int force_close(self, object exception) except -1
    cdef int schedule_connection_lost(self, object exception) except -1
    cdef int let_go(self) except -1
    cdef int close_descriptor(self) except -1
    cdef object socket_object(self)
    cdef int shut_down_writing(self) except -1
    cdef int describe(self, object name) except -1
    cdef int note_local_address(self) except -1


cdef object tie_socket(
    Loop loop, object sock, object protocol, object waiter, dict extra, object server, object context)
cdef SocketTransport new_bare_transport(
    Loop loop, int fd, const SmallAddress& peer, tuple kind, object protocol, object waiter, object server,
    object context)


# For every kind of transport.
cdef str describe_transport(
    object transport, Loop loop, bint closed, bint closing, int fd, bint reading, bint blocked, size_t pending)
cdef int describe_socket(dict extra, object sock) except -1
