from zloop.engine.reactor cimport Reactor
from zloop.engine.socket cimport sockaddr_storage, socklen_t

cdef extern from "zloop/listener.hpp" namespace "zloop":
    cdef cppclass ListenerOps:
        void (*on_accept)(void* owner, int fd, const sockaddr_storage& peer, socklen_t peer_size) noexcept
        void (*on_error)(void* owner, int error) noexcept

    cdef cppclass Listener:
        Listener(const ListenerOps& ops, void* owner) noexcept
        int open(Reactor& reactor, int fd, int burst) noexcept
        void close() noexcept
        bint is_open() noexcept
        bint lost() noexcept
        int start() noexcept
        void pause() noexcept
        void set_shared(bint shared) noexcept
        void line_up() noexcept

cdef extern from "zloop/listener.hpp" namespace "zloop::Listener":
    bint out_of_resources(int error) noexcept
