cdef extern from "binding/audit.hpp" namespace "zloop::binding":
    bint is_audited() noexcept
