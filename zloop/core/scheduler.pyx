# cython: language_level=3
"""Scheduling: one turn of the loop, what runs in it, and when.

A turn is one iteration of the loop: a poll, then one batch of callbacks. A Scheduler owns the ready queue, the timers,
the inbox of other threads and the reactor that it polls. A reference that lives in a C++ container is taken before the
push and dropped after the pop. zloop.core.loop.Loop is the derived class that has instances; it initializes what may
fail, and shows the containers to the garbage collector.
"""
import sys
from asyncio import coroutines, events

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyObject_GenericSetAttr, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR
from libc.stdint cimport int64_t, uint64_t

from zloop.binding.gc_slots cimport visit_list
from zloop.binding.methods cimport is_bound_method, install_call_soon_shim
from zloop.binding.prefetch cimport prefetch_handle
from zloop.binding.sealed_types cimport seal_type
from zloop.binding cimport threads
from zloop.binding.threads cimport claim_shared, free_threaded, load_shared, push_owned, store_shared
from zloop.core.handles cimport (
    Handle, LoopCore, TimerHandle, deadline_of, new_handle, new_thread_safe_handle, new_timer_handle, raise_current,
)
from zloop.core.tracking cimport track_if_held, track_queued, untrack
from zloop.engine.clock cimport monotonic_ns
from zloop.engine.ring_buffer cimport ReadyQueue
from zloop.engine.timer_heap cimport never

from zloop.core import diagnostics

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()
    int generic_delattr "PyObject_GenericSetAttr"(object thing, object name, PyObject* nothing) except -1

# As run_handle(), but with the exception left for the caller to deal with.
ctypedef int (*QuietlyRun)(Scheduler loop, Handle handle) noexcept

# CPython 3.14 lets other threads cancel a thread-safe handle, and has a class for it.
cdef bint has_thread_safe_handles = hasattr(events, "_ThreadSafeHandle")

# How many signals with a handler of some loop have arrived, as note_signal() counts them. It belongs to the process, as
# signals do: a loop's own function would keep that loop alive in the interpreter's table of handlers. Only the main
# thread runs signal handlers, so only that thread writes it; every loop reads it.
cdef unsigned long signals_seen = 0

# The steps of Scheduler.undo().
cdef enum:
    steps_to_undo = 5

cdef double ns_per_s = 1e9  # a divisor, as in time.monotonic(): the same nanosecond gives the same float

cdef uint64_t longest_wait = 24 * 3600 * 10**9  # nanoseconds, by a replaced clock; asyncio's MAXIMUM_SELECT_TIMEOUT


cdef int check(int status) except -1:
    """OSError for -errno, which the engine returns. No other function makes this translation."""
    if status < 0:
        raise diagnostics.os_error(-status)
    return status


def needs_gil(module):
    """Whether importing this module turns the GIL on: it is native, and has not declared that it does without."""
    return threads.needs_gil(module)


def note_signal(signum, frame):
    """The signal.signal() handler of each signal that a loop handles.

    The interpreter writes a signal's number to the wake-up descriptor only if the signal has a Python handler.
    """
    store_shared(signals_seen, signals_seen + 1)


cdef class Scheduler(LoopCore):
    """Runs callbacks, one batch a turn, and polls in between."""

    # No __cinit__() here: if one fails, Cython deallocates the object, whose derived C++ members do not exist yet.

    def __repr__(self):
        return (
            f"<{type(self).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    # ---- the seam: a clock and a turn of a program's own
    #
    # A subclass, or a program that assigns to the class or to one loop, may replace time() and _run_once(). They are
    # looked up when a run begins and when one of them is assigned; otherwise a turn pays for the seam with one test of
    # a flag for each. What asyncio leaves open is the order of descriptors that are ready in the same poll: here it is
    # the order in which the engine's Poller stores them (cpp/include/zloop/poller.hpp).

    def __setattr__(self, str name, value):
        PyObject_GenericSetAttr(self, name, value)
        if name == "time" or name == "_run_once":
            self.find_replaced_methods()

    def __delattr__(self, str name):
        generic_delattr(self, name, NULL)
        if name == "time" or name == "_run_once":
            self.find_replaced_methods()

    # Compares what attribute access finds. Reading `__dict__` would make CPython 3.11 create the loop's dictionary, and
    # method calls on an object that has one are slower there.
    cdef int find_replaced_methods(self) except -1:
        self.clock_replaced = not is_bound_method(self.time, plain_time, self)
        self.turn_replaced = not is_bound_method(self._run_once, plain_run_once, self)
        return 0

    # ---- state

    def is_running(self):
        """Return True while run_forever() or run_until_complete() runs the loop."""
        return load_shared(self.running)

    def is_closed(self):
        """Return True after close()."""
        return load_shared(self.closed)

    def get_debug(self):
        """Return True in debug mode.

        A new loop is in debug mode with PYTHONASYNCIODEBUG set, or in Python's development mode (``python -X dev``).
        """
        return load_shared(self.debug)

    def set_debug(self, enabled):
        """Switch debug mode on or off.

        In debug mode callbacks that take `slow_callback_duration` seconds (0.1) or longer are logged, methods that are
        not thread-safe raise RuntimeError in other threads than the loop's, and handles record where they were made.
        """
        store_shared(self.debug, <bint>enabled)
        if load_shared(self.running):
            self.call_soon_threadsafe(self._set_coroutine_origin_tracking, enabled)

    def time(self):
        """Return the loop's time: a float, seconds on time.monotonic()'s clock."""
        return monotonic_ns() / ns_per_s

    # The replaced time() in nanoseconds. A timer is due as soon as asyncio would run it: one clock resolution early.
    cdef int64_t replaced_clock(self) except? -1:
        cdef double now = self.time()
        return max(deadline_of(now), deadline_of(now + <double>self._clock_resolution) - 1)

    # Nanoseconds until a timer is due; 0 if it is.
    cdef int64_t time_left(self, int64_t deadline) except? -1:
        cdef int64_t now = self.replaced_clock() if self.clock_replaced else monotonic_ns()
        if deadline <= now:
            return 0
        if not self.clock_replaced:
            return deadline - now
        # The difference may exceed int64_t.
        return <int64_t>min(<uint64_t>deadline - <uint64_t>now, longest_wait)

    def stop(self):
        """Make run_forever() return at the end of the turn that runs, or of the next one if the loop does not run.

        Callbacks that are ready in that turn still run; what they schedule waits for the next run.
        """
        store_shared(self.stopping, True)

    def _check_closed(self):
        self.check_closed()

    def _check_running(self):
        if load_shared(self.running):
            raise RuntimeError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    # True in the thread that runs the loop.
    cdef bint runs_here(self) noexcept:
        return load_shared(self.thread_id) == PyThread_get_thread_ident()

    cdef bint owns_timers(self) noexcept:
        return self.runs_here()

    cdef int check_closed(self) except -1:
        if load_shared(self.closed):
            raise RuntimeError("Event loop is closed")
        return 0

    # Debug mode's checks, with asyncio's messages.
    cdef int check_call(self, object callback, str method) except -1:
        if method != "call_soon_threadsafe" and method != "run_in_executor":
            self.check_thread()
        if coroutines.iscoroutine(callback) or diagnostics.is_coroutine_function(callback):
            raise TypeError(f"coroutines cannot be used with {method}()")
        if not callable(callback):
            raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
        return 0

    @property
    def _thread_id(self):
        """threading.get_ident() of the thread that runs the loop; None while it does not run."""
        return load_shared(self.thread_id) or None

    def _check_thread(self):
        """Raise RuntimeError if another thread than the current one runs the loop."""
        self.check_thread()

    # Debug mode checks it. Without a GIL, so does everything that other threads would break.
    cdef int check_thread(self) except -1:
        cdef unsigned long thread = load_shared(self.thread_id)
        if thread != 0 and thread != PyThread_get_thread_ident():
            raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the current one")
        return 0

    def _check_callback(self, callback, method):
        self.check_call(callback, method)

    # ---- scheduling

    cdef int push_ready(self, Handle handle) except -1:
        # Callbacks that other threads have scheduled before this one run before it.
        if self.inbox.pending():
            self.inbox.take_into(self.ready)
        self.ready.push_back(<void*>handle)
        Py_INCREF(handle)
        return 0

    cdef Handle schedule(self, object callback, object args, object context):
        cdef Handle handle = new_handle(self, callback, args, context, True)
        self.push_ready(handle)
        if self.running:
            untrack(handle)
        return handle

    def call_soon(self, callback, *args, context=None):
        """Schedule callback(*args) for the next turn, after the callbacks that are ready; return its Handle.

        The callback runs once, in `context` (a contextvars.Context) or in a copy of the current one. Not thread-safe.
        Raises RuntimeError if the loop is closed; in debug mode also RuntimeError in another thread than the loop's,
        and TypeError for a coroutine, a coroutine function or an object that is not callable.
        """
        return call_soon(self, callback, args, context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        """Schedule callback(*args) as call_soon() does, from any thread, and wake the loop; return its Handle.

        Callbacks of one thread keep their order. Since CPython 3.14 the Handle's cancel(), called in another thread
        than the loop's, waits while the callback runs. Raises RuntimeError if the loop is closed.
        """
        cdef Handle handle
        self.check_closed()
        if load_shared(self.debug):
            self.check_call(callback, "call_soon_threadsafe")
        if has_thread_safe_handles:
            handle = new_thread_safe_handle(self, callback, args, context)
        else:
            handle = new_handle(self, callback, args, context, True)
        if load_shared(self.running):
            untrack(handle)
        if Scheduler.runs_here(self):
            self.push_ready(handle)  # the loop is awake: it runs the caller
        else:
            Scheduler.push_from_outside(self, handle)
        return handle

    cdef int push_from_outside(self, Handle handle) except -1:
        if not push_owned(self.inbox, handle):
            raise MemoryError
        self.reactor.notify()
        return 0

    def call_later(self, delay, callback, *args, context=None):
        """Schedule callback(*args) to run once, `delay` seconds from now; return its TimerHandle.

        `delay` is an int, a float or another number that can be added to time(). Timers never fire early, and those
        with equal deadlines fire in the order in which they were scheduled. With a delay of zero or less, or NaN, the
        callback runs in the next turn; with infinity, never. The context is chosen as by call_soon(). Raises TypeError
        for a delay of None, RuntimeError if the loop is closed.
        """
        if delay is None:
            raise TypeError("delay must not be None")
        return self.schedule_at(self.time() + delay, callback, args, context)

    def call_at(self, when, callback, *args, context=None):
        """Schedule callback(*args) to run once, when time() reaches `when` seconds; return its TimerHandle.

        Otherwise as call_later(). Raises TypeError for a `when` of None, RuntimeError if the loop is closed.
        """
        if when is None:
            raise TypeError("when cannot be None")
        return self.schedule_at(when, callback, args, context)

    cdef TimerHandle schedule_at(self, object when, object callback, object args, object context):
        cdef TimerHandle timer
        if free_threaded:
            self.check_thread()
        if self.closed:
            self.check_closed()
        if self.debug:
            self.check_call(callback, "call_at")
        timer = new_timer_handle(self, when, callback, args, context)
        timer.schedule()
        return timer

    def _add_callback(self, Handle handle not None):
        """Add an existing handle to the ready queue, unless it is cancelled."""
        if not load_shared(handle.is_cancelled):
            self.push_ready(handle)

    def _make_handle(self, callback, args):
        """Return a handle that may run more than once, such as a signal handler's."""
        return new_handle(self, callback, args, None, False)

    # ---- one turn

    cdef int64_t poll_timeout(self) except? -2:
        """Nanoseconds that the poller may wait; -1: until something happens."""
        cdef int64_t deadline
        if not self.ready.empty() or load_shared(self.stopping) or self.inbox.pending():
            return 0
        if not self.unscheduled_ends.empty():
            return 0
        if free_threaded and self.dropped.pending():
            return 0
        deadline = self.timers.next_deadline()
        return -1 if deadline == never else self.time_left(deadline)

    cdef bint skips_poll(self) noexcept:
        """True if this turn, which would not block, may run without a poll: AdaptivePolling decides.

        A signal forces a poll in the next turn. The signals' pipe does not count as a watched descriptor here: a number
        in it that note_signal() has not counted, of a handler that signal.signal() set, is read by the next poll.
        """
        cdef unsigned long seen = load_shared(signals_seen)
        if self.signals_known != seen:
            self.signals_known = seen
            return False
        return self.reactor.skips_poll(<size_t>(self.signal_fd >= 0))

    cdef int run_turn(self) except -1:
        """Poll, then run the ready callbacks, those of the ready descriptors and those of the due timers.

        This is asyncio's order. What a callback schedules runs in the next turn. SystemExit and KeyboardInterrupt leave
        the turn: callbacks that have not run stay queued, and the next poll reports the remaining descriptors again.
        """
        cdef int count
        if not self.due.empty():  # a callback of another turn runs this one
            self.requeue_due()
        count = self.wait_for_events()
        self.turn += 1
        if self.inbox.pending():
            self.inbox.take_into(self.ready)
        if free_threaded and self.dropped.pending():
            self.release_dropped()
        self.batch_left = self.ready.size()
        try:
            if self.timers.size() != 0:
                self.take_due_timers()
            self.run_ready()
            if count > 0:
                self.dispatching += 1
                self.reactor.dispatch()
                self.dispatching -= 1
                if self.pending_close and self.dispatching == 0:
                    self.pending_close = []
                if self.interruption is not None:
                    self.raise_interruption()
            if not self.due.empty():
                self.run_due()
        finally:
            if not self.due.empty():
                self.requeue_due()
            self.batch_left = 0
        if not self.unscheduled_ends.empty():
            self.report_unscheduled_ends()
        if self.interruption is not None:
            self.raise_interruption()
        return 0

    # Polls; returns the number of events to dispatch.
    cdef int wait_for_events(self) except -1:
        cdef int64_t timeout = self.poll_timeout()
        cdef int status
        if timeout != 0 and self.signals_due:
            self.signals_due = False
            self._signals_begin()
            PyErr_CheckSignals()  # a signal before this point does not wake the poller; its handler may schedule
            timeout = self.poll_timeout()
        if timeout == 0:
            PyErr_CheckSignals()
            if self.skips_poll():
                return 0
            status = self.reactor.wait(0)
        else:
            self.contexts.clear()
            with nogil:
                status = self.reactor.wait(timeout)
            self.signals_known = load_shared(signals_seen)
            PyErr_CheckSignals()
        if status < 0 and status != -EINTR:
            check(status)
        return status

    def _run_once(self):
        """Run one turn. Code that drives a loop by hand calls it, such as asyncio's own tests."""
        self.run_turn()

    cdef int take_due_timers(self) except -1:
        self.timers.take_due(self.replaced_clock() if self.clock_replaced else monotonic_ns(), self.due)
        return 0

    # For due timers that this turn does not come to, because an exception ends it, or because a callback of it runs
    # another turn: they stay behind what is left of the batch, and before what was scheduled during the turn.
    cdef int requeue_due(self) except -1:
        cdef size_t left = min(self.batch_left, self.ready.size())
        cdef size_t newer = self.ready.size() - left
        rotate(self.ready, left)
        while not self.due.empty():
            self.ready.push_back(self.due.front())
            self.due.pop_front()
        rotate(self.ready, newer)
        return 0

    # A callback may empty the queue: by another turn that it runs, or by close() where only _run_once() runs the loop.
    cdef int run_ready(self) except -1:
        while self.batch_left > 0 and not self.ready.empty():
            self.batch_left -= 1
            if run_next(self, self.ready) != 0:
                break
        self.batch_left = 0
        return 0

    cdef int run_due(self) except -1:
        while not self.due.empty() and run_next(self, self.due) == 0:
            pass
        return 0

    # Of an exception that is set: it ends the turn. But while a handle shares its context, it has not called its
    # callback: there was no memory for a context of its own. It stays first in the queue, and 1 is returned.
    cdef int run_failed(self, ReadyQueue& queue, Handle handle) except -1:
        try:
            raise_current()
        except MemoryError:
            if not handle.shares_context or load_shared(handle.is_cancelled):
                raise
            queue.push_front(<void*>handle)
            Py_INCREF(handle)
        return 1

    cdef int run_handle_debug(self, Handle handle) except -1:
        cdef double started = self.time()
        if load_shared(handle.is_cancelled):  # by a clock of the program's own, or by a thread that ran meanwhile
            return 0
        self._current_handle = handle
        try:
            handle.run(self.contexts)
        finally:
            self._current_handle = None
        duration = self.time() - started
        if duration >= self.slow_callback_duration:
            diagnostics.log_slow_callback(handle, duration)
        return 0

    # An I/O callback cannot raise through C++ frames: the exception is kept until the dispatch has returned.
    cdef int interrupt(self, object exception) except -1:
        if self.interruption is None:
            self.interruption = exception
        self.reactor.interrupt_dispatch()
        return 0

    # Handles an exception that an I/O callback has raised and no transport or protocol has handled.
    cdef void escaped(self, object exception, str message) noexcept:
        try:
            if isinstance(exception, (SystemExit, KeyboardInterrupt)):
                self.interrupt(exception)
            else:
                self.call_exception_handler({"message": message, "exception": exception})
        except BaseException as exc:  # SystemExit or KeyboardInterrupt of the exception handler, or MemoryError
            self.interruption = exc
            self.reactor.interrupt_dispatch()

    cdef int raise_interruption(self) except -1:
        exception = self.interruption
        self.interruption = None
        raise exception

    # ---- running

    # A handler set with signal.signal() may raise wherever Python code runs, thus between any two steps of these. So
    # they are native code that calls native functions where possible; a setup that fails is undone, and the cleanup
    # takes all its steps whatever one of them raises.

    def _run_forever_setup(self):
        """Make the current thread run the loop. Loops that embed another one call it (named so since CPython 3.13)."""
        self.check_closed()
        self._check_running()
        if not claim_shared(self.thread_id, PyThread_get_thread_ident()):  # by a thread that came at the same time
            raise RuntimeError("This event loop is already running")
        try:
            self.begin_to_run()
        except BaseException:
            self.end_to_run()
            raise

    cdef int begin_to_run(self) except -1:
        store_shared(self.running, True)
        self.loop_keyword = {"loop": self}
        self.reactor.reset_adaptive_polling()
        events._set_running_loop(self)
        self.old_asyncgen_hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        self._set_coroutine_origin_tracking(self.debug)
        if self._signal_handlers:
            self._signals_begin()
        else:
            self.signals_due = True
        return 0

    def _run_forever_cleanup(self):
        """Undo _run_forever_setup()."""
        self.end_to_run()

    # Takes every step, then raises the first exception of them.
    cdef int end_to_run(self) except -1:
        cdef object first = None
        cdef int step
        store_shared(self.stopping, False)
        store_shared(self.running, False)
        self.signals_due = False
        self.loop_keyword = None
        track_queued(self.ready, self.inbox)
        for step in range(steps_to_undo):
            try:
                self.undo(step)
            except BaseException as exc:
                if first is None:
                    first = exc
        store_shared(self.thread_id, 0)
        if first is not None:
            raise first
        return 0

    cdef int undo(self, int step) except -1:
        if step == 0:
            events._set_running_loop(None)
        elif step == 1 and self.old_asyncgen_hooks is not None:
            hooks, self.old_asyncgen_hooks = self.old_asyncgen_hooks, None
            sys.set_asyncgen_hooks(*hooks)
        elif step == 2:
            self._give_wakeup_fd_back()
        elif step == 3:
            self._set_coroutine_origin_tracking(False)
        elif step == 4:
            self.contexts.clear()
        return 0

    def run_forever(self):
        """Run the loop until stop() is called.

        Raises RuntimeError if the loop is closed or runs already, or if another loop runs in this thread. SystemExit
        and KeyboardInterrupt of a callback end the run; the callbacks that have not run stay scheduled.
        """
        self.find_replaced_methods()
        self.check_closed()
        self._check_running()
        try:
            self._run_forever_setup()
            while True:
                if self.turn_replaced:
                    self._run_once()
                else:
                    self.run_turn()
                if load_shared(self.stopping):
                    break
        finally:
            try:
                self._run_forever_cleanup()
            finally:
                if self.running:  # a subclass's cleanup was interrupted
                    self.end_to_run()

    def _set_coroutine_origin_tracking(self, enabled):
        if enabled and self.saved_origin_depth < 0:
            self.saved_origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(diagnostics.DEBUG_STACK_DEPTH)
        elif not enabled and self.saved_origin_depth >= 0:
            sys.set_coroutine_origin_tracking_depth(self.saved_origin_depth)
            self.saved_origin_depth = -1

    # ---- transports that ended while there was no memory

    # For a transport whose _call_connection_lost() could not be scheduled for want of memory: its _end_unscheduled()
    # is called at the end of this turn, or of the next one. That allocates nothing.
    cdef int end_without_memory(self, object transport, ListHook& hook) noexcept:
        if hook.linked():
            hook.leave()  # the reference moves to the other list
        else:
            Py_INCREF(transport)
        self.unscheduled_ends.add(hook, <void*>transport)
        return 0

    cdef bint is_ending(self, object transport) noexcept:
        return visit_list(self.unscheduled_ends, is_same, <void*>transport) != 0

    cdef int report_unscheduled_ends(self) noexcept:
        cdef object transport
        while not self.unscheduled_ends.empty():
            transport = <object><PyObject*>self.unscheduled_ends.pop_front()
            Py_DECREF(transport)  # the list's reference; `transport` holds another
            try:
                transport._end_unscheduled()
            except BaseException as exc:
                self.escaped(exc, "Exception in transport callback")
        return 0

    # ---- transports whose last reference another thread has given up

    # Any thread. False if the caller may release the transport itself: no other thread runs the loop.
    cdef bint take_dropped(self, object transport) except -1:
        if self.runs_here() or load_shared(self.thread_id) == 0:
            return False
        if not push_owned(self.dropped, transport):
            raise MemoryError
        self.reactor.notify()
        return True

    # Ends what they have of the loop's, which only its own thread may change.
    cdef int release_dropped(self) except -1:
        cdef ReadyQueue dropped
        cdef object transport
        self.dropped.take_into(dropped)
        while not dropped.empty():
            transport = <object><PyObject*>dropped.pop_front()
            Py_DECREF(transport)  # the inbox's reference; `transport` holds another
            try:
                transport._release_dropped()
            except BaseException as exc:
                self.escaped(exc, "Exception in a transport that was dropped")
        return 0


# Moves the first `count` items behind the others.
cdef int rotate(ReadyQueue& queue, size_t count) except -1:
    while count > 0:
        count -= 1
        queue.push_back(queue.pop_front())
    return 0


# Runs the first handle of a queue. 1 if there was no memory for that: then it is there still.
cdef inline int run_next(Scheduler loop, ReadyQueue& queue) except -1:
    cdef Handle handle
    prefetch_handle(queue)
    handle = <Handle>queue.pop_front()
    Py_DECREF(handle)  # the queue's reference; `handle` holds another
    if load_shared(handle.is_cancelled):
        if free_threaded:
            handle.leave_queues()  # cancel() was called in another thread
    elif (<QuietlyRun>run_handle)(loop, handle) < 0:
        track_if_held(handle)
        return loop.run_failed(queue, handle)
    track_if_held(handle)
    return 0


cdef int run_handle(Scheduler loop, Handle handle) except -1:
    return loop.run_handle_debug(handle) if loop.debug else handle.run(loop.contexts)


cdef int is_same(PyObject* thing, void* other) noexcept:
    return thing == <PyObject*>other


# Called by the shim in binding/methods.hpp for the method's common signature.
cdef object call_soon(object self, object callback, object args, object context):
    cdef Scheduler loop = <Scheduler>self
    if free_threaded:
        loop.check_thread()
    if loop.closed:
        loop.check_closed()
    if loop.debug:
        loop.check_call(callback, "call_soon")
    return loop.schedule(callback, args, context)


cdef object plain_time = Scheduler.time
cdef object plain_run_once = Scheduler._run_once
install_call_soon_shim(<PyTypeObject*>Scheduler, call_soon)
seal_type(<PyTypeObject*>Scheduler, False)
