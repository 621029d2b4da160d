# cython: language_level=3
"""Handles: a callback with its arguments and context, to be run once by the loop.

A handle is kept alive by Python references and by the loop's queues, each of which owns one. Only a loop makes handles.
``isinstance(handle, asyncio.Handle)`` is true: asyncio's class is written in Python with slots of its own, too heavy to
derive from, so ``__class__`` names it instead.
"""
import asyncio
import threading

cimport cython
from cpython.float cimport PyFloat_CheckExact
from cpython.object cimport PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.math cimport ceil, isnan

from zloop.binding.context cimport call_in_context
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport free_threaded, load_shared, set_once, store_shared
from zloop.core.contexts cimport ContextCache, PyContext_Copy, PyContext_CopyCurrent, contexts_can_be_shared
from zloop.engine.timer_heap cimport never

from zloop.core.diagnostics import creation_stack, describe_callback

cdef object asyncio_handle = asyncio.Handle
cdef object asyncio_timer_handle = asyncio.TimerHandle
# CPython 3.14 added a class for handles that other threads may cancel.
cdef object asyncio_thread_safe_handle = getattr(asyncio.events, "_ThreadSafeHandle", asyncio.Handle)

cdef double ns_per_s = 1e9

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object thing)
    unsigned long PyThread_get_thread_ident()


cdef class LoopCore:
    """The part of a loop that handles use. Scheduler derives from it."""

    # No __cinit__(): see Scheduler.

    # Whether this thread may change the timers.
    cdef bint owns_timers(self) noexcept:  # pragma: no cover: Scheduler has its own
        return False

    # Queues a handle, of which the caller holds a reference, from another thread than the loop's.
    cdef int push_from_outside(self, Handle handle) except -1:  # pragma: no cover: Scheduler has its own
        raise NotImplementedError


@cython.freelist(128)
cdef class Handle:
    """A callback scheduled with call_soon(), or a reader, writer or signal callback."""

    @property
    def __class__(self):
        return asyncio_handle

    def __repr__(self):
        with cython.critical_section(self):
            described = self.repr_when_cancelled
        if described is not None:
            return described
        return f"<{' '.join(self._repr_info())}>"

    # asyncio's names: tools read them.

    @property
    def _callback(self):
        with cython.critical_section(self):
            callback = self.callback
        return callback

    @property
    def _args(self):
        with cython.critical_section(self):
            args = self.args
        return args

    @property
    def _cancelled(self):
        return load_shared(self.is_cancelled)

    def _repr_info(self):
        info = [self.__class__.__name__]
        if load_shared(self.is_cancelled):
            info.append("cancelled")
        with cython.critical_section(self):
            callback, args = self.callback, self.args
        if callback is not None:
            info.append(describe_callback(callback, args, self._loop.get_debug()))
        if self._source_traceback:
            frame = self._source_traceback[-1]
            info.append(f"created at {frame[0]}:{frame[1]}")
        return info

    def get_context(self):
        """Return the contextvars.Context in which the callback runs."""
        return self.own_context()

    @property
    def _context(self):
        return self.own_context()

    def cancel(self):
        """Cancel the callback, unless it has begun to run. A second call does nothing."""
        self.detach_callback()

    def cancelled(self):
        """Return True after cancel()."""
        return load_shared(self.is_cancelled)

    def _run(self):
        """Run the callback now, unless it is cancelled. An exception of it goes to the loop's exception handler."""
        if not load_shared(self.is_cancelled):
            self.own_context()
            self.run(None)

    # Any thread: run() takes what it calls as a whole, or not at all. 0 if another call was the first.
    cdef int detach_callback(self) except -1:
        cdef object described
        if not set_once(self.is_cancelled):
            return 0
        # `_loop` is None if the garbage collector has cleared this handle.
        if self._loop is not None and load_shared(self._loop.debug):
            described = repr(self)
            with cython.critical_section(self):
                self.repr_when_cancelled = described  # the warning about a slow callback shows it
        if free_threaded:
            with cython.critical_section(self):
                forget_callback(self)
        else:
            forget_callback(self)
        return 1

    # In the loop's thread, of a handle that was cancelled: it may be in a queue still that only that thread may change.
    cdef int leave_queues(self) except -1:
        return 0

    cdef object own_context(self):
        if self.shares_context:
            self.context = PyContext_Copy(self.context)
            self.shares_context = False
        return self.context

    # Raises SystemExit and KeyboardInterrupt only, as asyncio's Handle._run() does. `contexts` may be None for a handle
    # that has a context of its own. The exception handler is called here, so that a traceback has one frame of the loop
    # above the callback's, under the name of what runs it. Not to be called of a cancelled handle: it has no callback.
    cdef int run(self, ContextCache contexts) except -1:
        # The callback may cancel its own handle, so both are held here.
        cdef object callback, args, context, shared_copy = None
        cdef bint is_cancelled
        with cython.critical_section(self):
            is_cancelled = load_shared(self.is_cancelled)
            callback, args = self.callback, self.args
        if free_threaded and is_cancelled:  # by another thread, just now
            return 0
        if self.shares_context:
            shared_copy = self.context
            self.context = contexts.take_recycled(shared_copy)
            self.shares_context = False
        context = self.context
        if not call_in_context(context, callback, args):
            try:
                raise_current()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                # The handle's context has been left: the exception handler may enter it again.
                self._report(exc, callback, args)
        if shared_copy is not None and Py_REFCNT(self) == 1:  # the caller's reference: the context is needed no more
            self.context = None
            contexts.recycle(context, shared_copy)
        return 0

    def _report(self, exc, callback, args):
        described = describe_callback(callback, args, self._loop.get_debug())
        context = {"message": f"Exception in callback {described}", "exception": exc, "handle": self}
        if self._source_traceback:
            context["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(context)


cdef int raise_current() except -1:
    """Raise the exception that a C function has set."""
    return -1


cdef class ThreadSafeHandle(Handle):
    """A callback scheduled with call_soon_threadsafe() on CPython 3.14 and later.

    In other threads than the one that runs the callback, cancel() and cancelled() wait until it is done.
    """

    @property
    def __class__(self):
        return asyncio_thread_safe_handle

    def cancel(self):
        """Keep the callback from running; if another thread is running it, wait until it is done."""
        self.wait_while_running()
        self.detach_callback()

    def cancelled(self):
        """Return True after cancel()."""
        self.wait_while_running()
        return load_shared(self.is_cancelled)

    cdef int wait_while_running(self) except -1:
        cdef object finished, made = None
        while self.is_run_elsewhere():
            if made is None:
                made = threading.Event()
            # Making it took a while: look again, with nothing in between that would let another thread run.
            with cython.critical_section(self):
                if not self.is_run_elsewhere():
                    break
                if self.finished is None:
                    self.finished = made
                finished = self.finished
            finished.wait()
        return 0

    cdef bint is_run_elsewhere(self) noexcept:
        cdef unsigned long thread = load_shared(self.running_thread)
        return thread != 0 and thread != PyThread_get_thread_ident()

    cdef int run(self, ContextCache contexts) except -1:
        with cython.critical_section(self):
            self.running_thread = PyThread_get_thread_ident()
        try:
            return Handle.run(self, contexts)
        finally:
            with cython.critical_section(self):
                store_shared(self.running_thread, 0)
                finished, self.finished = self.finished, None
            if finished is not None:
                finished.set()


cdef class TimerHandle(Handle):
    """A callback scheduled with call_later() or call_at()."""

    @property
    def __class__(self):
        return asyncio_timer_handle

    @property
    def _scheduled(self):
        return self._loop is not None and self._loop.timers.holds(self.node)

    @property
    def _when(self):
        return self.seconds if self.given_when is None else self.given_when

    def when(self):
        """Return the time at which the callback is due: seconds on the loop's clock."""
        return self._when

    def cancel(self):
        """Cancel the callback, unless it has begun to run. A second call does nothing."""
        if Handle.detach_callback(self) and self._loop is not None:
            if free_threaded and not self._loop.owns_timers():
                self.ask_loop_to_remove()
            else:
                TimerHandle.leave_queues(self)

    cdef int leave_queues(self) except -1:
        if self._loop.timers.remove(self.node):
            Py_DECREF(self)  # the heap's reference; the caller holds another
        return 0

    # Another thread than the loop's must not touch the heap. The loop finds the handle among what is ready.
    cdef int ask_loop_to_remove(self) except -1:
        try:
            self._loop.push_from_outside(self)
        except MemoryError:
            pass  # it stays in the heap until it is due, and does nothing then
        return 0

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.insert(2 if load_shared(self.is_cancelled) else 1, f"when={self._when}")
        return info

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        return self._when < (<TimerHandle>other)._when if isinstance(other, TimerHandle) else NotImplemented

    def __gt__(self, other):
        return self._when > (<TimerHandle>other)._when if isinstance(other, TimerHandle) else NotImplemented

    def __le__(self, other):
        return self < other or self == other if isinstance(other, TimerHandle) else NotImplemented

    def __ge__(self, other):
        return self > other or self == other if isinstance(other, TimerHandle) else NotImplemented

    def __eq__(self, other):
        if not isinstance(other, TimerHandle):
            return NotImplemented
        timer = <TimerHandle>other
        return (
            self._when == timer._when
            and self._callback == timer._callback
            and self._args == timer._args
            and load_shared(self.is_cancelled) == load_shared(timer.is_cancelled)
        )

    cdef int schedule(self) except -1:
        self._loop.timers.push(self.node, <void*>self, deadline_of(self.seconds))
        Py_INCREF(self)
        return 0


cdef inline void forget_callback(Handle handle) noexcept:
    handle.callback = None
    handle.args = None


cdef inline int fill(
    Handle handle, LoopCore loop, object callback, object args, object context, bint runs_once
) except -1:
    handle._loop = loop
    handle.callback = callback
    handle.args = args
    if context is not None:
        handle.context = context
    elif contexts_can_be_shared and runs_once:
        handle.context = loop.contexts.share()
        handle.shares_context = True
    else:  # it may run more than once, and each run may change the context
        handle.context = PyContext_CopyCurrent()
    if loop.debug:
        handle._source_traceback = creation_stack()
    return 0


cdef Handle new_handle(LoopCore loop, object callback, object args, object context, bint runs_once):
    cdef Handle handle = Handle.__new__(Handle)
    fill(handle, loop, callback, args, context, runs_once)
    return handle


cdef ThreadSafeHandle new_thread_safe_handle(LoopCore loop, object callback, object args, object context):
    cdef ThreadSafeHandle handle = ThreadSafeHandle.__new__(ThreadSafeHandle)
    fill(handle, loop, callback, args, context, True)
    return handle


cdef TimerHandle new_timer_handle(LoopCore loop, object when, object callback, object args, object context):
    cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
    handle.seconds = when
    if not PyFloat_CheckExact(when):
        handle.given_when = when
    fill(handle, loop, callback, args, context, True)
    return handle


cdef int64_t deadline_of(double when) noexcept:
    """`when` (seconds) rounded up to nanoseconds, so that no timer fires early."""
    # asyncio's comparisons with NaN are false, so its timer fires at once.
    if isnan(when):
        return 0
    cdef double ns = ceil(when * ns_per_s)
    # int64_t ends at 9.22e18 ns, which is 292 years: a later timer never fires.
    if ns >= 9.2e18:
        return never
    if ns <= -9.2e18:
        return -never
    return <int64_t>ns


seal_type(<PyTypeObject*>LoopCore, False)
seal_type(<PyTypeObject*>Handle, False)
seal_type(<PyTypeObject*>ThreadSafeHandle, False)
seal_type(<PyTypeObject*>TimerHandle, False)
