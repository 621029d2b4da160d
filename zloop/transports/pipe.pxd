# The transports of a pipe's ends.
cimport cython
from zloop.engine.stream cimport Stream
from zloop.transports.base cimport BaseTransport
from zloop.transports.stream cimport StreamTransport


@cython.final
cdef class ReadPipeTransport(BaseTransport):
    cdef Stream stream
    cdef public object _pipe     # owns the descriptor; None once closed
    cdef int duplicate           # the descriptor that is watched in place of fd, owned; -1: fd itself

    cdef int receive(self, const char* data, size_t size) except -1
    cdef int receive_end(self) except -1
    cdef int read_failed(self, int error) except -1


@cython.final
cdef class WritePipeTransport(StreamTransport):
    cdef public object _pipe     # owns the descriptor; None once closed
    cdef int duplicate           # the descriptor that is watched in place of fd, owned; -1: fd itself

    cdef int flushed(self) except -1
    cdef int reader_gone(self) except -1
    cdef int write_failed_later(self, int error) except -1
