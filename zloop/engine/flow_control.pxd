from libcpp cimport bool as cpp_bool


cdef extern from "zloop/flow_control.hpp" namespace "zloop":
    cdef cppclass FlowControl:
        size_t high_water() noexcept
        size_t low_water() noexcept
        cpp_bool paused() noexcept
        void set_limits(size_t high, size_t low) noexcept
        void set_paused(cpp_bool paused) noexcept
        cpp_bool pauses_at(size_t size) noexcept
        cpp_bool pauses_from(size_t size) noexcept
        cpp_bool resumes_at(size_t size) noexcept


cdef extern from "zloop/flow_control.hpp" namespace "zloop::FlowControl":
    const size_t mark_max
