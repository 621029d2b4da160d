from libc.stdint cimport int64_t

from zloop.engine.ring_buffer cimport ReadyQueue

cdef extern from "zloop/timer_heap.hpp" namespace "zloop":
    cdef cppclass TimerNode:
        pass

    cdef cppclass TimerHeap:
        size_t size() noexcept
        bint holds(const TimerNode& node) noexcept
        void push(TimerNode& node, void* owner, int64_t deadline_ns) except +
        bint remove(TimerNode& node) noexcept
        int64_t next_deadline() noexcept
        void take_due(int64_t now_ns, ReadyQueue& queue) except +
        void clear(void (*release)(void* owner) noexcept) noexcept

cdef extern from "zloop/timer_heap.hpp" namespace "zloop::TimerHeap":
    int64_t never
