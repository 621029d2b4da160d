from zloop.engine.socket cimport sockaddr, sockaddr_storage, socklen_t

cdef extern from "zloop/address.hpp" namespace "zloop":
    cdef cppclass Address:
        Address() noexcept
        Address(const sockaddr_storage& storage, socklen_t size) noexcept
        int family() noexcept
        const sockaddr* data() noexcept
        socklen_t size() noexcept
        bint same_as(const sockaddr_storage& storage, socklen_t size) noexcept

    cdef cppclass SmallAddress:
        bint assign(const sockaddr_storage& storage, socklen_t size) noexcept
        socklen_t copy_to(sockaddr_storage& storage) noexcept
