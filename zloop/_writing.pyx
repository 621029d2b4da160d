# cython: language_level=3
"""What the transports that write to a stream share: the protocol, and flow control over what is queued."""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport SIZE_MAX

from zloop._handles cimport PyContext_Copy, PyContext_Enter, PyContext_Exit
from zloop.engine.write_queue cimport Segment

from zloop import diagnostics


cdef class WritingTransport(TransportBase):
    """A transport whose writes the kernel may not take at once."""

    def __cinit__(self):
        self.low_water, self.high_water = 16 * 1024, 64 * 1024  # as water_marks() has them, and objects made of none

    def __dealloc__(self):
        self.stream.close()  # here, as a destructor must not release what is queued

    def __init__(self):
        raise TypeError("transports are made by an event loop")

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        return self.protocol

    def is_closing(self):
        """True when the transport is closed or on its way."""
        return self.closing

    @property
    def _loop(self):
        return self.loop

    @property
    def _protocol(self):
        return self.protocol

    @property
    def _context(self):
        return self.own_context()

    # For good: whoever asks may enter it, or change it, at any time.
    cdef object own_context(self):
        if self.shares_context:
            self.context = PyContext_Copy(self.context)
            self.shares_context = False
        return self.context

    @property
    def _protocol_paused(self):
        return bool(self.protocol_paused)

    def _report(self, exc, message):
        if self.loop is not None:
            self.loop.call_exception_handler(
                {"message": message, "exception": exc, "transport": self, "protocol": self.protocol}
            )

    # The kernel refused what was written.
    cdef int write_failed(self, object exception) except -1:
        raise NotImplementedError

    cdef int flush_now(self) except -1:
        cdef int status = self.stream.flush()
        if status < 0:
            self.write_failed(diagnostics.os_error(-status))
        return 0

    # ---- flow control

    def get_write_buffer_size(self):
        """Bytes written that the kernel has not taken."""
        self.flush_now()
        return self.stream.pending()

    def get_write_buffer_limits(self):
        """The low and the high water mark of the write buffer, in bytes."""
        return (self.low_water, self.high_water)

    def set_write_buffer_limits(self, high=None, low=None):
        """Set when pause_writing() (above high) and resume_writing() (at most low) are called: bytes.

        Defaults: high is 64 KiB, or four times low; low is a quarter of high. ValueError unless high >= low >= 0.
        """
        self.low_water, self.high_water = water_marks(high, low)
        if self.stream.pending() > self.high_water:
            self.flush_now()
        self.pause_protocol_if_full()

    cdef int pause_protocol_if_full(self) except -1:
        if self.protocol_paused or self.conn_lost or self.stream.pending() <= self.high_water:
            return 0
        self.protocol_paused = True
        try:
            self.protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.pause_writing() failed")
        return 0

    cdef int resume_protocol_if_drained(self) except -1:
        if not self.protocol_paused or self.stream.pending() > self.low_water:
            return 0
        self.protocol_paused = False
        try:
            context = self.own_context()
            PyContext_Enter(context)
            try:
                self.protocol.resume_writing()
            finally:
                PyContext_Exit(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.resume_writing() failed")
        return 0

    # ---- lifetime

    cdef int anchor(self) except -1:
        cdef bint waits = self.stream.reading() or self.stream.blocked() or self.stream.pending() > 0
        return self.loop.hold_while(waits, self, self.anchorage)


cdef (size_t, size_t) water_marks(object high, object low) except *:
    """The low and the high one, bytes, as set_write_buffer_limits() is asked for them. ValueError if they cross."""
    if high is None:
        high = 64 * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return min(low, SIZE_MAX), min(high, SIZE_MAX)


# Queues an exact bytes object by reference.
cdef int push_bytes(Stream* stream, object data) except -1:
    return push_part(stream, data, <size_t>PyBytes_GET_SIZE(data))


# Queues the first `size` bytes of one.
cdef int push_part(Stream* stream, object data, size_t size) except -1:
    cdef Segment segment
    segment.data = PyBytes_AS_STRING(data)
    segment.size = size
    segment.reference = <void*>data
    Py_INCREF(data)  # the queue's, given up by release_bytes()
    if stream.write(segment) < 0:
        Py_DECREF(data)
        raise MemoryError
    return 0


cdef void release_bytes(void* data) noexcept:
    Py_DECREF(<object><PyObject*>data)
