from libcpp cimport bool as cpp_bool

from zloop.engine.address cimport Address
from zloop.engine.socket cimport sockaddr_storage, socklen_t

cdef extern from "binding/address.hpp" namespace "zloop::binding":
    object address_tuple(const sockaddr_storage& storage, socklen_t size)
    object sender_address(const sockaddr_storage& storage, socklen_t size)
    cpp_bool parse_address(object address, int family, Address& parsed) noexcept
