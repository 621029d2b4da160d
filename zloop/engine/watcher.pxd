cdef extern from "zloop/watcher.hpp" namespace "zloop":
    cdef cppclass WatcherOps:
        void (*on_ready)(void* owner, unsigned ready) noexcept

    cdef cppclass Watcher:
        Watcher() except +
        int fd() noexcept
        unsigned interest() noexcept
        bint attached() noexcept
        bint lost() noexcept
        void renew() noexcept
