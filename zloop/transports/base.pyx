# cython: language_level=3
"""What all transports share: their life from connection_made() to connection_lost(), and their flow control.

    asyncio.BaseTransport
      AsyncioBase                 _asyncio_base.cpp
        BaseTransport             protocol, context, reading state, failure, keep-alive, the end
          ReadPipeTransport       pipe.pyx
          WritingTransport        flow control of what is written
            DatagramTransport     datagram.pyx
            StreamTransport       stream.pyx: an engine's Stream that is written to
              WritePipeTransport  pipe.pyx
              LazySocketTransport lazy_socket.pyx: a socket object that is made when it is asked for
                SocketTransport   stream_socket.pyx

Each class at the end of a branch derives from asyncio's class of its kind, too.

A transport at work, one that waits for the kernel, is kept alive by its loop; one that waits for nothing is kept alive
by its holders alone, as with asyncio's selector. It owns its descriptor from the moment at which it is returned.
"""
import warnings
from asyncio.log import logger

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport free_threaded, load_shared
from zloop.core.contexts cimport PyContext_Enter, PyContext_Exit
from zloop.core.handles cimport raise_current
from zloop.engine.flow_control cimport mark_max

from zloop.core.waiters import set_result_unless_cancelled


cdef class BaseTransport(AsyncioBase):
    """A descriptor that is tied to a protocol."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        self.unpin()

    def __del__(self):
        if not self.is_open():
            return
        try:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        finally:
            # Also where the warning is an error. The loop gets the reference back if this is not its thread.
            if not free_threaded or self.loop is None or not self.loop.take_dropped(self):
                self.release()

    def _release_dropped(self):
        """In the loop's thread, after another thread has given up the last reference."""
        if self.is_open():
            self.release()

    # Without a GIL the collector, in whichever thread it runs, calls the finalizer of everything in a cycle: it would
    # close the socket of a transport that __del__() has given back to its loop, which closes it, too. A reference that
    # the collector does not know of keeps the owner of the descriptor, a socket or a file object, out of the cycle.
    cdef int pin(self, object owner) except -1:
        if free_threaded:
            Py_INCREF(owner)
            self.pinned = <PyObject*>owner
        return 0

    cdef int unpin(self) except -1:
        cdef PyObject* owner = self.pinned
        if free_threaded and owner != NULL:
            self.pinned = NULL
            Py_DECREF(<object>owner)
        return 0

    # True while the transport has its descriptor.
    cdef bint is_open(self) noexcept:  # pragma: no cover: each kind has its own
        raise NotImplementedError

    # ---- protocol and state

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        with cython.critical_section(self):
            protocol = self.protocol
        return protocol

    def set_protocol(self, protocol):
        """Pass what comes from here on to another protocol."""
        owner_only(self)
        self.replace_protocol(protocol)

    # The only way to set it.
    cdef int replace_protocol(self, object protocol) except -1:
        with cython.critical_section(self):
            _previous, self.protocol = self.protocol, protocol  # released outside
        return 0

    cdef int check_owner(self) except -1:
        cdef Loop loop = self.loop
        return 0 if loop is None else loop.check_thread()

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
        return self.context

    # ---- reading

    cdef int start_reading(self) except -1:  # pragma: no cover: each kind has its own
        raise NotImplementedError

    cdef int stop_reading(self) noexcept:  # pragma: no cover: each kind has its own
        raise NotImplementedError

    cdef bint wants_data(self) noexcept:
        return not self.closing and not self._paused

    def is_reading(self):
        """True when what comes is passed to the protocol."""
        return self.wants_data()

    def pause_reading(self):
        """Pass nothing to the protocol until resume_reading(). Does nothing when closing or paused."""
        owner_only(self)
        if not self.wants_data():
            return
        self._paused = True
        self.stop_reading()
        self.update_keepalive()
        if self.loop.debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Pass what comes to the protocol again. Does nothing when closing or not paused.

        OSError if the system refuses to watch the descriptor; the transport ends with that error, too.
        """
        owner_only(self)
        if self.closing or not self._paused:
            return
        self._paused = False
        self._start_reading()
        if self.loop.debug:
            logger.debug("%r resumes reading", self)

    def _start_reading(self):
        """Scheduled behind connection_made(), which may have paused or closed."""
        if self.wants_data():
            self.watch()

    # The transport ends if the system refuses to watch its descriptor: nothing would ever come.
    cdef int watch(self) except -1:
        try:
            self.start_reading()
        except (OSError, MemoryError) as exc:
            self.loop.check_closed()
            self.force_close(exc)
            raise
        return self.update_keepalive()

    # ---- failure

    def _report(self, exc, message):
        if self.loop is not None:
            self.loop.call_exception_handler(
                {"message": message, "exception": exc, "transport": self, "protocol": self.protocol}
            )

    # An error that ends the connection.
    cdef int fail(self, object exception, str message) except -1:
        if self.only_logs(exception):
            if self.loop is not None and self.loop.debug:
                logger.debug("%r: %s", self, message, exc_info=exception)
        else:
            try:
                self._report(exception, message)
            except MemoryError:
                pass  # connection_lost() passes it on
        return self.force_close(exception)

    # True for an error that is the network's business, and is only logged in debug mode.
    cdef bint only_logs(self, object exception) except -1:
        return isinstance(exception, OSError)

    # Counts a write to a connection that has ended, and warns after `unwarned` of them.
    cdef int drop_write(self, str warning, int unwarned) except -1:
        if self.dropped_writes >= unwarned:
            logger.warning(warning)
        else:
            self.dropped_writes += 1
        return 0

    # ---- the end

    def close(self):
        """Send what is queued, then end the connection. Nothing more is received."""
        owner_only(self)
        if self.closing:
            return
        self.closing = True
        self.stop_reading()
        self.update_keepalive()
        self.end_when_drained()

    # Bytes that wait to be sent.
    cdef size_t buffered(self) noexcept:
        return 0

    cdef int end_when_drained(self) except -1:
        if self.closing and not self.ending and self.buffered() == 0:
            self.schedule_connection_lost(None)
        return 0

    cdef int discard_pending(self) except -1:
        return 0

    # Ends the connection now; what waits to be sent is lost.
    cdef int force_close(self, object exception) except -1:
        if self.ending:
            return 0
        self.discard_pending()
        self.closing = True
        self.stop_reading()
        self.update_keepalive()
        return self.schedule_connection_lost(exception)

    # _call_connection_lost(exception) comes next, also when memory is out.
    cdef int schedule_connection_lost(self, object exception) except -1:
        self.ending = True
        try:
            self.loop.call_soon(self._call_connection_lost, exception, context=self.context)
        except MemoryError:
            self.unscheduled = exception
            self.loop.end_without_memory(self, self.keepalive)
        return 0

    def _end_unscheduled(self):
        """In place of the callback that there was no memory for."""
        exception, self.unscheduled = self.unscheduled, None
        end_in_context(self, self.context, exception)

    def _call_connection_lost(self, exc):
        """Call connection_lost(), once, and release everything."""
        if self.loop is None:
            return
        self.closing = self.ending = True
        try:
            self.protocol.connection_lost(exc)
        finally:
            try:
                self.release()
            finally:
                self.replace_protocol(None)
                self.loop = None

    # Gives back the engine's half, the descriptor, and the places in the loop's and the server's lists.
    cdef int release(self) except -1:  # pragma: no cover: each kind has its own
        raise NotImplementedError

    # ---- keep-alive

    # True while the transport waits for the kernel.
    cdef bint waits_for_kernel(self) noexcept:  # pragma: no cover: each kind has its own
        raise NotImplementedError

    # To be called wherever that may have changed. The caller holds a reference to the transport.
    cdef int update_keepalive(self) noexcept:
        return self.loop.update_keepalive(self.waits_for_kernel(), self, self.keepalive)


cdef class WritingTransport(BaseTransport):
    """A transport whose writes the kernel may not take at once."""

    @property
    def _protocol_paused(self):
        return bool(self.flow.paused())

    # ---- flow control

    def get_write_buffer_size(self):
        """Bytes written that the kernel has not taken."""
        return self.buffered()

    def get_write_buffer_limits(self):
        """The low and the high water mark of the write buffer, in bytes."""
        return (self.flow.low_water(), self.flow.high_water())

    def set_write_buffer_limits(self, high=None, low=None):
        """Set when pause_writing() (above high) and resume_writing() (at most low) are called: bytes.

        Defaults: high is 64 KiB, or four times low; low is a quarter of high. ValueError unless high >= low >= 0.
        """
        owner_only(self)
        set_water_marks(self.flow, high, low)
        self.pause_if_full()

    cdef int pause_if_full(self) except -1:
        if self.ending or not self.flow.pauses_at(self.buffered()):
            return 0
        try:
            self.protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.pause_writing() failed")
        return 0

    cdef int resume_if_drained(self) except -1:
        if not self.flow.resumes_at(self.buffered()):
            return 0
        try:
            PyContext_Enter(self.context)
            try:
                self.protocol.resume_writing()
            finally:
                PyContext_Exit(self.context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.resume_writing() failed")
        return 0

    # ---- the end

    def abort(self):
        """End the connection now; what the kernel has not taken is lost."""
        owner_only(self)
        self.force_close(None)

    def _force_close(self, exc):
        self.force_close(exc)

    def _fatal_error(self, exc, message="Fatal error on transport"):
        self.fail(exc, message)


cdef object check_new(Loop loop, object protocol):
    """The protocol's connection_made. A closed loop, and what is no protocol, raise before anything is tied."""
    loop.check_closed()
    return protocol.connection_made


cdef int begin(BaseTransport transport, object connection_made, object then, object waiter) except -1:
    """Schedule connection_made(), then() behind it (None: nothing), and the end of `waiter` (a future, or None).

    The transport closes its descriptor by itself from here on, whatever happens.
    """
    cdef Loop loop = transport.loop
    cdef object first = None  # a Handle, or what a subclass's call_soon() returns
    try:
        first = loop.call_soon(connection_made, transport, context=transport.context)
        if then is not None:
            loop.call_soon(then, context=transport.context)
        if waiter is not None:
            loop.call_soon(set_result_unless_cancelled, waiter, None, context=transport.context)
    except BaseException:  # memory is out: no connection_made() for a connection that is not going to be read
        transport.closing = True  # then() checks it
        try:
            if first is not None:
                first.cancel()
        finally:
            transport.release()
        raise
    return 0


# Reports the exception that is set, of a method that the engine has called to read.
cdef void read_callback_failed(BaseTransport transport, Loop loop) noexcept:
    try:
        raise_current()
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._read_ready()")


cdef int end_in_context(object transport, object context, object exception) except -1:
    PyContext_Enter(context)
    try:
        transport._call_connection_lost(exception)
    finally:
        PyContext_Exit(context)
    return 0


cdef int set_water_marks(FlowControl& flow, object high, object low) except -1:
    """Bytes, as set_write_buffer_limits() is asked for them. ValueError if they cross."""
    if high is None:
        high = 64 * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    flow.set_limits(min(high, mark_max), min(low, mark_max))
    return 0


cdef str describe_transport(BaseTransport transport, bint reading, bint blocked):
    """The repr() of a socket's transport."""
    cdef Loop loop
    info = [type(transport).__name__]
    if not transport.is_open():
        info.append("closed")
    elif transport.closing:
        info.append("closing")
    info.append(f"fd={transport.fd}")
    loop = transport.loop
    if loop is not None and not load_shared(loop.closed):
        info.append("read=polling" if reading else "read=idle")
        state = "polling" if blocked else "idle"
        info.append(f"write=<{state}, bufsize={transport.buffered()}>")
    return f"<{' '.join(info)}>"


seal_type(<PyTypeObject*>BaseTransport, False)
seal_type(<PyTypeObject*>WritingTransport, False)
