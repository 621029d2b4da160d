from libc.stdint cimport int64_t

from zloop.engine.shared_buffer cimport SharedBuffer
from zloop.engine.watcher cimport Watcher, WatcherOps

cdef extern from "zloop/reactor.hpp" namespace "zloop":
    cdef cppclass Reactor:
        Reactor() except +
        int open() noexcept
        void close() noexcept
        bint is_open() noexcept
        int poller_fd() noexcept
        int attach(Watcher& watcher, int fd, const WatcherOps& ops) noexcept
        int set_interest(Watcher& watcher, unsigned interest) noexcept
        int arm(Watcher& watcher, unsigned interest) noexcept
        void disarm(Watcher& watcher) noexcept
        bint is_lost(Watcher& watcher) noexcept
        bint refresh(Watcher& watcher) noexcept
        void detach(Watcher& watcher) noexcept
        void* user_of(int fd) noexcept
        size_t watched() noexcept
        bint skips_poll(size_t ignored) noexcept
        void reset_adaptive_polling() noexcept
        void disable_adaptive_polling() noexcept
        int wait(int64_t timeout_ns) noexcept nogil
        void dispatch() noexcept
        bint notify() noexcept
        void interrupt_dispatch() noexcept
        SharedBuffer& read_buffer() noexcept
        SharedBuffer& output_buffer() noexcept

cdef extern from "zloop/reactor.hpp" namespace "zloop::Reactor":
    const size_t read_buffer_size
    const size_t output_buffer_size
