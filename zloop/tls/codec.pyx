# cython: language_level=3
"""From received bytes to plain ones, from plain ones to bytes to be sent: the two ways in which zloop does TLS.

Both stand on the ssl.SSLObject that the user's context makes. Its own methods do the handshake and the shutdown, so
that verification, callbacks and every error in them are the ssl module's. They differ in how application data passes.

DirectCodec calls SSL_read() and SSL_write() of the very OpenSSL that the interpreter's ssl module has loaded, and gives
the SSLObject's connection a BIO of zloop's in place of its memory BIOs. For that it has to know where the ssl module
keeps its pointers, which is not promised to anybody: they are looked for, once in a process, and what is reached
through them is held against what the ssl module says, once for each context. Any difference, and the portable way is
taken.

PortableCodec is that: ssl.MemoryBIO and the SSLObject's read() and write(). ZLOOP_TLS=portable in the environment asks
for it.
"""
import os
import ssl
import sys
import weakref
from asyncio.log import logger

from cpython.buffer cimport PyBUF_READ, PyBUF_WRITE
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject, PyTypeObject
from cython cimport no_gc_clear

from zloop.binding.sealed_types cimport seal_type
from zloop.engine.openssl cimport (
    OpenSsl, bio_st, find_memory_bio, find_pointer, find_ssl, has_tls_method, pointer_at, ssl_ctx_st, ssl_st
)
from zloop.engine.tls_session cimport session_failed, session_starved

from zloop.core import settings

import _ssl

cdef tuple again_errors = (ssl.SSLWantReadError, ssl.SSLSyscallError)

# A record of OpenSSL's holds no more: RFC 8446, 5.1.
cdef enum:
    record_size_max = 16384


cdef class TlsCodec:
    """One connection's TLS, between its transport and its protocol. Its `sslobj` is what the program sees of it.

    read() and write() return -1 when they cannot go on before more is received; read() returns 0 when the peer has said
    that nothing follows. This class itself is for where no connection is any more: nothing comes out of it.
    """

    # Goes on with the handshake. True: it is over; False: more has to be received. Raises what the ssl module raises.
    cdef bint shake_hands(self) except -1:
        try:
            self.sslobj.do_handshake()
        except again_errors:
            return False
        return True

    # Tells the peer that nothing follows. Raises what the ssl module raises: also while the peer has not told the same.
    cdef int say_farewell(self) except -1:
        self.sslobj.unwrap()
        return 0

    # Received bytes. They are left where they are until retain(), which copies what is unread then.
    cdef int feed(self, const char* data, size_t size) except -1:
        return 0

    cdef int retain(self) except -1:
        return 0

    # Received bytes that OpenSSL has not taken.
    cdef Py_ssize_t unread(self) except -1:
        return 0

    # False: read() would return -1.
    cdef bint readable(self) except -1:
        return False

    # At most about so many bytes can be read. Asked when something can.
    cdef Py_ssize_t readable_max(self) except -1:
        return 0

    cdef Py_ssize_t read(self, char* data, Py_ssize_t size) except -2:
        return -1

    # All or nothing is encrypted, for collect().
    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2:
        return -1

    # As write() for what is sent at once: `sealed_size` bytes of `memory`. What did not fit is left for collect().
    cdef Py_ssize_t write_into(self, const char* data, Py_ssize_t size, char* memory, size_t capacity) except -2:
        cdef Py_ssize_t count = self.write(data, size)
        self.sealed_size = 0
        return count

    # What is to be sent next: an exact bytes object, or None.
    cdef object collect(self):
        return None

    # Bytes for collect().
    cdef Py_ssize_t uncollected(self) except -1:
        return 0


@no_gc_clear  # the session's SSL lives as long as `connection` does
cdef class DirectCodec(TlsCodec):
    """Straight to OpenSSL."""

    cdef bint open(self, ssl_st* pointer) except -1:
        return self.session.open(openssl[0], pointer)

    # OpenSSL says by a number what the module says by an exception: that it waits. Others may run meanwhile, as with
    # the module. What is final is asked of the module in any case, whose words and exceptions these are.
    cdef bint shake_hands(self) except -1:
        cdef Py_ssize_t result
        if self.shakes_directly:
            with nogil:
                result = self.session.shake_hands()
            if result == session_starved:
                return False
        is_over = TlsCodec.shake_hands(self)
        if self.session.output_lost():
            raise MemoryError
        return is_over

    # The module takes an error that others have left in OpenSSL's queue for one of this call.
    cdef int say_farewell(self) except -1:
        openssl.ERR_clear_error()
        try:
            TlsCodec.say_farewell(self)
        finally:
            if self.session.output_lost():
                raise MemoryError
        return 0

    cdef int feed(self, const char* data, size_t size) except -1:
        self.session.feed(data, size)
        return 0

    cdef int retain(self) except -1:
        self.session.retain()
        return 0

    cdef Py_ssize_t unread(self) except -1:
        return self.session.unread()

    cdef bint readable(self) except -1:
        return self.session.readable()

    cdef Py_ssize_t readable_max(self) except -1:
        return self.session.readable_max()

    cdef Py_ssize_t read(self, char* data, Py_ssize_t size) except -2:
        cdef Py_ssize_t count = self.session.read(data, size)
        if count == session_failed:
            self.raise_failure()
        return count

    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2:
        cdef Py_ssize_t count = self.session.write(data, size)
        if count == session_failed:
            self.raise_failure()
        return count

    cdef Py_ssize_t write_into(self, const char* data, Py_ssize_t size, char* memory, size_t capacity) except -2:
        cdef Py_ssize_t count
        self.session.lend(memory, capacity)
        count = self.session.write(data, size)
        self.sealed_size = self.session.take_back()
        if count == session_failed:
            self.raise_failure()
        return count

    cdef object collect(self):
        if self.session.output_size() == 0:
            return None
        sealed = PyBytes_FromStringAndSize(self.session.output(), <Py_ssize_t>self.session.output_size())
        self.session.clear_output()
        return sealed

    cdef Py_ssize_t uncollected(self) except -1:
        return self.session.output_size()

    # OpenSSL's error, as the ssl module's exception for it. A connection that has failed also fails at its handshake,
    # with what stands in the queue of errors; so the ssl module does the wording.
    cdef int raise_failure(self) except -1:
        cdef const char* reason = openssl.ERR_reason_error_string(openssl.ERR_peek_last_error())
        text = "unknown error" if reason == NULL else reason.decode()
        try:
            self.connection.do_handshake()
        except again_errors:
            pass
        openssl.ERR_clear_error()
        raise ssl.SSLError(ssl.SSL_ERROR_SSL, text)


cdef class PortableCodec(TlsCodec):
    """By way of the ssl module."""

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

    cdef Py_ssize_t uncollected(self) except -1:
        return self.outgoing.pending


cdef TlsCodec make_codec(object context, bint server_side, object server_hostname):
    """A connection's codec, by the way that its context allows. Raises what the context's wrap_bio() raises."""
    cdef PortableCodec codec
    incoming = ssl.MemoryBIO()
    outgoing = ssl.MemoryBIO()
    sslobj = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    direct = make_direct_codec(sslobj, incoming, outgoing)
    if direct is not None:
        return direct
    codec = PortableCodec.__new__(PortableCodec)
    codec.sslobj = sslobj
    codec.incoming = incoming
    codec.outgoing = outgoing
    return codec


cdef TlsCodec make_no_codec():
    """Of where no connection is."""
    return TlsCodec.__new__(TlsCodec)


# ---- the direct way: is it safe?

# Where the ssl module's objects keep their pointers, bytes from their beginnings; valid once `layout_problem` is "".
# All loops have them in common: written together, once, by whoever was the first to find them, and read ever after.
cdef const OpenSsl* openssl = NULL  # static
cdef Py_ssize_t bio_offset = -1   # in an ssl.MemoryBIO
cdef Py_ssize_t ssl_offset = -1   # in an _ssl._SSLSocket
cdef Py_ssize_t context_offset = -1  # in an ssl.SSLContext
cdef object layout_problem = None    # None: not looked for yet; else why the direct way is closed, "" if it is open

# openssl/ssl.h: peer verification, and failing without a certificate.
cdef dict verify_flags = {ssl.CERT_NONE: 0, ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 1 | 2}

# The module's own, under the one that ssl.SSLContext has in Python.
cdef object get_msg_callback = _ssl._SSLContext._msg_callback.__get__

# Context -> why its connections cannot go the direct way, "" if they can.
cdef object verdicts = weakref.WeakKeyDictionary()


cdef DirectCodec make_direct_codec(object sslobj, object incoming, object outgoing):
    """None if this connection has to go the portable way."""
    cdef DirectCodec codec
    cdef ssl_st* connection
    if not is_plain(sslobj):
        return None
    owner = sslobj._sslobj
    context = owner.context
    verdict = verdicts.get(context)
    if verdict is None:
        verdict = judge(context, sslobj, incoming, outgoing)
        verdicts[context] = verdict
        logger.debug("TLS of %r: %s", context, verdict or f"straight to {ssl.OPENSSL_VERSION}")
    if verdict or not is_consistent(owner, incoming, outgoing):
        return None
    codec = DirectCodec.__new__(DirectCodec)
    codec.sslobj = sslobj
    codec.connection = owner
    # Writing the log of keys may fail at any step, which only the module tells of.
    codec.shakes_directly = (
        type(sslobj).do_handshake is ssl.SSLObject.do_handshake and context.keylog_filename is None
    )
    connection = <ssl_st*>pointer_at(<PyObject*>codec.connection, ssl_offset)
    return codec if codec.open(connection) else None


cdef bint is_plain(object sslobj) except -1:
    """Whether nobody could tell that the object's read() and write() are passed by."""
    kind = type(sslobj)
    return (
        isinstance(sslobj, ssl.SSLObject)
        and kind.read is ssl.SSLObject.read
        and kind.write is ssl.SSLObject.write
        and type(sslobj._sslobj) is _ssl._SSLSocket
        and get_msg_callback(sslobj._sslobj.context) is None  # which may raise in the middle of a record
    )


cdef bint is_consistent(object connection, object incoming, object outgoing) except -1:
    """Whether an _ssl._SSLSocket's SSL is tied to these two BIOs."""
    cdef const ssl_st* pointer = <const ssl_st*>pointer_at(<PyObject*>connection, ssl_offset)
    return (
        openssl.SSL_get_rbio(pointer) == pointer_at(<PyObject*>incoming, bio_offset)
        and openssl.SSL_get_wbio(pointer) == pointer_at(<PyObject*>outgoing, bio_offset)
    )


cdef str judge(object context, object sslobj, object incoming, object outgoing):
    """Why connections of a context cannot go the direct way, "" if they can; shown on its first one."""
    cdef const ssl_st* connection
    cdef const ssl_ctx_st* pointer
    global layout_problem
    if settings.tls_way() == "portable":
        return "through the ssl module, as ZLOOP_TLS demands"
    if layout_problem is None:
        layout_problem = find_layout()
    if layout_problem:
        return layout_problem
    if not is_consistent(sslobj._sslobj, incoming, outgoing):
        return "through the ssl module, whose connections are not laid out alike"
    connection = <const ssl_st*>pointer_at(<PyObject*>sslobj._sslobj, ssl_offset)
    pointer = <const ssl_ctx_st*>pointer_at(<PyObject*>context, context_offset)
    if openssl.SSL_get_SSL_CTX(connection) != pointer or not has_tls_method(openssl[0], pointer):
        return "through the ssl module, whose contexts are not laid out alike"
    answers = (
        openssl.SSL_CTX_get_options(pointer),
        openssl.SSL_CTX_get_verify_mode(pointer),
        openssl.SSL_CTX_get_security_level(pointer),
        openssl.SSL_is_server(connection),
    )
    options = int(context.options) & 0xFFFF_FFFF_FFFF_FFFF
    if answers != (options, verify_flags[context.verify_mode], context.security_level, sslobj.server_side):
        return "through the ssl module, which says other things than its OpenSSL"
    return ""


def way_of_tls():
    """How TLS goes in this process, as the debug log says it of a context."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    sslobj = context.wrap_bio(incoming, outgoing, server_side=True)
    return judge(context, sslobj, incoming, outgoing) or f"straight to {ssl.OPENSSL_VERSION}"


cdef str find_layout():
    """Look for the ssl module's OpenSSL, and for the pointers to it in a connection that is never used.

    Why that has failed, "" if it has not. No function of OpenSSL gets a pointer before it is known for what it is.
    """
    cdef const OpenSsl* library
    cdef Py_ssize_t bio, connections, contexts
    path = getattr(_ssl, "__file__", None)
    if path is None:
        return "through the ssl module, which is built into the interpreter"
    if not ssl.OPENSSL_VERSION.startswith("OpenSSL ") or ssl.OPENSSL_VERSION_INFO < (3,):
        return f"through the ssl module, whose library is {ssl.OPENSSL_VERSION}"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "through the ssl module, whose locks are needed without a GIL"
    library = OpenSsl.load(os.fsencode(path))
    if library == NULL or library.OpenSSL_version_num() != ssl.OPENSSL_VERSION_NUMBER:
        return "through the ssl module, whose OpenSSL is not to be found"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connection = context.wrap_bio(incoming, outgoing, server_side=True)._sslobj
    if type(connection) is not _ssl._SSLSocket:
        return "through the ssl module, whose connections are of an unknown type"
    bio = find_memory_bio(library[0], <PyObject*>incoming, ssl.MemoryBIO.__basicsize__)
    if bio < 0 or bio != find_memory_bio(library[0], <PyObject*>outgoing, ssl.MemoryBIO.__basicsize__):
        return "through the ssl module, whose memory BIOs are of an unknown layout"
    connections = find_ssl(
        library[0],
        <PyObject*>connection,
        _ssl._SSLSocket.__basicsize__,
        <const bio_st*>pointer_at(<PyObject*>incoming, bio),
        <const bio_st*>pointer_at(<PyObject*>outgoing, bio),
    )
    if connections < 0:
        return "through the ssl module, whose connections are of an unknown layout"
    contexts = find_pointer(
        <PyObject*>context,
        _ssl._SSLContext.__basicsize__,
        library.SSL_get_SSL_CTX(<const ssl_st*>pointer_at(<PyObject*>connection, connections)),
    )
    if contexts < 0:
        return "through the ssl module, whose contexts are of an unknown layout"
    publish(library, bio, connections, contexts)
    return ""


# No other thread runs in between.
cdef void publish(const OpenSsl* library, Py_ssize_t bio, Py_ssize_t connections, Py_ssize_t contexts) noexcept:
    global openssl, bio_offset, ssl_offset, context_offset
    openssl, bio_offset, ssl_offset, context_offset = library, bio, connections, contexts


seal_type(<PyTypeObject*>TlsCodec, False)
seal_type(<PyTypeObject*>DirectCodec, False)
seal_type(<PyTypeObject*>PortableCodec, False)
