# A transport whose socket object is made when it is asked for.
from libcpp cimport bool as cpp_bool
from libcpp.memory cimport unique_ptr

from zloop.engine.address cimport SmallAddress
from zloop.transports.stream cimport StreamTransport


cdef enum WriteState:
    EOF_WRITTEN = 1   # write_eof() was called
    SENDING_FILE = 2  # sendfile() is in progress


cdef class LazySocketTransport(StreamTransport):
    cdef object sock             # owns the descriptor, held open against its other users; None: not made yet, or closed
    cdef tuple params            # family, type and protocol of a socket object that is made when asked for; else None
    cdef SmallAddress peer       # of such a connection: its peername, until that is asked for
    cdef cpp_bool holds_fd       # until release(); while there is no `sock`, `fd` is the transport's own
    # Of SocketTransport, in the bytes that the address leaves:
    cdef cpp_bool reads_directly  # the next read goes straight to where its bytes are to be: much comes at a time
    cdef unsigned char write_state  # WriteState's bits; 0: write() may be called
    cdef unique_ptr[SmallAddress] local  # the sockname of such a connection, when it is closed

    cdef object socket_object(self)
    cdef int describe(self, object name) except -1
    cdef int note_local_address(self) except -1
    cdef int shut_down_writing(self) except -1
    cdef int close_descriptor(self) except -1


cdef int describe_socket(dict extra, object sock) except -1
