# The reading half of a TLS connection's protocol.
from zloop.tls.engine cimport TlsEngine
from zloop.transports.receiver cimport NativeProtocol


cdef class TlsReader(NativeProtocol):
    cdef TlsEngine engine
    cdef readonly object _app_protocol   # None once the connection is lost
    cdef bint app_is_buffered            # it is an asyncio.BufferedProtocol
    cdef NativeProtocol app_native       # its C-level interface, if it has one that lends memory; else None
    cdef bint holds_outcome              # the application has not been told yet of the end, or of the error:
    cdef object held_error               # None for the end

    cdef int set_protocol(self, object protocol) except -1
    cdef int read_once(self) except -2
    cdef int read_copied(self, Py_ssize_t capacity) except -2
    cdef int read_native(self, Py_ssize_t capacity) except -2
    cdef int read_buffered(self) except -2
    cdef int hold_outcome(self, int last, object error) except -1
    cdef int take_outcome(self) except -2
    cdef int fill(self, char* data, Py_ssize_t size, Py_ssize_t* filled) except -2
