from zloop.engine.ring_buffer cimport ReadyQueue

cdef extern from "binding/prefetch.hpp" namespace "zloop::binding":
    void prefetch_handle(const ReadyQueue& queue) noexcept
