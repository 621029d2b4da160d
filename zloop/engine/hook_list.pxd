cdef extern from "zloop/hook_list.hpp" namespace "zloop":
    cdef cppclass OwnedHook:
        OwnedHook() except +
        bint linked() noexcept
        void leave() noexcept

    cdef cppclass OwnerList:
        OwnerList() except +
        bint empty() noexcept
        void add(OwnedHook& hook, void* owner) noexcept
        void* pop_front() noexcept
