cdef extern from "zloop/poller.hpp" namespace "zloop":
    const unsigned interest_none
    const unsigned interest_read
    const unsigned interest_write
