# cython: language_level=3
"""TLS past the ssl module, and the proof that this is safe.

DirectEngine calls SSL_read() and SSL_write() of the very OpenSSL that the interpreter's ssl module has loaded, and
gives the SSLObject's connection a BIO of zloop's in place of its memory BIOs. It has to know where the ssl module's
objects keep their pointers, which no version of CPython promises: they are looked for, once in a process, and what is
reached through them is compared with what the ssl module says, once for each context. If anything differs, the
connection takes the portable engine. ZLOOP_TLS=portable in the environment asks for that.
"""
import os
import ssl
import weakref
from asyncio.log import logger

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject, PyTypeObject
from cython cimport no_gc_clear

from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport ObjectLock, free_threaded
from zloop.engine.openssl cimport (
    OpenSsl, bio_st, find_memory_bio, find_pointer, find_ssl, has_tls_method, pointer_at, ssl_ctx_st, ssl_st
)
from zloop.engine.tls_session cimport session_failed, session_want_read
from zloop.tls.engine cimport again_errors, make_portable_engine

from zloop.core import settings

import _ssl


@no_gc_clear  # the session's SSL lives as long as `connection` does
cdef class DirectEngine(TlsEngine):
    """TLS by calls of OpenSSL."""

    cdef bint open(self, ssl_st* pointer) except -1:
        return self.session.open(openssl[0], pointer)

    # OpenSSL says by a number, and the module by an exception, that more has to be received. The GIL is released
    # meanwhile, as in the module. The end of the handshake is the module's call, for its words and exceptions.
    #
    # Without a GIL, here and below: the connection's lock keeps other threads out that ask the SSLObject something.
    cdef bint do_handshake(self) except -1:
        cdef Py_ssize_t result
        cdef ObjectLock lock
        if self.handshakes_directly:
            if free_threaded:
                lock.lock(self.connection)
                result = self.session.do_handshake()
                lock.unlock()
            else:
                with nogil:
                    result = self.session.do_handshake()
            if result == session_want_read:
                return False
        is_over = TlsEngine.do_handshake(self)
        if self.session.output_lost():
            raise MemoryError
        return is_over

    # The module takes an error that another call has left in OpenSSL's queue for one of this call.
    cdef int shutdown(self) except -1:
        openssl.ERR_clear_error()
        try:
            TlsEngine.shutdown(self)
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
        cdef ObjectLock lock
        cdef Py_ssize_t count
        lock.lock(self.connection)
        count = self.session.read(data, size)
        lock.unlock()
        if count == session_failed:
            self.raise_failure()
        return count

    cdef Py_ssize_t write(self, const char* data, Py_ssize_t size) except -2:
        cdef ObjectLock lock
        cdef Py_ssize_t count
        lock.lock(self.connection)
        count = self.session.write(data, size)
        lock.unlock()
        if count == session_failed:
            self.raise_failure()
        return count

    cdef Py_ssize_t write_into(self, const char* data, Py_ssize_t size, char* memory, size_t capacity) except -2:
        cdef ObjectLock lock
        cdef Py_ssize_t count
        self.session.lend(memory, capacity)
        lock.lock(self.connection)
        count = self.session.write(data, size)
        lock.unlock()
        self.encrypted_size = self.session.take_back()
        if count == session_failed:
            self.raise_failure()
        return count

    cdef object collect(self):
        if self.session.output_size() == 0:
            return None
        ciphertext = PyBytes_FromStringAndSize(self.session.output(), <Py_ssize_t>self.session.output_size())
        self.session.clear_output()
        return ciphertext

    cdef Py_ssize_t pending_output(self) except -1:
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


# ---- where the ssl module's objects keep their pointers

# Where the ssl module's objects keep their pointers, bytes from their beginnings; valid once `layout_problem` is "".
# All loops share them: they are written together, once, by the first to find them, and only read afterwards.
cdef const OpenSsl* openssl = NULL  # static
cdef Py_ssize_t bio_offset = -1   # in an ssl.MemoryBIO
cdef Py_ssize_t ssl_offset = -1   # in an _ssl._SSLSocket
cdef Py_ssize_t context_offset = -1  # in an ssl.SSLContext
cdef object layout_problem = None    # None: not looked for yet; "" if it was found, else why not

# openssl/ssl.h: peer verification, and failing without a certificate.
cdef dict verify_flags = {ssl.CERT_NONE: 0, ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 1 | 2}

# The module's own, under the one that ssl.SSLContext has in Python.
cdef object get_msg_callback = _ssl._SSLContext._msg_callback.__get__

# Context -> why its connections cannot take the direct engine, "" if they can.
cdef object layout_results = weakref.WeakKeyDictionary()


cdef TlsEngine make_engine(object context, bint server_side, object server_hostname):
    """A connection's engine, as its context allows. Raises what the context's wrap_bio() raises."""
    incoming = ssl.MemoryBIO()
    outgoing = ssl.MemoryBIO()
    sslobj = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    engine = make_direct_engine(sslobj, incoming, outgoing)
    return make_portable_engine(sslobj, incoming, outgoing) if engine is None else engine


cdef TlsEngine make_direct_engine(object sslobj, object incoming, object outgoing):
    """None if this connection has to take the portable engine."""
    cdef DirectEngine engine
    cdef ssl_st* connection
    if not is_plain(sslobj):
        return None
    owner = sslobj._sslobj
    context = owner.context
    result = layout_results.get(context)
    if result is None:
        result = verify_layout(context, sslobj, incoming, outgoing)
        layout_results[context] = result
        logger.debug("TLS of %r: %s", context, result or f"straight to {ssl.OPENSSL_VERSION}")
    if result or not is_consistent(owner, incoming, outgoing):
        return None
    engine = DirectEngine.__new__(DirectEngine)
    engine.sslobj = sslobj
    engine.connection = owner
    # Writing the log of keys may fail at any step, which only the module reports.
    engine.handshakes_directly = (
        type(sslobj).do_handshake is ssl.SSLObject.do_handshake and context.keylog_filename is None
    )
    connection = <ssl_st*>pointer_at(<PyObject*>engine.connection, ssl_offset)
    return engine if engine.open(connection) else None


cdef bint is_plain(object sslobj) except -1:
    """Whether passing the object's read() and write() by makes no difference."""
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


cdef str verify_layout(object context, object sslobj, object incoming, object outgoing):
    """Why connections of a context cannot take the direct engine, "" if they can; found out by its first one."""
    cdef const ssl_st* connection
    cdef const ssl_ctx_st* pointer
    global layout_problem
    if settings.tls_backend() == "portable":
        return "through the ssl module, as ZLOOP_TLS demands"
    with cython.critical_section(layout_results):
        problem = layout_problem
    if problem is None:
        problem = find_layout()
        with cython.critical_section(layout_results):
            layout_problem = problem  # another thread has found the same
    if problem:
        return problem
    if not is_consistent(sslobj._sslobj, incoming, outgoing):
        return "through the ssl module, whose connections are not laid out alike"  # pragma: no cover: no such CPython
    connection = <const ssl_st*>pointer_at(<PyObject*>sslobj._sslobj, ssl_offset)
    pointer = <const ssl_ctx_st*>pointer_at(<PyObject*>context, context_offset)
    if openssl.SSL_get_SSL_CTX(connection) != pointer or not has_tls_method(openssl[0], pointer):
        return "through the ssl module, whose contexts are not laid out alike"  # pragma: no cover: no such CPython
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


def tls_backend():
    """The TLS backend of this process, in the debug log's words."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    sslobj = context.wrap_bio(incoming, outgoing, server_side=True)
    return verify_layout(context, sslobj, incoming, outgoing) or f"straight to {ssl.OPENSSL_VERSION}"


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
    library = OpenSsl.load(os.fsencode(path))
    if library == NULL or library.OpenSSL_version_num() != ssl.OPENSSL_VERSION_NUMBER:
        return "through the ssl module, whose OpenSSL is not to be found"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    connection = context.wrap_bio(incoming, outgoing, server_side=True)._sslobj
    if type(connection) is not _ssl._SSLSocket:
        return "through the ssl module, whose connections are of an unknown type"  # pragma: no cover: no such CPython
    bio = find_memory_bio(library[0], <PyObject*>incoming, ssl.MemoryBIO.__basicsize__)
    if bio < 0 or bio != find_memory_bio(library[0], <PyObject*>outgoing, ssl.MemoryBIO.__basicsize__):
        return "through the ssl module, whose memory BIOs are of an unknown layout"  # pragma: no cover: no such CPython
    connections = find_ssl(
        library[0],
        <PyObject*>connection,
        _ssl._SSLSocket.__basicsize__,
        <const bio_st*>pointer_at(<PyObject*>incoming, bio),
        <const bio_st*>pointer_at(<PyObject*>outgoing, bio),
    )
    if connections < 0:
        return "through the ssl module, whose connections are of an unknown layout"  # pragma: no cover: no such CPython
    contexts = find_pointer(
        <PyObject*>context,
        _ssl._SSLContext.__basicsize__,
        library.SSL_get_SSL_CTX(<const ssl_st*>pointer_at(<PyObject*>connection, connections)),
    )
    if contexts < 0:
        return "through the ssl module, whose contexts are of an unknown layout"  # pragma: no cover: no such CPython
    with cython.critical_section(layout_results):
        if layout_problem is None:  # no other thread was faster
            publish(library, bio, connections, contexts)
    return ""


cdef void publish(const OpenSsl* library, Py_ssize_t bio, Py_ssize_t connections, Py_ssize_t contexts) noexcept:
    global openssl, bio_offset, ssl_offset, context_offset
    openssl, bio_offset, ssl_offset, context_offset = library, bio, connections, contexts


seal_type(<PyTypeObject*>DirectEngine, False)
