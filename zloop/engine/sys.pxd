cdef extern from "zloop/sys.hpp" namespace "zloop::sys" nogil:
    int close(int fd) noexcept
