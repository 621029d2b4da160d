cdef extern from "zloop/ring_buffer.hpp" namespace "zloop":
    cdef cppclass ReadyQueue:
        ReadyQueue() except +
        size_t size() noexcept
        bint empty() noexcept
        void push_back(void* item) except +
        void push_front(void* item) except +
        void* front() noexcept
        void* pop_front() noexcept
        void swap(ReadyQueue& other) noexcept
