# The native part of the sock_* methods.
from zloop.core.handles cimport Handle
from zloop.core.descriptors cimport FdWatcher
from zloop.core.loop cimport Loop


# One attempt at an operation, which does not block: its result, or `would_block`. Each attempt has its own `argument`.
ctypedef object (*Attempt)(Loop loop, object sock, object argument)


cdef class Unsent:
    cdef object view          # a memoryview of sock_sendall()'s data, as bytes
    cdef Py_ssize_t position  # the number of bytes sent


cdef class Operation(Handle):
    cdef object sock
    cdef Attempt attempt
    cdef object argument
    cdef bint for_reading
    cdef FdWatcher watcher    # None: not registered
    cdef object future        # the task waits for it
    cdef bint awaited         # the future has been yielded to the task
    cdef object result        # `would_block` until there is one
    cdef object exception     # None unless the attempt failed

    cdef int try_again(self) except -1
    cdef int wait_again(self) except -2
    cdef int end(self) except -1
    cdef int abandon(self) except -1
