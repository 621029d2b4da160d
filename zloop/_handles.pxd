# Handles: what call_soon and its kin return, and what the ready queue and the timer heap hold.
from libc.stdint cimport int64_t

from zloop.engine.timer_heap cimport TimerHeap, TimerNode

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


cdef class ContextCache:
    cdef object snapshot         # alike the context that was current when it was last asked for; never entered
    cdef object runner           # as good as new, and nobody else's

    cdef object share(self)
    cdef object take_runner(self, object snapshot)
    cdef int give_back(self, object context, object snapshot) except -1
    cdef int clear(self) except -1


cdef class Handle:
    cdef object __weakref__
    # The names are asyncio's: tools read them.
    cdef readonly object _callback          # None once cancelled
    cdef readonly object _args              # tuple; None once cancelled
    cdef object context                     # what the callback runs in; while shares_context, a snapshot of it
    cdef readonly object _loop
    cdef readonly object _source_traceback  # where it was made, in debug mode; else None
    cdef readonly bint _cancelled
    cdef bint once                          # a reader or writer that is told of one event, and asks for the next itself
    cdef bint shares_context                # `context` is a ContextCache's: to be copied before anything enters it
    cdef object kept_repr                   # debug mode: what it was before it was cancelled

    cdef int run(self, ContextCache contexts) except -1
    cdef object own_context(self)
    cdef int failed(self, object callback, object args) except -1
    cdef int detach_callback(self) except -1


cdef class ThreadSafeHandle(Handle):
    cdef unsigned long runner    # the thread that runs the callback now; 0: none
    cdef object finished         # a threading.Event that other threads wait for while it runs; None: nobody waits

    cdef int wait_while_running(self) except -1


cdef class TimerHandle(Handle):
    cdef readonly object _when   # seconds, on the loop's clock: the number that was given
    cdef TimerNode node
    cdef TimerHeap* heap         # the loop's; _loop keeps it alive

    cdef int schedule(self, TimerHeap* heap) except -1


cdef Handle new_handle(object loop, ContextCache contexts, object callback, object args, object context, bint debug)
cdef ThreadSafeHandle new_thread_safe_handle(
    object loop, ContextCache contexts, object callback, object args, object context, bint debug)
cdef TimerHandle new_timer_handle(
    object loop, ContextCache contexts, object when, object callback, object args, object context, bint debug)
cdef int64_t deadline_of(double when) noexcept
