from libc.stdint cimport int64_t

cdef extern from "zloop/timer_heap.hpp" namespace "zloop":
    cdef cppclass TimerNode:
        void* owner
        bint queued
        bint cancelled

    cdef cppclass TimerHeap:
        ctypedef void (*ReleaseFn)(void* owner) noexcept

        TimerHeap(ReleaseFn release_owner) noexcept
        size_t size() noexcept
        void push(TimerNode& node, int64_t deadline_ns) except +
        bint cancel(TimerNode& node) noexcept
        int64_t next_deadline() noexcept
        void* pop_due(int64_t now_ns) noexcept
        void clear() noexcept

cdef extern from "zloop/timer_heap.hpp" namespace "zloop::TimerHeap":
    int64_t never
