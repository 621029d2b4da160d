# The two ways in which TLS is done: by OpenSSL itself, and by the ssl module's memory BIOs.
from zloop.engine.openssl cimport ssl_st
from zloop.engine.tls_session cimport TlsSession


cdef class TlsCodec:
    cdef object sslobj         # an ssl.SSLObject, or what the context makes in its place
    cdef size_t sealed_size    # how much write_into() gave last, bytes

    cdef bint shake_hands(self) except -1
    cdef int say_farewell(self) except -1
    cdef int feed(self, const char* data, size_t size) except -1
    cdef int retain(self) except -1
    cdef Py_ssize_t unread(self) except -1
    cdef bint readable(self) except -1
    cdef Py_ssize_t readable_max(self) except -1
    cdef Py_ssize_t read(self, char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2
    cdef Py_ssize_t write_into(self, const char* data, Py_ssize_t size, char* memory, size_t capacity) except -2
    cdef object collect(self)
    cdef Py_ssize_t uncollected(self) except -1


cdef class DirectCodec(TlsCodec):
    cdef object connection     # the SSLObject's _ssl._SSLSocket, which owns the session's SSL
    cdef TlsSession session
    cdef bint shakes_directly  # the handshake goes past the ssl module, until it is over or has failed

    cdef bint open(self, ssl_st* pointer) except -1
    cdef int raise_failure(self) except -1


cdef class PortableCodec(TlsCodec):
    cdef object incoming       # ssl.MemoryBIO: received
    cdef object outgoing       # ssl.MemoryBIO: to be sent
    cdef bint cut_short        # the last read() filled its memory

    cdef Py_ssize_t decrypted(self) except -1


cdef TlsCodec make_codec(object context, bint server_side, object server_hostname)
cdef TlsCodec make_no_codec()
