from libc.stdint cimport int64_t

cdef extern from "zloop/clock.hpp" namespace "zloop" nogil:
    int64_t monotonic_ns() noexcept
