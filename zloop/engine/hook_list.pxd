cdef extern from "zloop/hook_list.hpp" namespace "zloop":
    cdef cppclass ListHook:
        ListHook() except +
        bint linked() noexcept
        void leave() noexcept

    cdef cppclass HookList:
        HookList() except +
        bint empty() noexcept
        void add(ListHook& hook, void* owner) noexcept
        void* pop_front() noexcept
