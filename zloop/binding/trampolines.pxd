cdef extern from "binding/trampolines.hpp" namespace "zloop::binding":
    # call_method(owner, Class.method, report, arguments of the method...): C++ checks the types.
    int call_method(void* owner, ...) noexcept
