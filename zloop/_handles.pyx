# cython: language_level=3
"""Handles: a callback with its arguments and context, to be run once by the loop.

A handle belongs to whoever holds a Python reference; the loop's queues each own one. Handles are made by a loop only.
``isinstance(handle, asyncio.Handle)`` holds: asyncio's class is written in Python with slots of its own, too heavy to
derive from, so ``__class__`` names it instead.
"""
import asyncio
import threading

from libc.math cimport ceil, isnan

from zloop.engine.timer_heap cimport TimerHeap, never

from zloop.diagnostics import creation_stack, describe_callback

cdef object asyncio_handle = asyncio.Handle
cdef object asyncio_timer_handle = asyncio.TimerHandle
# CPython 3.14 added a class for handles that other threads may cancel.
cdef object asyncio_thread_safe_handle = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)

cdef double ns_per_s = 1e9


cdef class Handle:
    """A callback scheduled with call_soon(), or a reader, writer or signal callback."""

    def __init__(self):
        raise TypeError("handles are made by an event loop")

    @property
    def __class__(self):
        return asyncio_handle

    def __repr__(self):
        if self.kept_repr is not None:
            return self.kept_repr
        return f"<{' '.join(self._repr_info())}>"

    def _repr_info(self):
        info = [self.__class__.__name__]
        if self._cancelled:
            info.append("cancelled")
        if self._callback is not None:
            info.append(describe_callback(self._callback, self._args, self._loop.get_debug()))
        if self._source_traceback:
            frame = self._source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def get_context(self):
        """The contextvars.Context the callback runs in."""
        return self._context

    def cancel(self):
        """Keep the callback from running, if it has not begun. Cancelling twice does nothing."""
        self.detach_callback()

    def cancelled(self):
        """True if cancel() was called."""
        return self._cancelled

    def _run(self):
        """Run the callback now. What it raises goes to the loop's exception handler."""
        self.run()

    cdef int detach_callback(self) except -1:
        if self._cancelled:
            return 0
        self._cancelled = True
        if self._loop.get_debug():
            self.kept_repr = repr(self)  # for "Executing <Handle ...> took ... seconds"
        self._callback = None
        self._args = None
        return 1

    # Fails only for SystemExit and KeyboardInterrupt, as asyncio's Handle._run: those leave the loop.
    cdef int run(self) except -1:
        # The callback may cancel its own handle, so both are held here.
        cdef object callback = self._callback
        cdef object args = self._args
        try:
            PyContext_Enter(self._context)
            try:
                callback(*args)
            finally:
                PyContext_Exit(self._context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # In the handle's context, which is left by now, and may be entered again by the exception handler.
            self._report(exc, callback, args)
        return 0

    def _report(self, exc, callback, args):
        described = describe_callback(callback, args, self._loop.get_debug())
        context = {"message": f"Exception in callback {described}", "exception": exc, "handle": self}
        if self._source_traceback:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)


cdef class ThreadSafeHandle(Handle):
    """A callback scheduled with call_soon_threadsafe() on CPython 3.14 and later.

    cancel() from another thread waits for a callback that has begun (a re-entrant lock: the callback itself may).
    """

    @property
    def __class__(self):
        return asyncio_thread_safe_handle

    def cancel(self):
        """Keep the callback from running; if another thread is running it, wait until it is done."""
        with self.lock:
            self.detach_callback()

    def cancelled(self):
        """True if cancel() was called."""
        with self.lock:
            return self._cancelled

    cdef int run(self) except -1:
        with self.lock:
            # The loop looked without the lock: a cancel may have come in between.
            return 0 if self._cancelled else Handle.run(self)


cdef class TimerHandle(Handle):
    """A callback scheduled with call_later() or call_at()."""

    @property
    def __class__(self):
        return asyncio_timer_handle

    @property
    def _scheduled(self):
        return self.node.queued

    def when(self):
        """The time at which the callback is due: seconds on the loop's clock."""
        return self._when

    def cancel(self):
        """Keep the callback from running, if it has not begun. Cancelling twice does nothing."""
        # Releasing the heap's reference must not end this object while it is at work: the caller holds another.
        if self.detach_callback():
            self.heap.cancel(self.node)

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.insert(2 if self._cancelled else 1, f"when={self._when}")
        return info

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        return self._when < (<TimerHandle>other)._when if isinstance(other, TimerHandle) else NotImplemented

    def __gt__(self, other):
        return self._when > (<TimerHandle>other)._when if isinstance(other, TimerHandle) else NotImplemented

    def __le__(self, other):
        if not isinstance(other, TimerHandle):
            return NotImplemented
        return self._when < (<TimerHandle>other)._when or self == other

    def __ge__(self, other):
        if not isinstance(other, TimerHandle):
            return NotImplemented
        return self._when > (<TimerHandle>other)._when or self == other

    def __eq__(self, other):
        if not isinstance(other, TimerHandle):
            return NotImplemented
        timer = <TimerHandle>other
        return (
            self._when == timer._when
            and self._callback == timer._callback
            and self._args == timer._args
            and self._cancelled == timer._cancelled
        )

    cdef int schedule(self, TimerHeap* heap) except -1:
        self.heap = heap
        self.node.owner = <void*>self
        heap.push(self.node, deadline_of(self._when))
        return 0


cdef inline int fill(Handle handle, object loop, object callback, object args, object context, bint debug) except -1:
    handle._loop = loop
    handle._callback = callback
    handle._args = args
    handle._context = PyContext_CopyCurrent() if context is None else context
    if debug:
        handle._source_traceback = creation_stack()
    return 0


cdef Handle new_handle(object loop, object callback, object args, object context, bint debug):
    cdef Handle handle = Handle.__new__(Handle)
    fill(handle, loop, callback, args, context, debug)
    return handle


cdef ThreadSafeHandle new_thread_safe_handle(object loop, object callback, object args, object context, bint debug):
    cdef ThreadSafeHandle handle = ThreadSafeHandle.__new__(ThreadSafeHandle)
    handle.lock = threading.RLock()
    fill(handle, loop, callback, args, context, debug)
    return handle


cdef TimerHandle new_timer_handle(object loop, double when, object callback, object args, object context, bint debug):
    cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
    handle._when = when
    fill(handle, loop, callback, args, context, debug)
    return handle


cdef int64_t deadline_of(double when) noexcept:
    """The first whole nanosecond at which `when` (seconds) has come, so that no timer fires early."""
    # asyncio's comparisons with NaN are all false, and its timer fires at once.
    if isnan(when):
        return 0
    cdef double ns = ceil(when * ns_per_s)
    # Nine quintillion nanoseconds are the type's end; 292 years away, whoever asks for it means never.
    if ns >= 9.2e18:
        return never
    if ns <= -9.2e18:
        return -never
    return <int64_t>ns
