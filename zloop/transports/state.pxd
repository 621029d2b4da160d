# What the transports and acceptors of a loop share.
from zloop.core.loop cimport Loop


cdef class TransportState:
    cdef Py_buffer view          # of a BufferedProtocol's buffer, during one transport's read
    cdef object direct_buffer    # what has the memory of a direct read, during one: a bytes object or a NativeProtocol
    cdef dict acceptors          # id of its socket object -> Acceptor; owns each that serves, with that object


cdef TransportState transport_state(Loop loop)
