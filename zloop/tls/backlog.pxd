# What an application has written and TLS has not encrypted.


cdef class Backlog:
    cdef object chunks           # exact bytes objects, in a deque
    cdef Py_ssize_t offset       # bytes of the first chunk that are encrypted
    cdef Py_ssize_t size         # bytes, without those

    cdef int append(self, bytes chunk, Py_ssize_t done) except -1
    cdef int clear(self) except -1
    cdef bytes first(self)
    cdef int consume(self, Py_ssize_t count) except -1


cdef Backlog new_backlog()
