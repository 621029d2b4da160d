# cython: language_level=3
"""Scheduling: one turn of the loop, what runs in it, and when.

A Scheduler owns the ready queue, the timers, the inbox of other threads and the reactor that it polls. References that
live in C++ containers are taken before the push and dropped after the pop; the garbage collector sees them through
zloop.core.loop.Loop, the class that has instances.
"""
import sys
from asyncio import coroutines, events

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyObject_GenericSetAttr, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EINTR
from libc.stdint cimport int64_t, uint64_t

from zloop.binding.gc_slots cimport visit_list
from zloop.binding.methods cimport is_bound_method, put_call_soon_front
from zloop.binding.prefetch cimport prefetch_handle
from zloop.binding.sealed_types cimport seal_type
from zloop.core.handles cimport (
    Handle, LoopCore, TimerHandle, deadline_of, new_handle, new_thread_safe_handle, new_timer_handle, track_if_held,
    track_queued, untrack,
)
from zloop.engine.clock cimport monotonic_ns
from zloop.engine.ring_buffer cimport ReadyQueue
from zloop.engine.timer_heap cimport never

from zloop.core import diagnostics

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()
    int generic_delattr "PyObject_GenericSetAttr"(object thing, object name, PyObject* nothing) except -1

# CPython 3.14 lets other threads cancel a thread-safe handle, and has a class for it.
cdef bint has_thread_safe_handles = hasattr(events, "_ThreadSafeHandle")

# Signals of all loops' handlers so far, counted by leave_it_to_the_loop().
cdef unsigned long signals_seen = 0

# Loop.undo() knows them.
cdef enum:
    steps_to_undo = 5

cdef double s_per_ns = 1e9  # divided by, as time.monotonic() does: the same nanosecond gives the same float

cdef uint64_t longest_wait = 24 * 3600 * 10**9  # nanoseconds by a clock that is somebody's own; asyncio's limit


cdef int check(int status) except -1:
    """Turn the engine's -errno into OSError; the one place that does."""
    if status < 0:
        raise diagnostics.os_error(-status)
    return status


def stop_its_loop(future):
    """End the run that waits for this future."""
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        return  # it has left run_forever() by itself
    future.get_loop().stop()


def leave_it_to_the_loop(signum, frame):
    """Installed for a loop's signals: the interpreter writes to the wake-up descriptor only for handled ones."""
    global signals_seen
    signals_seen += 1


cdef class Scheduler(LoopCore):
    """Runs callbacks, one batch a turn, and polls in between."""

    def __repr__(self):
        return (
            f"<{type(self).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    # ---- methods that a subclass has put in the place of these, or a program into the class or the loop

    def __setattr__(self, str name, value):
        PyObject_GenericSetAttr(self, name, value)
        if name == "time" or name == "_run_once":
            self.look_for_own_methods()

    def __delattr__(self, str name):
        generic_delattr(self, name, NULL)
        if name == "time" or name == "_run_once":
            self.look_for_own_methods()

    # By what a call would find: asking for `__dict__` makes CPython 3.11 give every loop a dictionary of its own, in
    # which it finds the methods that are called more slowly.
    cdef int look_for_own_methods(self) except -1:
        self.has_own_clock = not is_bound_method(self.time, plain_time, self)
        self.has_own_turn = not is_bound_method(self._run_once, plain_run_once, self)
        return 0

    # ---- state

    def is_running(self):
        """True while run_forever() or run_until_complete() is at work."""
        return self.running

    def is_closed(self):
        """True after close()."""
        return self.closed

    def get_debug(self):
        """True in debug mode."""
        return self.debug

    def set_debug(self, enabled):
        """Switch debug mode: slow callbacks are logged, threads are checked, handles know where they were made."""
        self.debug = enabled
        if self.running:
            self.call_soon_threadsafe(self._set_coroutine_origin_tracking, enabled)

    def time(self):
        """Seconds on the loop's clock, which is time.monotonic()'s."""
        return monotonic_ns() / s_per_ns

    # time() where it is not this class's, in nanoseconds. A timer is due as soon as asyncio would run it.
    cdef int64_t own_clock(self) except? -1:
        cdef double now = self.time()
        return max(deadline_of(now), deadline_of(now + <double>self._clock_resolution) - 1)

    # Nanoseconds; 0: it is due.
    cdef int64_t time_left(self, int64_t deadline) except? -1:
        cdef int64_t now = self.own_clock() if self.has_own_clock else monotonic_ns()
        if deadline <= now:
            return 0
        if not self.has_own_clock:
            return deadline - now
        # As signed numbers they may be too far apart.
        return <int64_t>min(<uint64_t>deadline - <uint64_t>now, longest_wait)

    def stop(self):
        """Let the turn that runs (or the next one) be the last."""
        self.stopping = True

    def _check_closed(self):
        self.check_closed()

    def _check_running(self):
        if self.running:
            raise RuntimeError("This event loop is already running")
        if events._get_running_loop() is not None:
            raise RuntimeError("Cannot run the event loop while another loop is running")

    cdef int check_closed(self) except -1:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        return 0

    # Debug mode's checks, in asyncio's words.
    cdef int check_call(self, object callback, str method) except -1:
        if method != "call_soon_threadsafe" and method != "run_in_executor":
            self._check_thread()
        if coroutines.iscoroutine(callback) or diagnostics.is_coroutine_function(callback):
            raise TypeError(f"coroutines cannot be used with {method}()")
        if not callable(callback):
            raise TypeError(f"a callable object was expected by {method}(), got {callback!r}")
        return 0

    @property
    def _thread_id(self):
        """The thread that runs the loop, as threading.get_ident() has it; None while it does not run."""
        return self.thread_id if self.running else None

    def _check_thread(self):
        """RuntimeError if another thread than this one runs the loop."""
        if self.running and self.thread_id != PyThread_get_thread_ident():
            raise RuntimeError("Non-thread-safe operation invoked on an event loop other than the current one")

    def _check_callback(self, callback, method):
        self.check_call(callback, method)

    # ---- scheduling

    cdef int push_ready(self, Handle handle) except -1:
        # What other threads left before this moment comes first.
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
        """Run callback(*args) in the next turn, after what is already scheduled.

        It runs in `context`, or in a copy of the current one. Returns a Handle. RuntimeError on a closed loop.
        """
        return call_soon(self, callback, args, context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        """Like call_soon(), from any thread; wakes the loop."""
        cdef Handle handle
        self.check_closed()
        if self.debug:
            self.check_call(callback, "call_soon_threadsafe")
        if has_thread_safe_handles:
            handle = new_thread_safe_handle(self, callback, args, context)
        else:
            handle = new_handle(self, callback, args, context, True)
        if self.running:
            untrack(handle)
        if self.running and self.thread_id == PyThread_get_thread_ident():
            self.push_ready(handle)  # the loop is awake: it is what called this
            return handle
        self.inbox.push(<void*>handle)
        Py_INCREF(handle)
        self.reactor.notify()
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Run callback(*args) once, `delay` seconds from now. Returns a TimerHandle."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.schedule_at(self.time() + delay, callback, args, context)

    def call_at(self, when, callback, *args, context=None):
        """Run callback(*args) once, when the loop's clock reaches `when` seconds. Returns a TimerHandle."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.schedule_at(when, callback, args, context)

    cdef TimerHandle schedule_at(self, object when, object callback, object args, object context):
        cdef TimerHandle timer
        self.check_closed()
        if self.debug:
            self.check_call(callback, "call_at")
        timer = new_timer_handle(self, when, callback, args, context)
        timer.schedule()
        return timer

    def _add_callback(self, Handle handle not None):
        """Queue a handle that exists already, unless it was cancelled."""
        if not handle._cancelled:
            self.push_ready(handle)

    def _make_handle(self, callback, args):
        """A handle that something other than the queues will hold: a signal's, for example."""
        return new_handle(self, callback, args, None, False)

    # ---- one turn

    cdef int64_t poll_timeout(self) except? -2:
        """Nanoseconds that the poller may wait; -1: until something happens."""
        cdef int64_t deadline
        if not self.ready.empty() or self.stopping or self.inbox.pending() or not self.ending.empty():
            return 0
        deadline = self.timers.next_deadline()
        return -1 if deadline == never else self.time_left(deadline)

    cdef bint skips_poll(self) noexcept:
        """True if a turn that would not block need not poll: see AdaptivePolling for when that is.

        A signal makes the next turn ask. The signals' pipe is no reason by itself: what it holds of a signal whose
        handler was replaced behind the loop's back is seen when the poller is asked the next time.
        """
        if self.signals_known != signals_seen:
            self.signals_known = signals_seen
            return False
        return self.reactor.skips_poll(<size_t>(self.signal_fd >= 0))

    cdef int run_turn(self) except -1:
        """Poll, then run what was ready, then what the poller told, then the timers that are due: asyncio's order.

        What all of them schedule runs in the next turn. Raises SystemExit and KeyboardInterrupt out of callbacks; what
        was not run by then stays queued, or is told again by the poller.
        """
        cdef int count = self.wait_for_events()
        cdef size_t batch
        self.turn += 1
        if self.inbox.pending():
            self.inbox.take_into(self.ready)
        batch = self.ready.size()
        try:
            self.take_due_timers()
            self.run_batch(self.ready, batch)
            if count > 0:
                self.dispatch()
            self.run_batch(self.due, self.due.size())
        finally:
            if not self.due.empty():
                self.requeue_due()
        if not self.ending.empty():
            self.end_unscheduled()
        if self.interruption is not None:
            self.raise_interruption()
        return 0

    # Returns how many events there are to dispatch.
    cdef int wait_for_events(self) except -1:
        cdef int64_t timeout = self.poll_timeout()
        cdef int status
        if timeout != 0 and self.signals_due:
            self.signals_due = False
            self._signals_begin()
            PyErr_CheckSignals()  # what came before this moment has not woken the poller, and may schedule something
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
            self.signals_known = signals_seen
            PyErr_CheckSignals()
        if status < 0 and status != -EINTR:
            check(status)
        return status

    cdef int dispatch(self) except -1:
        self.reactor.dispatch()
        if self.retired:
            self.retired = []
        if self.interruption is not None:
            self.raise_interruption()
        return 0

    def _run_once(self):
        """Run one turn; for code that drives a loop by hand, as asyncio's own tests do."""
        self.run_turn()

    cdef int take_due_timers(self) except -1:
        if self.timers.size() != 0:
            self.timers.take_due(self.own_clock() if self.has_own_clock else monotonic_ns(), self.due)
        return 0

    # An exception ended the turn before the timers' time had come.
    cdef int requeue_due(self) except -1:
        while not self.due.empty():
            self.ready.push_back(self.due.front())
            self.due.pop_front()
        return 0

    cdef int run_batch(self, ReadyQueue& queue, size_t count) except -1:
        cdef Handle handle = None
        if count == 0:
            return 0
        try:
            while count > 0:
                count -= 1
                prefetch_handle(queue)
                handle = <Handle>queue.pop_front()
                Py_DECREF(handle)  # the queue's reference; `handle` holds another
                try:
                    if not handle._cancelled:
                        self.run_handle(handle)
                finally:
                    track_if_held(handle)
        except MemoryError:
            # A handle shares its context until it has one of its own, before it calls anything: there was no memory for
            # that, and its turn is the next.
            if handle is None or not handle.shares_context or handle._cancelled:
                raise
            queue.push_front(<void*>handle)
            Py_INCREF(handle)
        return 0

    cdef int run_handle(self, Handle handle) except -1:
        if self.debug:
            return self.run_handle_debug(handle)
        return handle.run(self.contexts)

    cdef int run_handle_debug(self, Handle handle) except -1:
        cdef double started = self.time()
        self._current_handle = handle
        try:
            handle.run(self.contexts)
        finally:
            self._current_handle = None
        duration = self.time() - started
        if duration >= self.slow_callback_duration:
            diagnostics.log_slow_callback(handle, duration)
        return 0

    # An I/O callback cannot raise through C++: the exception waits here until the dispatch is over.
    cdef int interrupt(self, object exception) except -1:
        if self.interruption is None:
            self.interruption = exception
        self.reactor.interrupt_dispatch()
        return 0

    # An exception on its way out of an I/O callback, which nobody nearer took.
    cdef void escaped(self, object exception, str message) noexcept:
        try:
            if isinstance(exception, (SystemExit, KeyboardInterrupt)):
                self.interrupt(exception)
            else:
                self.call_exception_handler({"message": message, "exception": exception})
        except BaseException as exc:  # the exception handler raised one of the two, or memory is out
            self.interruption = exc
            self.reactor.interrupt_dispatch()

    cdef int raise_interruption(self) except -1:
        exception = self.interruption
        self.interruption = None
        raise exception

    # ---- running

    # A handler of signal.signal() may raise wherever Python code runs. Here, native functions are called from native
    # code, with no Python frame in between where that can be had; what is begun is undone, and whatever a step of that
    # raises, all of them are done.

    def _run_forever_setup(self):
        """Make this thread run the loop (CPython 3.13 gave the step this name, for loops that embed others)."""
        self.check_closed()
        self._check_running()
        try:
            self.begin_to_run()
        except BaseException:
            self.end_to_run()
            raise

    cdef int begin_to_run(self) except -1:
        self.running = True
        self.thread_id = PyThread_get_thread_ident()
        self.itself = {"loop": self}
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

    # Raises the first exception of the steps.
    cdef int end_to_run(self) except -1:
        cdef object first = None
        cdef int step
        self.stopping = False
        self.running = False
        self.signals_due = False
        self.itself = None
        track_queued(self.ready, self.inbox)
        for step in range(steps_to_undo):
            try:
                self.undo(step)
            except BaseException as exc:
                if first is None:
                    first = exc
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
        """Run until stop() is called."""
        self.look_for_own_methods()
        self.check_closed()
        self._check_running()
        try:
            self._run_forever_setup()
            while True:
                if self.has_own_turn:  # of a program that watches or drives the turns
                    self._run_once()
                else:
                    self.run_turn()
                if self.stopping:
                    break
        finally:
            try:
                self._run_forever_cleanup()
            finally:
                if self.running:  # it is a subclass's, and was interrupted
                    self.end_to_run()

    def _run_until_done(self, future, new_task):
        """The native part of run_until_complete()."""
        future.add_done_callback(stop_its_loop)
        try:
            self.run_forever()
        except BaseException:
            if new_task and future.done() and not future.cancelled():
                future.exception()  # retrieved: the caller has no way to the task
            raise
        finally:
            future.remove_done_callback(stop_its_loop)

    def _set_coroutine_origin_tracking(self, enabled):
        if enabled and self.saved_origin_depth < 0:
            self.saved_origin_depth = sys.get_coroutine_origin_tracking_depth()
            sys.set_coroutine_origin_tracking_depth(diagnostics.DEBUG_STACK_DEPTH)
        elif not enabled and self.saved_origin_depth >= 0:
            sys.set_coroutine_origin_tracking_depth(self.saved_origin_depth)
            self.saved_origin_depth = -1

    # ---- ended without memory

    # There was no memory to schedule the transport's _call_connection_lost(): its _end_unscheduled() is called when
    # this turn is over, or the next one. That takes none.
    cdef int end_without_memory(self, object transport, ListHook& anchor) noexcept:
        if anchor.linked():
            anchor.leave()  # and its reference changes lists, too
        else:
            Py_INCREF(transport)
        self.ending.add(anchor, <void*>transport)
        return 0

    cdef bint is_ending(self, object transport) noexcept:
        return visit_list(self.ending, is_same, <void*>transport) != 0

    cdef int end_unscheduled(self) noexcept:
        cdef object transport
        while not self.ending.empty():
            transport = <object><PyObject*>self.ending.pop_front()
            Py_DECREF(transport)  # the list's reference; `transport` holds another
            try:
                transport._end_unscheduled()
            except BaseException as exc:
                self.escaped(exc, "Exception in transport callback")
        return 0


cdef int is_same(PyObject* thing, void* other) noexcept:
    return thing == <PyObject*>other


# What binding/methods.hpp calls for the method of the same name, when nothing unusual is passed.
cdef object call_soon(object self, object callback, object args, object context):
    cdef Scheduler loop = <Scheduler>self
    if loop.closed:
        loop.check_closed()
    if loop.debug:
        loop.check_call(callback, "call_soon")
    return loop.schedule(callback, args, context)


cdef object plain_time = Scheduler.time
cdef object plain_run_once = Scheduler._run_once
put_call_soon_front(<PyTypeObject*>Scheduler, call_soon)
seal_type(<PyTypeObject*>Scheduler, False)
