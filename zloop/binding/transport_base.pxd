cdef extern from "binding/transport_base.hpp":
    ctypedef class zloop._transport_base.TransportBase [object ZloopTransportBase, check_size error]:
        cdef object extra "_extra"

    ctypedef class zloop._transport_base.DatagramTransportBase [object ZloopTransportBase, check_size error]:
        cdef object extra "_extra"

    ctypedef class zloop._transport_base.ReadTransportBase [object ZloopTransportBase, check_size error]:
        cdef object extra "_extra"
