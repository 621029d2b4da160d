# Handles: what call_soon and its kin return, and what the ready queue and the timer heap hold.
cimport cython
from libc.stdint cimport int64_t

from zloop.binding.context cimport are_alike, is_unshared
from zloop.binding.threads cimport LoopInbox
from zloop.engine.ring_buffer cimport ReadyQueue
from zloop.engine.timer_heap cimport TimerHeap, TimerNode

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


# Else every callback gets a copy of the context at once.
cdef bint contexts_can_be_shared


@cython.final
cdef class ContextCache:
    cdef object snapshot         # alike the context that it was last asked for a copy of; never entered
    cdef object runner           # as good as new, and nobody else's

    cdef object share(self)
    cdef object share_copy_of(self, object context)
    cdef int clear(self) except -1

    # A context of the caller's own, alike the snapshot.
    cdef inline object take_runner(self, object snapshot):
        cdef object runner = self.runner
        self.runner = None
        if runner is not None and are_alike(runner, snapshot):
            return runner
        return PyContext_Copy(snapshot)

    # Takes a context that is used no more, if it is as good as new. The caller holds one reference to it.
    cdef inline bint give_back(self, object context, object snapshot) noexcept:
        if not is_unshared(context) or not are_alike(context, snapshot):
            return False
        self.runner = context
        return True


cdef class LoopCore:
    cdef ContextCache contexts   # what its callbacks run in
    cdef TimerHeap timers        # each entry owns one reference to a TimerHandle
    cdef bint debug


cdef class Handle:
    cdef object __weakref__
    # The names are asyncio's: tools read them.
    cdef readonly object _callback          # None once cancelled
    cdef readonly object _args              # tuple; None once cancelled
    cdef object context                     # what the callback runs in; while shares_context, a snapshot of it
    cdef readonly LoopCore _loop
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
    cdef double seconds          # on the loop's clock
    cdef object other_number     # what was given in place of a float; else None
    cdef TimerNode node

    cdef int schedule(self) except -1


cdef ContextCache new_context_cache()
# A handle that `runs_once` may share its context's copy with others until then.
cdef Handle new_handle(LoopCore loop, object callback, object args, object context, bint runs_once)
cdef ThreadSafeHandle new_thread_safe_handle(LoopCore loop, object callback, object args, object context)
cdef TimerHandle new_timer_handle(LoopCore loop, object when, object callback, object args, object context)
cdef int untrack(Handle handle) noexcept
cdef int track_if_held(Handle handle) noexcept
cdef int track_queued(ReadyQueue& ready, LoopInbox& inbox) noexcept
cdef int raise_current() except -1
cdef int64_t deadline_of(double when) noexcept
