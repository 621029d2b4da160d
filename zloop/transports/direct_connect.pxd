# A connection that is begun without a socket object.
from zloop.engine.address cimport Address


cdef class ConnectingDescriptor:
    cdef int fd             # owned; -1: given away, or closed
    cdef tuple params       # family, type and protocol, as plain numbers
    cdef object address     # what it connects to, as error messages have it
    cdef readonly bint pending  # the connection is not known to be there

    cpdef int detach(self) noexcept


cdef bint makes_plain_sockets() except -1
cdef bint connects_plainly() except -1
cdef bint parse_resolved(object address, int family, Address& peer) noexcept
cdef bint is_in_progress(int status) except -1
cdef bint is_connected(int fd, object address) except -1
