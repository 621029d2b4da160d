from zloop.engine.ring_buffer cimport ReadyQueue

cdef extern from "zloop/inbox.hpp" namespace "zloop":
    cdef cppclass Inbox:
        Inbox() except +
        void push(void* item) except +
        bint pending() noexcept
        size_t take_into(ReadyQueue& queue) except +
