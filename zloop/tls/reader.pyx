# cython: language_level=3
"""Decrypts received bytes, and passes them to the application's protocol as its kind of protocol takes them."""
from asyncio import BufferedProtocol

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject, PyTypeObject

from zloop.binding.sealed_types cimport seal_type
from zloop.transports.receiver cimport cut_bytes, native_protocol

cdef extern from "Python.h":
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* data, Py_ssize_t size) except NULL

# Up to this many bytes are decrypted on the stack and copied; for more the bytes object is made first, and cut to size.
cdef enum:
    scratch_size = 4 * 1024


cdef class TlsReader(NativeProtocol):
    """The reading half of a TLS connection's protocol."""

    cdef int set_protocol(self, object protocol) except -1:
        self._app_protocol = protocol
        self.app_is_buffered = isinstance(protocol, BufferedProtocol)
        native = native_protocol(protocol)
        self.app_native = native if native is not None and native.lends else None
        return 0

    # Decrypts what there is for one callback of the protocol. 1: there may be more; 0: close_notify has come; -1: more
    # has to be received first.
    cdef int read_once(self) except -2:
        if self.holds_outcome:
            return self.take_outcome()
        if not self.engine.readable():
            return -1
        if self.app_is_buffered:
            return self.read_buffered()
        if self.app_native is not None:
            return self.read_native(self.engine.readable_max())
        return self.read_copied(self.engine.readable_max())

    cdef int read_copied(self, Py_ssize_t capacity) except -2:
        cdef Py_ssize_t filled = 0
        cdef int last = -1
        cdef PyObject* made = NULL  # owned
        cdef char[scratch_size] scratch  # of this call alone: asking for an error lets other threads run
        cdef char* target = scratch
        if capacity > scratch_size:
            made = new_bytes(NULL, capacity)
            target = PyBytes_AS_STRING(<object>made)
        try:
            last = self.fill(target, capacity, &filled)
            error = None
        except BaseException as exc:
            error = exc
        payload = cut_bytes(made, filled) if made != NULL else PyBytes_FromStringAndSize(scratch, filled)
        try:
            if filled > 0:
                self._app_protocol.data_received(payload)
        except (KeyboardInterrupt, SystemExit):
            self.hold_outcome(last, error)
            raise
        if error is not None:
            raise error
        return last

    cdef int read_native(self, Py_ssize_t capacity) except -2:
        cdef NativeProtocol native = self.app_native
        cdef Py_ssize_t filled = 0
        cdef int last = -1
        cdef char* target
        if not native.lend(&target, <size_t>capacity):
            return self.read_copied(capacity)
        try:
            last = self.fill(target, capacity, &filled)
            error = None
        except BaseException as exc:
            error = exc
        native.filled(<size_t>filled)  # which runs no code of the application
        if error is not None:
            raise error
        return last

    cdef int read_buffered(self) except -2:
        cdef Py_buffer view
        cdef Py_ssize_t filled = 0
        cdef int last = -1
        buffer = self._app_protocol.get_buffer(self.engine.unread())
        PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        try:
            if view.len == 0:
                raise RuntimeError("get_buffer() returned an empty buffer")
            last = self.fill(<char*>view.buf, view.len, &filled)
            error = None
        except BaseException as exc:
            error = exc
        finally:
            PyBuffer_Release(&view)
        try:
            if filled > 0:
                self._app_protocol.buffer_updated(filled)
        except (KeyboardInterrupt, SystemExit):
            self.hold_outcome(last, error)
            raise
        if error is not None:
            raise error
        return last

    # For when SystemExit or KeyboardInterrupt leaves the application's code: what ended the reading of these bytes the
    # engine does not tell of again, and the next read_once() has it.
    cdef int hold_outcome(self, int last, object error) except -1:
        self.holds_outcome = last == 0 or error is not None
        self.held_error = error
        return 0

    cdef int take_outcome(self) except -2:
        self.holds_outcome = False
        error, self.held_error = self.held_error, None
        if error is not None:
            raise error
        return 0

    # Decrypts until `size` bytes are there (1), nothing more can be (-1) or nothing more will be (0). `filled` counts.
    cdef int fill(self, char* data, Py_ssize_t size, Py_ssize_t* filled) except -2:
        cdef Py_ssize_t count
        while filled[0] < size:
            count = self.engine.read(data + filled[0], size - filled[0])
            if count <= 0:
                return <int>count
            filled[0] += count
            if not self.engine.readable():
                return -1
        return 1


seal_type(<PyTypeObject*>TlsReader, False)
