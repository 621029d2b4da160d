cdef extern from "binding/transport_base.hpp":
    ctypedef class zloop.transports._asyncio_base.AsyncioBase [object ZloopTransportBase, check_size error]:
        cdef object extra "_extra"
