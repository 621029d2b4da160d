# What runs in a turn of the loop, and when.
from libc.stdint cimport int64_t

from zloop.binding.threads cimport LoopInbox
from zloop.core.handles cimport Handle, LoopCore, TimerHandle
from zloop.engine.hook_list cimport HookList, ListHook
from zloop.engine.reactor cimport Reactor
from zloop.engine.ring_buffer cimport ReadyQueue


cdef class Scheduler(LoopCore):
    cdef Reactor reactor
    # Each slot of these, and of the timers, owns a reference to a Handle; the garbage collector sees them, and what is
    # ending, through binding/gc_slots.
    cdef ReadyQueue ready
    cdef ReadyQueue due        # timers whose time came with this turn
    cdef LoopInbox inbox
    cdef HookList ending      # transports that have ended while there was no memory for the callback to say so
    cdef list retired          # closed inside an I/O callback: the engine may still be in them until the turn ends

    cdef int signal_fd         # the read end of the signals' pipe, while it is watched; else -1
    cdef bint signals_due      # _signals_begin() is called before this run waits for the first time
    cdef unsigned long signals_known  # how many signals had come when the poller was last asked
    cdef unsigned long turn    # counts them

    cdef bint closed
    cdef bint stopping
    cdef bint running
    cdef bint has_own_clock    # time() is not this class's: it rules the timers
    cdef bint has_own_turn     # _run_once() is not this class's: run_forever() calls it
    cdef unsigned long thread_id   # of run_forever(), while running
    cdef object interruption       # SystemExit or KeyboardInterrupt out of an I/O callback, on its way to run_forever()
    cdef dict itself               # while running, {"loop": self}: a call's keywords need not be made anew for each
    cdef object old_asyncgen_hooks
    cdef int saved_origin_depth    # -1: coroutine origin tracking is not ours
    cdef readonly object _current_handle  # debug mode: the one that runs
    cdef public object slow_callback_duration  # seconds

    cdef int check_closed(self) except -1
    cdef int check_call(self, object callback, str method) except -1
    cdef int push_ready(self, Handle handle) except -1
    cdef Handle schedule(self, object callback, object args, object context)
    cdef TimerHandle schedule_at(self, object when, object callback, object args, object context)
    cdef int look_for_own_methods(self) except -1
    cdef int64_t own_clock(self) except? -1
    cdef int64_t time_left(self, int64_t deadline) except? -1
    cdef int64_t poll_timeout(self) except? -2
    cdef bint skips_poll(self) noexcept
    cdef int begin_to_run(self) except -1
    cdef int end_to_run(self) except -1
    cdef int undo(self, int step) except -1
    cdef int run_turn(self) except -1
    cdef int take_due_timers(self) except -1
    cdef int wait_for_events(self) except -1
    cdef int dispatch(self) except -1
    cdef int run_batch(self, ReadyQueue& queue, size_t count) except -1
    cdef int run_handle(self, Handle handle) except -1
    cdef int requeue_due(self) except -1
    cdef int run_handle_debug(self, Handle handle) except -1
    cdef int interrupt(self, object exception) except -1
    cdef int raise_interruption(self) except -1
    cdef void escaped(self, object exception, str message) noexcept
    cdef int end_without_memory(self, object transport, ListHook& anchor) noexcept
    cdef bint is_ending(self, object transport) noexcept
    cdef int end_unscheduled(self) noexcept


cdef int check(int status) except -1
