# The system's socket addresses.
cdef extern from "<sys/socket.h>" nogil:
    cdef struct sockaddr:
        pass
    cdef struct sockaddr_storage:
        pass
    ctypedef unsigned int socklen_t
