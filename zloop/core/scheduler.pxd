# What runs in a turn of the loop, and when.
from libc.stdint cimport int64_t

from zloop.binding.threads cimport LoopInbox
from zloop.core.handles cimport Handle, LoopCore, TimerHandle
from zloop.engine.hook_list cimport HookList, ListHook
from zloop.engine.reactor cimport Reactor
from zloop.engine.ring_buffer cimport ReadyQueue


cdef class Scheduler(LoopCore):
    cdef Reactor reactor
    # Each slot of these, and of the timers, owns a reference to a Handle. The garbage collector sees them, and
    # `unscheduled_ends`, through binding/gc_slots.
    cdef ReadyQueue ready
    cdef ReadyQueue due        # timers that are due in this turn
    cdef size_t batch_left     # of the batch of ready callbacks, how many have not run; 0 outside of it
    cdef LoopInbox inbox
    cdef LoopInbox dropped     # transports whose last reference another thread has given up; each slot owns one
    cdef HookList unscheduled_ends  # owns a reference to each transport that end_without_memory() was given
    cdef unsigned int dispatching    # dispatches that have not returned; a callback that runs a turn is inside of one
    cdef list pending_close          # objects closed inside an I/O callback: the engine may use them until it returns

    cdef int signal_fd         # the read end of the signals' pipe, while it is watched; else -1
    cdef bint signals_due      # _signals_begin() is to be called before this run blocks for the first time

    # Counters; all of them wrap around.
    cdef unsigned long turn    # turns of the loop
    cdef unsigned long signals_known  # `signals_seen` at the last poll

    # Read by other threads, too:
    cdef bint closed
    cdef bint stopping         # and stop() may be called by them
    cdef bint running
    cdef bint clock_replaced   # time() is a program's own: timers follow it
    cdef bint turn_replaced    # _run_once() is a program's own: run_forever() calls it
    cdef unsigned long thread_id   # of run_forever(), while running; else 0. Read by other threads, too
    cdef object interruption       # SystemExit or KeyboardInterrupt of an I/O callback, until the dispatch is over
    cdef dict loop_keyword         # while running, {"loop": self}, made once for all calls that pass it
    cdef object old_asyncgen_hooks
    cdef int saved_origin_depth    # of coroutine origin tracking before the loop switched it on; else -1
    cdef readonly object _current_handle  # in debug mode, the handle that runs
    cdef public object slow_callback_duration  # seconds

    cdef bint runs_here(self) noexcept
    cdef int check_closed(self) except -1
    cdef int check_thread(self) except -1
    cdef int check_call(self, object callback, str method) except -1
    cdef int push_ready(self, Handle handle) except -1
    cdef Handle schedule(self, object callback, object args, object context)
    cdef TimerHandle schedule_at(self, object when, object callback, object args, object context)
    cdef int find_replaced_methods(self) except -1
    cdef int64_t replaced_clock(self) except? -1
    cdef int64_t time_left(self, int64_t deadline) except? -1
    cdef int64_t poll_timeout(self) except? -2
    cdef bint skips_poll(self) noexcept
    cdef int begin_to_run(self) except -1
    cdef int end_to_run(self) except -1
    cdef int undo(self, int step) except -1
    cdef int run_turn(self) except -1
    cdef int take_due_timers(self) except -1
    cdef int wait_for_events(self) except -1
    cdef int run_ready(self) except -1
    cdef int run_due(self) except -1
    cdef int run_failed(self, ReadyQueue& queue, Handle handle) except -1
    cdef int requeue_due(self) except -1
    cdef int run_handle_debug(self, Handle handle) except -1
    cdef int interrupt(self, object exception) except -1
    cdef int raise_interruption(self) except -1
    cdef void escaped(self, object exception, str message) noexcept
    cdef int end_without_memory(self, object transport, ListHook& hook) noexcept
    cdef bint is_ending(self, object transport) noexcept
    cdef int report_unscheduled_ends(self) noexcept
    cdef bint take_dropped(self, object transport) except -1
    cdef int release_dropped(self) except -1


cdef int check(int status) except -1
cdef int run_handle(Scheduler loop, Handle handle) except -1
