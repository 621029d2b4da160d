cdef extern from "zloop/hook_list.hpp" namespace "zloop":
    cdef cppclass ListHook:
        ListHook() except +
        bint linked() noexcept
        void leave() noexcept

    # The hook lies at the same offset in all members of one list.
    cdef cppclass HookList:
        HookList() except +
        bint empty() noexcept
        void add(ListHook& hook, void* member) noexcept
        void* pop_front() noexcept
