# Handles: call_soon() and its kin return them; the ready queue and the timer heap hold them.
from libc.stdint cimport int64_t

from zloop.core.contexts cimport ContextCache
from zloop.engine.timer_heap cimport TimerHeap, TimerNode


cdef class LoopCore:
    cdef ContextCache contexts   # what its callbacks run in
    cdef TimerHeap timers        # each entry owns one reference to a TimerHandle
    cdef bint debug              # read by other threads, too

    cdef bint owns_timers(self) noexcept
    cdef int push_from_outside(self, Handle handle) except -1


cdef class Handle:
    cdef object __weakref__
    # cancel() may be called in any thread: see detach_callback().
    cdef object callback                    # None once cancelled
    cdef object args                        # tuple; None once cancelled
    cdef object context                     # the callback runs in it; while shares_context, in a copy of it
    # The names are asyncio's: tools read them.
    cdef readonly LoopCore _loop
    cdef readonly object _source_traceback  # where it was made, in debug mode; else None
    cdef bint is_cancelled                  # read by other threads, too
    cdef bint once                          # a reader or writer of one event: it re-arms itself
    cdef bint shares_context                # `context` is a ContextCache's shared copy: copied before it is entered
    cdef object repr_when_cancelled        # repr() before cancel(), in debug mode; else None

    cdef int run(self, ContextCache contexts) except -1
    cdef object own_context(self)
    cdef int detach_callback(self) except -1
    cdef int leave_queues(self) except -1


cdef class ThreadSafeHandle(Handle):
    cdef unsigned long running_thread  # the thread in which the callback runs now; 0 if it does not run
    cdef object finished         # a threading.Event for threads that wait for the callback's end; None if none waits

    cdef int wait_while_running(self) except -1
    cdef bint is_run_elsewhere(self) noexcept


cdef class TimerHandle(Handle):
    cdef double seconds          # on the loop's clock
    cdef object given_when       # the number that was passed, if it is no float; else None
    cdef TimerNode node

    cdef int schedule(self) except -1
    cdef int ask_loop_to_remove(self) except -1


# A handle that `runs_once` may share its copy of the context with other handles until it runs.
cdef Handle new_handle(LoopCore loop, object callback, object args, object context, bint runs_once)
cdef ThreadSafeHandle new_thread_safe_handle(LoopCore loop, object callback, object args, object context)
cdef TimerHandle new_timer_handle(LoopCore loop, object when, object callback, object args, object context)
cdef int raise_current() except -1
cdef int64_t deadline_of(double when) noexcept
