# The native half of the loop: turns, scheduling, readers and writers. It knows no transport.
from libc.stdint cimport int64_t

from zloop.binding.threads cimport LoopInbox
from zloop.core.handles cimport ContextCache, Handle, LoopCore, TimerHandle
from zloop.engine.address cimport Address
from zloop.engine.hook_list cimport HookList, ListHook
from zloop.engine.reactor cimport Reactor
from zloop.engine.ring_buffer cimport ReadyQueue
from zloop.engine.watcher cimport OwnedWatcher


cdef class FdWatcher:
    cdef OwnedWatcher watcher  # its owner is this object
    cdef Loop loop             # whose `watchers` owns this object while it is attached
    cdef object fileobj        # what is watched: tells it by when it is closed, and has no number any more
    cdef Handle reader         # None: not watched for reading
    cdef Handle writer

    cdef bint idle(self) noexcept
    cdef int apply(self) noexcept
    cdef int forget_callbacks(self) except -1
    cdef int watch(self, Handle handle, bint for_reading) noexcept
    cdef int run_ready(self, unsigned ready) except -1


cdef class Loop(LoopCore):
    cdef Reactor reactor
    # Each slot of these, and of the timers, owns a reference to a Handle; the garbage collector sees them, and what is
    # anchored or ending, through binding/gc_slots.
    cdef ReadyQueue ready
    cdef ReadyQueue due        # timers whose time came with this turn
    cdef LoopInbox inbox

    cdef ContextCache connection_contexts  # accepted ones' that have changed nothing in theirs, while a server listens
    cdef dict watchers         # descriptor -> FdWatcher: add_reader(), add_writer(), sock_* calls that wait
    cdef HookList anchored     # owns a reference to each transport that waits for the kernel: nobody else may hold it
    cdef HookList ending       # the same of each that has ended while there was no memory for the callback to say so
    cdef Py_buffer lent        # a protocol's buffer, during one transport's read
    cdef object place          # what has the memory of a read in place, during one: a bytes object or a NativeProtocol
    cdef Address last_sender   # of the datagram that sock_recvfrom() has received last
    cdef object last_sender_name  # the same as Python has it; None: there was none
    cdef object selector_transports  # descriptor -> asyncio's own transport, weakly; None: there has been none
    cdef dict acceptors        # id of its socket object -> Acceptor: keeps a listening one, and that object, alive
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
    cdef object task_factory       # None: asyncio.Task
    cdef dict itself               # while running, {"loop": self}: a call's keywords need not be made anew for each
    cdef object old_asyncgen_hooks
    cdef int saved_origin_depth    # -1: coroutine origin tracking is not ours
    cdef readonly object _current_handle  # debug mode: the one that runs
    cdef public object slow_callback_duration  # seconds

    cdef int check_closed(self) except -1
    cdef int check_call(self, object callback, str method) except -1
    cdef int push_ready(self, Handle handle) except -1
    cdef bint is_the_running_one(self) except -1
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
    cdef int open_signal_pipe(self) except -1
    cdef int close_pipe(self, object pipe) except -1
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
    cdef int hold_while(self, bint waits, object transport, ListHook& anchor) noexcept
    cdef int end_without_memory(self, object transport, ListHook& anchor) noexcept
    cdef int end_unscheduled(self) noexcept
    cdef int check_no_transport(self, object fileobj) except -1
    cdef int watched_descriptor(self, object fileobj) except -1
    cdef FdWatcher watcher_for(self, object fileobj)
    cdef Handle set_fd_callback(self, object fileobj, object callback, object args, object context, bint for_reading)
    cdef FdWatcher set_fd_handle(self, object fileobj, Handle handle, bint for_reading)
    cdef bint drop_fd_callback(self, int fd, bint for_reading) except -1
    cdef int drop_fd_handle(self, FdWatcher watcher, Handle handle) except -1
    cdef int evict_watcher(self, int fd) except -1
    cdef int renew_watcher(self, int fd) except -1
    cdef int forget_if_idle(self, int fd) except -1


cdef int check(int status) except -1
cdef int descriptor_of(object fileobj) except -1
