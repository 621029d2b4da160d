cdef extern from "zloop/invariants.hpp" namespace "zloop":
    struct NamedCount:
        const char* name
        long count

    NamedCount live_count(size_t index) noexcept
