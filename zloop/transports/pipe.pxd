# The transports of a pipe's ends.
from zloop.binding.transport_base cimport ReadTransportBase
from zloop.core.loop cimport Loop
from zloop.engine.hook_list cimport ListHook
from zloop.engine.stream cimport Stream
from zloop.transports.writing cimport WritingTransport


cdef class ReadPipeTransport(ReadTransportBase):
    cdef ListHook anchorage      # in the list of that name; the first attribute, at one offset in all transports
    cdef object __weakref__
    cdef dict __dict__           # programs set attributes, and replace methods, on transports
    cdef Stream stream
    cdef Loop loop               # None once the connection is lost; its `anchored` owns a transport at work
    cdef object protocol         # None once the connection is lost
    cdef public object _pipe     # owns the descriptor; None once closed
    cdef object context          # protocol callbacks run in it
    cdef object unscheduled      # what _end_unscheduled() is to say
    cdef int fd                  # kept for repr() when the pipe is gone
    cdef int duplicate           # the descriptor that is watched in place of fd, owned; -1: fd itself
    cdef bint closing            # close() was called, or the end or an error was met
    cdef readonly bint _paused   # pause_reading() was called last

    cdef int receive(self, const char* data, size_t size) except -1
    cdef int receive_end(self) except -1
    cdef int fail(self, object exception) except -1
    cdef int end(self, object exception) except -1
    cdef int anchor(self) except -1
    cdef int let_go(self) except -1


cdef class WritePipeTransport(WritingTransport):
    cdef public object _pipe     # owns the descriptor; None once closed
    cdef int fd                  # kept for repr() when the pipe is gone
    cdef int duplicate           # the descriptor that is watched in place of fd, owned; -1: fd itself
    cdef bint ending             # connection_lost() is scheduled

    cdef int flushed(self) except -1
    cdef int reader_gone(self) except -1
    cdef int fail(self, object exception, str message) except -1
    cdef int end(self, object exception) except -1
    cdef int let_go(self) except -1
