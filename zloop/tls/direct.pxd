# TLS by calls of the ssl module's own OpenSSL.
from zloop.engine.openssl cimport ssl_st
from zloop.engine.tls_session cimport TlsSession
from zloop.tls.engine cimport TlsEngine


cdef class DirectEngine(TlsEngine):
    cdef object connection     # the SSLObject's _ssl._SSLSocket, which owns the session's SSL
    cdef TlsSession session
    cdef bint handshakes_directly  # the handshake passes the ssl module by, until it is over or has failed

    cdef bint open(self, ssl_st* pointer) except -1
    cdef int raise_failure(self) except -1


cdef TlsEngine make_engine(object context, bint server_side, object server_hostname)
