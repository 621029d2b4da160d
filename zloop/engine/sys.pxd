from zloop.engine.socket cimport sockaddr, sockaddr_storage, socklen_t

cdef extern from "zloop/sys.hpp" namespace "zloop::sys" nogil:
    ssize_t recv(int fd, void* data, size_t size) noexcept
    ssize_t send(int fd, const void* data, size_t size) noexcept
    ssize_t recv_from(int fd, void* data, size_t size, sockaddr_storage* sender, socklen_t* sender_size) noexcept
    ssize_t send_to(int fd, const void* data, size_t size, const sockaddr* peer, socklen_t peer_size) noexcept
    int open_socket(int family, int type, int protocol) noexcept
    int connect(int fd, const sockaddr* peer, socklen_t peer_size) noexcept
    int finish_connect(int fd) noexcept
    int set_nodelay(int fd) noexcept
    int local_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept
    int peer_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept
    int shutdown_write(int fd) noexcept
    int accept(int listener, sockaddr_storage* peer, socklen_t* peer_size) noexcept
    int close(int fd) noexcept
