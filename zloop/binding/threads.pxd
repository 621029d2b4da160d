from zloop.engine.ring_buffer cimport ReadyQueue

cdef extern from "binding/threads.hpp" namespace "zloop::binding":
    cdef cppclass LoopInbox:
        LoopInbox() except +
        void push(void* item) except +
        bint pending() noexcept
        size_t take_into(ReadyQueue& queue) except +
