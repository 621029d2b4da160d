from zloop.engine.listener cimport sockaddr_storage, socklen_t

cdef extern from "binding/address.hpp" namespace "zloop::binding":
    object address_tuple(const sockaddr_storage& storage, socklen_t size)
