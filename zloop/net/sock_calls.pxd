# What runs per sock_* call.
from zloop.core.handles cimport Handle
from zloop.core.descriptors cimport FdWatcher
from zloop.core.loop cimport Loop


# One try at an operation, which does not wait: its result, or `would_block`. What `argument` is, is the attempt's own.
ctypedef object (*Attempt)(Loop loop, object sock, object argument)


cdef class Unsent:
    cdef object view          # of all that sock_sendall() was given, as bytes
    cdef Py_ssize_t position  # how many of them have been sent


cdef class Operation(Handle):
    cdef object sock
    cdef Attempt attempt
    cdef object argument
    cdef bint for_reading
    cdef FdWatcher watcher    # None: not registered
    cdef object future        # what the task waits for
    cdef bint awaited         # the task has it
    cdef object result        # `would_block` until there is one
    cdef object exception     # None: it has not failed

    cdef int try_again(self) except -1
    cdef int wait_again(self) except -2
    cdef int end(self) except -1
    cdef int abandon(self) except -1
