cdef extern from "binding/transport_base.hpp":
    ctypedef class zloop.transports._asyncio_bases.TransportBase [object ZloopTransportBase, check_size error]:
        cdef object extra "_extra"

    ctypedef class zloop.transports._asyncio_bases.DatagramTransportBase [object ZloopTransportBase, check_size error]:
        cdef object extra "_extra"

    ctypedef class zloop.transports._asyncio_bases.ReadTransportBase [object ZloopTransportBase, check_size error]:
        cdef object extra "_extra"
