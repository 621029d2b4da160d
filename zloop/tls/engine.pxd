# A connection's TLS, and the portable way to do it.


cdef class TlsEngine:
    cdef object sslobj         # an ssl.SSLObject, or what the context makes in its place
    cdef size_t encrypted_size    # how much write_into() gave last, bytes

    cdef bint do_handshake(self) except -1
    cdef int shutdown(self) except -1
    cdef int feed(self, const char* data, size_t size) except -1
    cdef int retain(self) except -1
    cdef Py_ssize_t unread(self) except -1
    cdef bint readable(self) except -1
    cdef Py_ssize_t readable_max(self) except -1
    cdef Py_ssize_t read(self, char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t write_into(self, const char* data, Py_ssize_t size, char* memory, size_t capacity) except -2
    cdef object collect(self)
    cdef Py_ssize_t pending_output(self) except -1


cdef class PortableEngine(TlsEngine):
    cdef object incoming       # ssl.MemoryBIO: received
    cdef object outgoing       # ssl.MemoryBIO: to be sent
    cdef bint cut_short        # the last read() filled its memory

    cdef Py_ssize_t decrypted(self) except -1


cdef tuple again_errors


cdef PortableEngine make_portable_engine(object sslobj, object incoming, object outgoing)
cdef TlsEngine make_no_engine()
