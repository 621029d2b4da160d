# cython: language_level=3
"""The native half of the loop: the class that has instances.

``zloop.loop.Loop`` adds, in Python, what runs per connection, per server or per loop. Scheduling and the watching of
descriptors are the base classes'; here are tasks and futures, the signals' pipe, the keep-alive list, and what the
garbage collector sees of all three (binding/gc_slots.hpp).
"""
import os
import signal
import sys
import weakref
from asyncio import coroutines, events, futures, tasks
from types import FunctionType

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from zloop.binding.gc_slots cimport install_gc_slots, visit_inbox, visit_list, visit_queue, visit_timers, visitproc
from zloop.binding.methods cimport flatten_methods, install_create_task_shim
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport free_threaded, store_shared
from zloop.core.contexts cimport new_context_cache
from zloop.core.descriptors cimport DescriptorLoop, FdWatcher
from zloop.core.scheduler cimport check
from zloop.engine cimport sys as sys_calls
from zloop.engine.invariants cimport live_count
from zloop.engine.ring_buffer cimport ReadyQueue

from zloop.core import settings
from zloop.core.tasks import task_from_factory

cdef extern from "Python.h":
    object PyObject_Call(object callable, tuple args, dict keywords)
    object PyObject_CallNoArgs(object callable)
    object PyObject_CallOneArg(object callable, object arg)
    void PyType_Modified(PyTypeObject* type) noexcept

    ctypedef struct TypeSlots "PyTypeObject":
        PyObject* tp_dict

# A program may replace asyncio's C classes by others: the names are looked up at each call.
cdef dict names_of_futures = futures.__dict__
cdef dict names_of_tasks = tasks.__dict__
cdef object native_future = getattr(futures, "_CFuture", None)
cdef object native_task = getattr(tasks, "_CTask", None)
cdef object native_get_running_loop = getattr(events, "_c__get_running_loop", events._get_running_loop)
# CPython 3.11 calls getpid(2) each time that it looks up the running loop.
cdef bint running_loop_is_cheap = sys.version_info >= (3, 12)


def _run_until_complete_cb(future):
    """Stop the loop in which run_until_complete() waits for this future."""
    if not future.cancelled() and isinstance(future.exception(), (SystemExit, KeyboardInterrupt)):
        return  # the exception has left run_forever()
    future.get_loop().stop()


cdef int check_constructor(object loop_class) except -1:
    """TypeError for arguments to a loop class that has no __init__() of its own to take them."""
    for each in loop_class.__mro__:
        if "__init__" in each.__dict__:
            break  # object has one
    if each.__module__.startswith("zloop."):
        raise TypeError(
            f"{loop_class.__name__}() takes no arguments: zloop's engine polls by itself, without a selector"
        )
    return 0


cdef void release_handle(void* handle) noexcept:
    Py_DECREF(<object><PyObject*>handle)


cdef class Loop(DescriptorLoop):
    """A scheduler with descriptors, tasks and signals: what zloop.Loop derives from."""

    def __cinit__(self, *args, **kwargs):
        self.closed = True  # until there is something to close
        if args or kwargs:
            check_constructor(type(self))
        self.contexts = new_context_cache()
        self.watchers = {}
        self.pending_close = []
        self.signal_fd = -1
        self.saved_origin_depth = -1
        self.slow_callback_duration = 0.1
        try:
            self.debug = coroutines._is_debug_mode()
            if not settings.adaptive_polling():
                self.reactor.disable_adaptive_polling()
        except SystemError:  # os.environ turns a MemoryError into one
            raise MemoryError from None
        check(self.reactor.open())
        self.closed = False

    def __dealloc__(self):
        # close() has emptied them, unless the garbage collector has cleared the loop's owner first.
        clear_containers(<PyObject*>self)

    def _close(self):
        """Release every callback and close the reactor's descriptors. To be called once, and not while running."""
        cdef FdWatcher watcher
        store_shared(self.closed, True)
        for watcher in self.watchers.values():
            self.reactor.detach(watcher.watcher)
        try:
            if self.transports is not None:
                self.transports.close()
        finally:
            self.reactor.close()
            # Last, because releasing these may run any Python code.
            if free_threaded:
                self.release_dropped()
            self.contexts.clear()
            clear_containers(<PyObject*>self)
            self.watchers.clear()
            self.transports = None

    @property
    def _ready(self):
        """A copy of the ready queue: its handles, in order."""
        cdef list handles = []
        self.inbox.take_into(self.ready)
        if visit_queue(self.ready, append_to, <void*>handles):
            raise MemoryError
        return tuple(handles)

    @property
    def _scheduled(self):
        """A copy of the pending timers, in the heap's order."""
        cdef list handles = []
        if visit_timers(self.timers, append_to, <void*>handles):
            raise MemoryError
        return tuple(handles)

    @property
    def _transports(self):
        """asyncio's own transports on this loop (see transports/selector_transports.py) by descriptor, weakly."""
        if self.selector_transports is None:
            self.selector_transports = weakref.WeakValueDictionary()
        return self.selector_transports

    def _state(self):
        """What print_debug_info() prints: names of things, and how many there are now."""
        cdef list waiting = []
        cdef dict state
        if visit_list(self.keepalive_list, append_to, <void*>waiting):
            raise MemoryError
        state = {
            "callbacks that are ready": len(self._ready),
            "timers": self.timers.size(),
            "descriptors that are watched": self.reactor.watched(),
            "descriptors with a reader or a writer": len(self.watchers),
        }
        for transport in waiting:
            name = f"{type(transport).__name__} that waits for the kernel"
            state[name] = state.get(name, 0) + 1
        for name, count in live_engine_objects().items():
            state[f"{name} in this process"] = count
        return state

    def _timer_handle_cancelled(self, handle):
        """For asyncio's own TimerHandle, which calls it. A cancelled timer of zloop's leaves the heap at once."""

    # ---- futures and tasks: CPython's own

    # CPython's own classes look the running loop up faster than they take it as a keyword.
    cdef bint is_current_loop(self) except -1:
        return running_loop_is_cheap and PyObject_CallNoArgs(native_get_running_loop) is self

    def create_future(self):
        """Return a new asyncio.Future of this loop."""
        cdef object future_class = names_of_futures["Future"]
        if future_class is native_future and self.is_current_loop():
            return PyObject_CallNoArgs(future_class)
        if self.loop_keyword is None:
            return future_class(loop=self)
        return PyObject_Call(future_class, (), self.loop_keyword)

    def create_task(self, coro, **kwargs):
        """Schedule a coroutine as a task; return the asyncio.Task, or what the task factory returns.

        Keywords are those of the running Python's asyncio.Task: `name` and `context`, since CPython 3.14 also
        `eager_start`. Raises RuntimeError if the loop is closed, TypeError if `coro` is not a coroutine.
        """
        if not kwargs:
            return create_task(self, coro)
        self.check_closed()
        if self.task_factory is not None:
            return task_from_factory(self, self.task_factory, coro, kwargs)
        return names_of_tasks["Task"](coro, loop=self, **kwargs)

    def set_task_factory(self, factory):
        """Make tasks with factory(loop, coro, **kwargs), which returns a future; None restores asyncio.Task.

        Raises TypeError if the factory is not callable.
        """
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self.task_factory = factory

    def get_task_factory(self):
        """Return the task factory, or None if tasks are asyncio.Task's."""
        return self.task_factory

    @property
    def _task_factory(self):
        return self.task_factory

    def _run_until_done(self, future, new_task):
        """Run until the future is done: the native part of run_until_complete()."""
        future.add_done_callback(_run_until_complete_cb)
        try:
            self.run_forever()
        except BaseException:
            if new_task and future.done() and not future.cancelled():
                future.exception()  # marks it as retrieved: the caller has no reference to the task
            raise
        finally:
            future.remove_done_callback(_run_until_complete_cb)

    # ---- the keep-alive list

    # The list keeps a transport alive while it waits for the kernel, as asyncio's selector does. A transport that waits
    # for nothing lives as long as others hold it. To be called wherever that may change; `hook` is the transport's.
    cdef int update_keepalive(self, bint waits, object transport, ListHook& hook) noexcept:
        if waits == hook.linked():
            return 0
        if waits:
            self.keepalive_list.add(hook, <void*>transport)
            Py_INCREF(transport)
        elif self.unscheduled_ends.empty() or not self.is_ending(transport):
            hook.leave()
            Py_DECREF(transport)  # the list's reference; the caller holds another
        return 0

    # ---- the wake-up descriptor and its pipe; native, because a signal's handler may raise in any Python frame

    def _take_wakeup_fd(self):
        """Have the interpreter write each signal's number to the loop's pipe (signal.set_wakeup_fd()).

        Raises OSError if no descriptor is left, ValueError in other threads than the main one.
        """
        if self._signal_pipe is not None and self._signal_pipe_process != os.getpid():
            self._close_signal_pipe()  # inherited by fork(): the pipe is the parent's
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
        """Restore the previous wake-up descriptor, unless the loop runs or has handlers."""
        if self._previous_wakeup_fd is None or self._signal_handlers or self.running:
            return
        previous = self._previous_wakeup_fd
        try:
            current = signal.set_wakeup_fd(-1)
        except ValueError:
            return  # not in the main thread: the descriptor stays with that one
        self._previous_wakeup_fd = None
        wanted = previous if current == self._signal_pipe[1] else current  # a replaced one stays
        try:
            signal.set_wakeup_fd(wanted)
        except (ValueError, OSError):
            pass  # its owner has closed it: there is none to restore

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


def live_engine_objects():
    """The engine's objects that exist in this process, by class; empty, unless zloop was built to count them."""
    cdef dict counts = {}
    cdef size_t index = 0
    while live_count(index).name != NULL:
        counts[live_count(index).name.decode()] = live_count(index).count  # pragma: no cover: only a debug build counts
        index += 1  # pragma: no cover: only a debug build counts
    return counts


cdef int append_to(PyObject* handle, void* handles) noexcept:
    try:
        (<list>handles).append(<object>handle)
    except MemoryError:
        return -1
    return 0


cdef int walk_containers(PyObject* self, visitproc visit, void* arg) noexcept:
    cdef int stop = visit_queue((<Loop>self).ready, visit, arg)
    if stop == 0:
        stop = visit_queue((<Loop>self).due, visit, arg)
    if stop == 0:
        stop = visit_inbox((<Loop>self).inbox, visit, arg)
    if stop == 0:
        stop = visit_inbox((<Loop>self).dropped, visit, arg)
    if stop == 0:
        stop = visit_timers((<Loop>self).timers, visit, arg)
    if stop == 0:
        stop = visit_list((<Loop>self).keepalive_list, visit, arg)
    if stop == 0:
        stop = visit_list((<Loop>self).unscheduled_ends, visit, arg)
    return stop


cdef void clear_containers(PyObject* self) noexcept:
    """Release all references. Each container is emptied first, because a release may run code that uses the loop."""
    cdef ReadyQueue detached
    detached.swap((<Loop>self).ready)
    try:
        (<Loop>self).inbox.take_into(detached)
        (<Loop>self).dropped.take_into(detached)
    except MemoryError:
        pass  # what is left stays in the inbox, where the garbage collector sees it
    while not detached.empty():
        release_handle(detached.pop_front())
    detached.swap((<Loop>self).due)
    while not detached.empty():
        release_handle(detached.pop_front())
    (<Loop>self).timers.clear(release_handle)
    while not (<Loop>self).keepalive_list.empty():
        Py_DECREF(<object><PyObject*>(<Loop>self).keepalive_list.pop_front())
    while not (<Loop>self).unscheduled_ends.empty():
        Py_DECREF(<object><PyObject*>(<Loop>self).unscheduled_ends.pop_front())


# Called by the shim in binding/methods.hpp for the method's common signature.
cdef object create_task(object self, object coro):
    cdef Loop loop = <Loop>self
    loop.check_closed()
    if loop.task_factory is not None:
        return task_from_factory(loop, loop.task_factory, coro, {})
    cdef object task_class = names_of_tasks["Task"]
    if task_class is native_task and loop.is_current_loop():
        return PyObject_CallOneArg(task_class, coro)
    if loop.loop_keyword is None:
        return task_class(coro, loop=loop)
    return PyObject_Call(task_class, (coro,), loop.loop_keyword)


def with_methods_of_bases(loop_class: type) -> type:
    """Class decorator: gives a class derived from Loop the methods of its bases as its own.

    CPython calls native methods faster so (binding/methods.hpp), and help() shows each method once, in one list. Every
    native module that uses the class must be loaded by now: see hide_vtable().
    """
    flatten_methods(<PyTypeObject*>loop_class)
    for base in loop_class.__mro__:
        if base is not loop_class and base.__module__.startswith("zloop."):
            for name, value in list(base.__dict__.items()):
                if type(value) is FunctionType and is_public(name) and name not in loop_class.__dict__:
                    setattr(loop_class, name, value)
            hide_vtable(<PyTypeObject*>base)
    return loop_class


cdef bint is_public(str name):
    return not name.startswith("_") or name.endswith("__")


# Cython leaves a class's table of C functions in its dictionary, for modules that cimport the class to read while they
# are loaded. help() would show it.
cdef int hide_vtable(PyTypeObject* native_class) except -1:
    cdef dict names = <dict>(<TypeSlots*>native_class).tp_dict
    if names.pop("__pyx_vtable__", None) is not None:
        PyType_Modified(native_class)
    return 0


install_create_task_shim(<PyTypeObject*>Loop, create_task)
install_gc_slots(<PyTypeObject*>Loop, walk_containers, clear_containers)
seal_type(<PyTypeObject*>Loop, True)
