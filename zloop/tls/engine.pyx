# cython: language_level=3
"""From received bytes to plain ones, and from plain ones to bytes to be sent.

An engine stands on the ssl.SSLObject that the user's context makes, whose own methods do the handshake and the
shutdown: verification, callbacks and every error in them are the ssl module's. Engines differ in how application data
passes. PortableEngine takes the module's way, ssl.MemoryBIO and the SSLObject's read() and write(). DirectEngine
(direct.pyx) passes the module by.
"""
import ssl

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyTypeObject

from zloop.binding.sealed_types cimport seal_type

# The handshake, a read or a write needs more received bytes.
cdef tuple again_errors = (ssl.SSLWantReadError, ssl.SSLSyscallError)

# A record's plaintext is no longer: RFC 8446, 5.1.
cdef enum:
    record_size_max = 16384


cdef class TlsEngine:
    """TLS of one connection, between its transport and its protocol. Its `sslobj` is what the program sees of it.

    read() and write() return -1 when they need more received bytes first; read() returns 0 after the peer's
    close_notify. This class itself stands where there is no connection any more: nothing comes out of it.
    """

    # Goes on with the handshake. True: it is over; False: it needs more received bytes. Raises as the ssl module does.
    cdef bint do_handshake(self) except -1:
        try:
            self.sslobj.do_handshake()
        except again_errors:
            return False
        return True

    # Sends close_notify. Raises as the ssl module does: also while the peer's close_notify has not come.
    cdef int shutdown(self) except -1:
        self.sslobj.unwrap()
        return 0

    # Passes in received bytes. They stay where they are until retain(), which copies what is unread then.
    cdef int feed(self, const char* data, size_t size) except -1:  # pragma: no cover: of an open connection
        return 0

    cdef int retain(self) except -1:
        return 0

    # Received bytes that OpenSSL has not taken.
    cdef Py_ssize_t unread(self) except -1:
        return 0

    # False: read() would return -1.
    cdef bint readable(self) except -1:  # pragma: no cover: of an open connection
        return False

    # About the largest number of bytes that can be read now. Called where readable() is true.
    cdef Py_ssize_t readable_max(self) except -1:  # pragma: no cover: of an open connection
        return 0

    cdef Py_ssize_t read(self, char* data, Py_ssize_t size) except -2:  # pragma: no cover: of an open connection
        return -1

    # Encrypts all or nothing, for collect().
    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2:  # pragma: no cover: of an open connection
        return -1

    # As write(), into `memory`: `encrypted_size` bytes of it, to be sent at once. What does not fit is for collect().
    cdef Py_ssize_t write_into(self, const char* data, Py_ssize_t size, char* memory, size_t capacity) except -2:
        cdef Py_ssize_t count = self.write(data, size)
        self.encrypted_size = 0
        return count

    # What is to be sent next: an exact bytes object, or None.
    cdef object collect(self):  # pragma: no cover: of an open connection
        return None

    # Bytes for collect().
    cdef Py_ssize_t pending_output(self) except -1:
        return 0


cdef class PortableEngine(TlsEngine):
    """TLS by way of the ssl module."""

    cdef int feed(self, const char* data, size_t size) except -1:
        self.incoming.write(PyMemoryView_FromMemory(<char*>data, size, PyBUF_READ))
        return 0

    cdef Py_ssize_t unread(self) except -1:
        return self.incoming.pending

    cdef bint readable(self) except -1:
        return self.incoming.pending > 0 or self.decrypted() > 0

    # OpenSSL may hold most of a record; and decrypted bytes.
    cdef Py_ssize_t readable_max(self) except -1:
        return self.incoming.pending + self.decrypted() + record_size_max

    # There are some only if the last read() was too small for all.
    cdef Py_ssize_t decrypted(self) except -1:
        return self.sslobj.pending() if self.cut_short else 0

    cdef Py_ssize_t read(self, char* data, Py_ssize_t size) except -2:
        cdef Py_ssize_t count
        target = PyMemoryView_FromMemory(data, size, PyBUF_WRITE)
        try:
            count = self.sslobj.read(size, target)
        except again_errors:
            count = -1
        finally:
            target.release()
        self.cut_short = count == size
        return count

    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2:
        source = PyMemoryView_FromMemory(<char*>data, size, PyBUF_READ)
        try:
            return self.sslobj.write(source)
        except again_errors:
            return -1
        finally:
            source.release()

    cdef object collect(self):
        return self.outgoing.read() if self.outgoing.pending else None

    cdef Py_ssize_t pending_output(self) except -1:
        return self.outgoing.pending


cdef PortableEngine make_portable_engine(object sslobj, object incoming, object outgoing):
    """Of an SSLObject and the two MemoryBIOs that it was made with."""
    cdef PortableEngine engine = PortableEngine.__new__(PortableEngine)
    engine.sslobj = sslobj
    engine.incoming = incoming
    engine.outgoing = outgoing
    return engine


cdef TlsEngine make_no_engine():
    """Where there is no connection."""
    return TlsEngine.__new__(TlsEngine)


seal_type(<PyTypeObject*>TlsEngine, False)
seal_type(<PyTypeObject*>PortableEngine, False)
