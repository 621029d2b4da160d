cdef extern from "zloop/shared_buffer.hpp" namespace "zloop":
    cdef cppclass SharedBuffer:
        size_t size() noexcept

    cdef cppclass Loan:
        Loan() noexcept
        char* begin(SharedBuffer& lender) noexcept
        void end() noexcept
