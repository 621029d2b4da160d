# cython: language_level=3
"""The native half of the loop: one turn, scheduling, readers and writers.

``zloop.loop.Loop`` adds, in Python, what runs per connection, per server or per loop. References that live in C++
containers are taken before the push and dropped after the pop; the garbage collector sees them (binding/gc_slots.hpp).
"""
import os
import signal
import sys
import weakref
from asyncio import coroutines, events, futures, tasks

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject, PyObject_GenericSetAttr, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EEXIST, EINTR
from libc.limits cimport INT_MAX
from libc.stdint cimport int64_t, uint64_t

from zloop.binding.gc_slots cimport install_gc_slots, visit_inbox, visit_list, visit_queue, visit_timers, visitproc
from zloop.binding.methods cimport adopt_methods, is_bound_method, put_fronts
from zloop.binding.prefetch cimport prefetch_handle
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport tell_of_push
from zloop.core.handles cimport (
    Handle, LoopCore, TimerHandle, deadline_of, new_context_cache, new_handle, new_thread_safe_handle, new_timer_handle,
    track_if_held, track_queued, untrack,
)
from zloop.engine cimport sys as sys_calls
from zloop.engine.clock cimport monotonic_ns
from zloop.engine.poller cimport interest_none, interest_read, interest_write
from zloop.engine.ring_buffer cimport ReadyQueue
from zloop.engine.timer_heap cimport never
from zloop.engine.watcher cimport OwnedWatcher, Watcher, WatcherOps

from zloop.core import diagnostics
from zloop.core.tasks import task_from_factory

cdef extern from "Python.h":
    object PyObject_Call(object callable, tuple args, dict keywords)
    object PyObject_CallNoArgs(object callable)
    object PyObject_CallOneArg(object callable, object arg)
    Py_ssize_t Py_REFCNT(PyObject* thing)
    unsigned long PyThread_get_thread_ident()
    int generic_delattr "PyObject_GenericSetAttr"(object thing, object name, PyObject* nothing) except -1

# Somebody may put other classes in the place of asyncio's C ones.
cdef dict names_of_futures = futures.__dict__
cdef dict names_of_tasks = tasks.__dict__
cdef object native_future = getattr(futures, "_CFuture", None)
cdef object native_task = getattr(tasks, "_CTask", None)
cdef object native_get_running_loop = getattr(events, "_c__get_running_loop", events._get_running_loop)
# CPython 3.11 asks the kernel for the process each time that it asks for the running loop.
cdef bint running_loop_is_cheap = sys.version_info >= (3, 12)

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


cdef object number_of(object fileobj):
    """The number of an int or of an object with fileno(), negative if that is closed; ValueError for other objects."""
    if isinstance(fileobj, int):
        return fileobj
    try:
        return int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fileobj!r}") from None


cdef int descriptor_of(object fileobj) except -1:
    """The descriptor of an int or of an object with fileno(); ValueError in the words of the selectors module."""
    cdef object fd = number_of(fileobj)
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


def stop_its_loop(future):
    """End the run that waits for this future."""
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        return  # it has left run_forever() by itself
    future.get_loop().stop()


def leave_it_to_the_loop(signum, frame):
    """Installed for a loop's signals: the interpreter writes to the wake-up descriptor only for handled ones."""
    global signals_seen
    signals_seen += 1


cdef int check_constructor(object loop_class) except -1:
    """TypeError for arguments to a loop class of which nobody has written an __init__() that takes any."""
    for each in loop_class.__mro__:
        if "__init__" in each.__dict__:
            if each.__module__.startswith("zloop."):
                raise TypeError(
                    f"{loop_class.__name__}() takes no arguments: zloop's engine polls by itself, without a selector"
                )
            return 0
    return 0


cdef void release_handle(void* handle) noexcept:
    Py_DECREF(<object><PyObject*>handle)


cdef class FdWatcher:
    """The reader and the writer of one descriptor: what add_reader() and add_writer() set, and sock_* calls that wait.

    Without either it is idle. It stays attached all the same, until something else needs the number: a program that
    waits for a descriptor once mostly does it again.
    """

    cdef bint idle(self) noexcept:
        return self.reader is None and self.writer is None

    # What the poller watches for follows from the handles. 0 or -errno, the interest unchanged.
    cdef int apply(self) noexcept:
        cdef unsigned interest = interest_none
        cdef bint once = True
        if self.reader is not None:
            interest |= interest_read
            once = self.reader.once
        if self.writer is not None:
            interest |= interest_write
            once = once and self.writer.once
        if interest == interest_none:
            self.fileobj = None
            self.loop.reactor.disarm(self.watcher)
            return 0
        if once:
            return self.loop.reactor.arm(self.watcher, interest)
        return self.loop.reactor.set_interest(self.watcher, interest)

    # The file that they waited for is gone, and the number is another one's.
    cdef int forget_callbacks(self) except -1:
        cdef Handle reader = self.reader
        cdef Handle writer = self.writer
        self.reader = self.writer = None
        self.apply()  # never fails: nothing is asked for
        self.watcher.renew()
        if reader is not None:
            reader.detach_callback()
        if writer is not None:
            writer.detach_callback()
        return 0

    # Waits for one thing more; as apply().
    cdef int watch(self, Handle handle, bint for_reading) noexcept:
        if for_reading:
            self.reader = handle
        else:
            self.writer = handle
        return self.apply()

    cdef int run_ready(self, unsigned ready) except -1:
        cdef Handle handle = self.reader if ready == interest_read else self.writer
        if handle is None:
            return 0
        if handle._cancelled:  # by its holder: it stays registered until here
            self.loop.drop_fd_callback(self.watcher.fd(), ready == interest_read)
        else:
            self.loop.run_handle(handle)
        return 0


cdef void on_fd_ready(Watcher& fd_watcher, unsigned ready) noexcept:
    cdef FdWatcher watcher = <FdWatcher>OwnedWatcher.owner_of(fd_watcher)
    try:
        watcher.run_ready(ready)
    except BaseException as exc:
        watcher.loop.escaped(exc, "Exception in a reader or writer")


cdef WatcherOps fd_watcher_ops
fd_watcher_ops.on_ready = on_fd_ready


cdef class Loop(LoopCore):
    """Runs callbacks, one batch a turn, and waits for readiness and timers in between."""

    def __cinit__(self, *args, **kwargs):
        self.closed = True  # until there is something to close
        if args or kwargs:
            check_constructor(type(self))
        self.contexts = new_context_cache()
        self.connection_contexts = new_context_cache()
        self.watchers = {}
        self.acceptors = {}
        self.retired = []
        self.signal_fd = -1
        self.saved_origin_depth = -1
        self.slow_callback_duration = 0.1
        try:
            self.debug = coroutines._is_debug_mode()
        except SystemError:  # what os.environ makes of a MemoryError
            raise MemoryError from None
        check(self.reactor.open())
        self.closed = False

    def __dealloc__(self):
        # Nothing is left, but where the collector takes what holds the loop apart before it comes to that.
        clear_containers(<PyObject*>self)

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

    @property
    def _ready(self):
        """The handles that wait for their turn, in order: a copy, to look at."""
        cdef list handles = []
        if visit_queue(self.ready, append_to, <void*>handles) or visit_inbox(self.inbox, append_to, <void*>handles):
            raise MemoryError
        return tuple(handles)

    @property
    def _scheduled(self):
        """The timers that are pending, in the heap's order: a copy, to look at."""
        cdef list handles = []
        if visit_timers(self.timers, append_to, <void*>handles):
            raise MemoryError
        return tuple(handles)

    @property
    def _task_factory(self):
        return self.task_factory

    @property
    def _transports(self):
        """asyncio's own transports on this loop (see transports/selector_transports.py) by descriptor, weakly."""
        if self.selector_transports is None:
            self.selector_transports = weakref.WeakValueDictionary()
        return self.selector_transports

    def _watched_descriptors(self):
        """What is watched for readers and writers: a list of (file object, descriptor, reader, writer)."""
        cdef FdWatcher watcher
        cdef list watched = []
        for fd, watcher in self.watchers.items():
            if not watcher.idle():
                watched.append((watcher.fileobj, fd, watcher.reader, watcher.writer))
        return watched

    def _timer_handle_cancelled(self, handle):
        """asyncio's own TimerHandle calls it. There is nothing to count: a timer of zloop's leaves the heap at once."""

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
        tell_of_push(self.reactor)
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

    # ---- futures and tasks: CPython's own

    # CPython's own classes then take the loop from where this takes it, in fewer steps than when it is named.
    cdef bint is_the_running_one(self) except -1:
        return running_loop_is_cheap and PyObject_CallNoArgs(native_get_running_loop) is self

    def create_future(self):
        """A new asyncio.Future of this loop."""
        cdef object future_class = names_of_futures["Future"]
        if future_class is native_future and self.is_the_running_one():
            return PyObject_CallNoArgs(future_class)
        if self.itself is None:
            return future_class(loop=self)
        return PyObject_Call(future_class, (), self.itself)

    def create_task(self, coro, **kwargs):
        """Wrap a coroutine in a task and schedule it; keywords as the running Python's asyncio.Task has them."""
        if not kwargs:
            return create_task(self, coro)
        self.check_closed()
        if self.task_factory is not None:
            return task_from_factory(self, self.task_factory, coro, kwargs)
        return names_of_tasks["Task"](coro, loop=self, **kwargs)

    def set_task_factory(self, factory):
        """Make tasks by factory(loop, coro, **kwargs); None: by asyncio.Task. TypeError for what cannot be called."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self.task_factory = factory

    def get_task_factory(self):
        """The factory in use; None: asyncio.Task."""
        return self.task_factory

    # ---- one turn

    cdef int64_t poll_timeout(self) except? -2:
        """Nanoseconds that the poller may wait; -1: until something happens."""
        cdef int64_t deadline
        if not self.ready.empty() or self.stopping or self.inbox.pending() or not self.ending.empty():
            return 0
        deadline = self.timers.next_deadline()
        return -1 if deadline == never else self.time_left(deadline)

    cdef bint skips_poll(self) noexcept:
        """True if a turn that would not block need not ask the poller: see PollPacer for when that is.

        A signal makes the next turn ask. The signals' pipe is no reason by itself: what it holds of a signal whose
        handler was replaced behind the loop's back is seen when the poller is asked the next time.
        """
        if self.signals_known != signals_seen:
            self.signals_known = signals_seen
            return False
        return self.reactor.skips_wait(<size_t>(self.signal_fd >= 0))

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
        self.reactor.restart_pacing()
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

    def _close(self):
        """Forget everything and give the kernel's objects back. Once, and not while running."""
        cdef FdWatcher watcher
        self.closed = True
        for watcher in self.watchers.values():
            self.reactor.detach(watcher.watcher)
        try:
            for acceptor in self.acceptors.values():
                acceptor.abandon()
        finally:
            self.reactor.close()
            # Released last: what these drop may run foreign code.
            self.contexts.clear()
            clear_containers(<PyObject*>self)
            self.watchers.clear()
            self.acceptors.clear()

    def _acceptor_of(self, sock):
        """The Acceptor of a listening socket object, or None."""
        return self.acceptors.get(id(sock))

    # ---- readers and writers

    def _ensure_fd_no_transport(self, fileobj):
        self.check_no_transport(fileobj)

    # RuntimeError if a transport uses the descriptor: two readers would steal each other's bytes.
    cdef int check_no_transport(self, object fileobj) except -1:
        cdef object number = number_of(fileobj)
        cdef void* user = self.reactor.user_of(number) if 0 <= number <= INT_MAX else NULL
        cdef object transport = None
        if user != NULL and Py_REFCNT(<PyObject*>user) != 0:  # one on its way out is not to be brought back
            transport = <object><PyObject*>user
        elif self.selector_transports is not None:
            transport = self.selector_transports.get(number)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fileobj!r} is used by transport {transport!r}")
        return 0

    # As with asyncio's selector: a transport that waits for the kernel lives, one that waits for nothing is its
    # holders' alone. To be called wherever that may change; `anchor` is the transport's.
    cdef int hold_while(self, bint waits, object transport, ListHook& anchor) noexcept:
        if waits == anchor.linked():
            return 0
        if waits:
            self.anchored.add(anchor, <void*>transport)
            Py_INCREF(transport)
        elif self.ending.empty() or visit_list(self.ending, is_same, <void*>transport) == 0:
            anchor.leave()
            Py_DECREF(transport)  # the caller holds another
        return 0

    # There was no memory to schedule the transport's _call_connection_lost(): its _end_unscheduled() is called when
    # this turn is over, or the next one. That takes none.
    cdef int end_without_memory(self, object transport, ListHook& anchor) noexcept:
        if anchor.linked():
            anchor.leave()  # and its reference changes lists, too
        else:
            Py_INCREF(transport)
        self.ending.add(anchor, <void*>transport)
        return 0

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

    def add_reader(self, fd, callback, *args):
        """Call callback(*args) whenever fd (an int, or an object with fileno()) can be read from.

        Replaces an earlier reader. Raises ValueError for what is no descriptor, OSError for what cannot be watched (a
        regular file), RuntimeError for a transport's descriptor or on a closed loop.
        """
        self.check_no_transport(fd)
        self.set_fd_callback(fd, callback, args, None, True)

    def add_writer(self, fd, callback, *args):
        """Call callback(*args) whenever fd can be written to; otherwise as add_reader()."""
        self.check_no_transport(fd)
        self.set_fd_callback(fd, callback, args, None, False)

    def remove_reader(self, fd):
        """Stop watching fd for reading. True if it was watched."""
        self.check_no_transport(fd)
        return self.drop_fd_callback(self.watched_descriptor(fd), True)

    def remove_writer(self, fd):
        """Stop watching fd for writing. True if it was watched."""
        self.check_no_transport(fd)
        return self.drop_fd_callback(self.watched_descriptor(fd), False)

    def _take_back_reader(self, int fd, Handle handle not None):
        """End what _add_reader() began. False, and all is left alone, if the number is another file's by now."""
        cdef FdWatcher watcher
        if self.closed:
            return True
        watcher = self.watchers.get(fd)
        if watcher is None or watcher.reader is not handle:
            return False
        self.drop_fd_callback(fd, True)
        return not self.reactor.is_lost(watcher.watcher)

    # ---- the wake-up descriptor: in one piece each, with no Python frame in which a signal's handler could raise

    def _take_wakeup_fd(self):
        """Have each signal's number written to the loop's pipe. OSError for no descriptor, ValueError in other threads
        than the main one.
        """
        if self._signal_pipe is not None and self._signal_pipe_process != os.getpid():
            self._close_signal_pipe()  # inherited in a fork: what is written to it is the parent's
        if self._signal_pipe is None:
            self.open_signal_pipe()
        writable = self._signal_pipe[1]
        previous = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
        if previous != writable:
            self._previous_wakeup_fd = previous

    cdef int open_signal_pipe(self) except -1:
        pipe = os.pipe()
        try:
            for fd in pipe:
                os.set_blocking(fd, False)
            self.set_fd_callback(pipe[0], self._read_signals, (), None, True)
            self.signal_fd = pipe[0]
            self._signal_pipe_process = os.getpid()
            self._signal_pipe = pipe
        except BaseException:
            self.close_pipe(pipe)
            raise
        return 0

    def _give_wakeup_fd_back(self):
        """Unless it is still needed."""
        if self._previous_wakeup_fd is None or self._signal_handlers or self.running:
            return
        previous = self._previous_wakeup_fd
        try:
            current = signal.set_wakeup_fd(-1)
        except ValueError:
            return  # not in the main thread: it is that one's
        self._previous_wakeup_fd = None
        wanted = previous if current == self._signal_pipe[1] else current  # somebody took it from us: theirs
        try:
            signal.set_wakeup_fd(wanted)
        except (ValueError, OSError):
            pass  # its owner has closed it meanwhile: none is right

    def _close_signal_pipe(self):
        pipe, self._signal_pipe = self._signal_pipe, None
        self.close_pipe(pipe)

    cdef int close_pipe(self, object pipe) except -1:
        cdef int fd = self.signal_fd
        self.signal_fd = -1
        try:
            if fd >= 0:
                self.drop_fd_callback(fd, True)
                self.forget_if_idle(fd)
        finally:
            sys_calls.close(pipe[0])
            sys_calls.close(pipe[1])
        return 0

    # Without the look at the transports: for the loop's own use, and for libraries that know these names.
    def _add_reader(self, fd, callback, *args, context=None):
        return self.set_fd_callback(fd, callback, args, context, True)

    def _add_writer(self, fd, callback, *args, context=None):
        return self.set_fd_callback(fd, callback, args, context, False)

    def _remove_reader(self, fd):
        return self.drop_fd_callback(self.watched_descriptor(fd), True)

    def _remove_writer(self, fd):
        return self.drop_fd_callback(self.watched_descriptor(fd), False)

    cdef int watched_descriptor(self, object fileobj) except -1:
        """descriptor_of(), and of an object that was closed while it is watched the number that it had."""
        cdef FdWatcher watcher
        cdef int fd = -1
        try:
            return descriptor_of(fileobj)
        except ValueError:
            for watcher in self.watchers.values():
                if watcher.fileobj is fileobj and not watcher.idle():
                    fd = watcher.watcher.fd()
                    break
            else:
                raise
        return fd

    cdef FdWatcher watcher_for(self, object fileobj):
        cdef int fd = descriptor_of(fileobj)
        cdef FdWatcher watcher = self.watchers.get(fd)
        cdef int status
        if watcher is not None and watcher.watcher.attached():  # else another file's has the number by now
            if watcher.idle():
                watcher.fileobj = fileobj
            return watcher
        watcher = FdWatcher.__new__(FdWatcher)
        watcher.loop = self
        watcher.fileobj = fileobj
        watcher.watcher.set_owner(<void*>watcher)
        status = self.reactor.attach(watcher.watcher, fd, fd_watcher_ops)
        if status == -EEXIST:  # a transport that is closing, or a server
            raise RuntimeError(f"File descriptor {fd} is in use by the event loop")
        check(status)
        self.watchers[fd] = watcher
        return watcher

    cdef Handle set_fd_callback(self, object fileobj, object callback, object args, object context, bint for_reading):
        cdef Handle handle = new_handle(self, callback, args, context, False)
        self.set_fd_handle(fileobj, handle, for_reading)
        return handle

    cdef FdWatcher set_fd_handle(self, object fileobj, Handle handle, bint for_reading):
        cdef Handle previous
        cdef FdWatcher watcher
        cdef int status
        self.check_closed()
        watcher = self.watcher_for(fileobj)
        previous = watcher.reader if for_reading else watcher.writer
        # What was to be told to the previous one is not told to this one.
        if previous is not None and not self.reactor.refresh(watcher.watcher):
            watcher.forget_callbacks()
            previous = None
        status = watcher.watch(handle, for_reading)
        if status < 0 and watcher.watcher.lost():
            if for_reading:
                watcher.reader = None
            else:
                watcher.writer = None
            watcher.forget_callbacks()  # the other one's file is gone
            previous = None
            status = watcher.watch(handle, for_reading)
        if status < 0:
            if for_reading:
                watcher.reader = previous
            else:
                watcher.writer = previous
            self.forget_if_idle(watcher.watcher.fd())
            check(status)
        if previous is not None:
            previous.detach_callback()
        return watcher

    cdef bint drop_fd_callback(self, int fd, bint for_reading) except -1:
        cdef FdWatcher watcher
        cdef Handle previous
        if self.closed:
            return False
        watcher = self.watchers.get(fd)
        if watcher is None:
            return False
        previous = watcher.reader if for_reading else watcher.writer
        if previous is None:
            return False
        if for_reading:
            watcher.reader = None
        else:
            watcher.writer = None
        watcher.apply()  # never fails: less is asked for
        previous.detach_callback()
        return True

    # Of a handle that nothing has replaced.
    cdef int drop_fd_handle(self, FdWatcher watcher, Handle handle) except -1:
        if self.closed:
            return 0
        if watcher.reader is handle:
            watcher.reader = None
        else:
            watcher.writer = None
        watcher.apply()  # never fails: less is asked for
        return 0

    # A socket that becomes a transport's has one watcher: readers and writers set before are gone, as with asyncio.
    cdef int evict_watcher(self, int fd) except -1:
        self.drop_fd_callback(fd, True)
        self.drop_fd_callback(fd, False)
        self.forget_if_idle(fd)
        return 0

    # For a descriptor that is new, whatever had its number before.
    cdef int renew_watcher(self, int fd) except -1:
        cdef FdWatcher watcher = self.watchers.get(fd)
        if watcher is not None:
            watcher.watcher.renew()
        return 0

    # Something else is about to be tied to the number.
    cdef int forget_if_idle(self, int fd) except -1:
        cdef FdWatcher watcher = self.watchers.get(fd)
        if watcher is not None and watcher.idle():
            self.reactor.detach(watcher.watcher)
            del self.watchers[fd]
        return 0


cdef int append_to(PyObject* handle, void* handles) noexcept:
    try:
        (<list>handles).append(<object>handle)
    except MemoryError:
        return -1
    return 0


cdef int is_same(PyObject* thing, void* other) noexcept:
    return thing == <PyObject*>other


cdef int walk_containers(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef int stop = visit_queue((<Loop>self).ready, visit, arg)
    if stop == 0:
        stop = visit_queue((<Loop>self).due, visit, arg)
    if stop == 0:
        stop = visit_inbox((<Loop>self).inbox, visit, arg)
    if stop == 0:
        stop = visit_timers((<Loop>self).timers, visit, arg)
    if stop == 0:
        stop = visit_list((<Loop>self).anchored, visit, arg)
    if stop == 0:
        stop = visit_list((<Loop>self).ending, visit, arg)
    return stop


cdef void clear_containers(PyObject* self) noexcept:
    """Detach everything first; releasing runs foreign code, which may look at the loop."""
    cdef ReadyQueue detached
    detached.swap((<Loop>self).ready)
    try:
        (<Loop>self).inbox.take_into(detached)
    except MemoryError:
        pass  # stays in the inbox, visible and harmless
    while not detached.empty():
        release_handle(detached.pop_front())
    detached.swap((<Loop>self).due)
    while not detached.empty():
        release_handle(detached.pop_front())
    (<Loop>self).timers.clear(release_handle)
    while not (<Loop>self).anchored.empty():
        Py_DECREF(<object><PyObject*>(<Loop>self).anchored.pop_front())
    while not (<Loop>self).ending.empty():
        Py_DECREF(<object><PyObject*>(<Loop>self).ending.pop_front())


# What binding/methods.hpp calls for the methods of the same names, when nothing unusual is passed.
cdef object call_soon(object self, object callback, object args, object context):
    cdef Loop loop = <Loop>self
    if loop.closed:
        loop.check_closed()
    if loop.debug:
        loop.check_call(callback, "call_soon")
    return loop.schedule(callback, args, context)


cdef object create_task(object self, object coro):
    cdef Loop loop = <Loop>self
    loop.check_closed()
    if loop.task_factory is not None:
        return task_from_factory(loop, loop.task_factory, coro, {})
    cdef object task_class = names_of_tasks["Task"]
    if task_class is native_task and loop.is_the_running_one():
        return PyObject_CallOneArg(task_class, coro)
    if loop.itself is None:
        return task_class(coro, loop=loop)
    return PyObject_Call(task_class, (coro,), loop.itself)


def with_native_methods(loop_class: type) -> type:
    """A class derived from Loop, which is being made: it has the native methods as its own (binding/methods.hpp)."""
    adopt_methods(<PyTypeObject*>loop_class)
    return loop_class


cdef object plain_time = Loop.time
cdef object plain_run_once = Loop._run_once
put_fronts(<PyTypeObject*>Loop, call_soon, create_task)
install_gc_slots(<PyTypeObject*>Loop, walk_containers, clear_containers)
seal_type(<PyTypeObject*>FdWatcher, False)
seal_type(<PyTypeObject*>Loop, True)
