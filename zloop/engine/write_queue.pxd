cdef extern from "zloop/write_queue.hpp" namespace "zloop":
    cdef cppclass Segment:
        const char* data
        size_t size
        void* reference

    cdef cppclass WriteQueue:
        ctypedef void (*ReleaseFn)(void* reference) noexcept
