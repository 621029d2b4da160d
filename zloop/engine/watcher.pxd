cdef extern from "zloop/watcher.hpp" namespace "zloop":
    cdef cppclass WatcherOps:
        void (*on_ready)(Watcher& watcher, unsigned ready) noexcept

    cdef cppclass Watcher:
        Watcher() except +
        int fd() noexcept
        unsigned interest() noexcept
        bint attached() noexcept
        bint lost() noexcept
        void renew() noexcept

    cdef cppclass OwnedWatcher(Watcher):
        OwnedWatcher() except +
        void set_owner(void* owner) noexcept

        @staticmethod
        void* owner_of(Watcher& watcher) noexcept
