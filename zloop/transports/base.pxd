# What all transports share: see base.pyx for the tree of their classes.
from cpython.object cimport PyObject
from libcpp cimport bool as cpp_bool

from zloop.binding.threads cimport free_threaded
from zloop.binding.transport_base cimport AsyncioBase
from zloop.core.loop cimport Loop
from zloop.engine.flow_control cimport FlowControl
from zloop.engine.hook_list cimport ListHook


cdef class BaseTransport(AsyncioBase):
    cdef object __weakref__
    cdef dict __dict__           # programs set attributes, and replace methods, on transports
    cdef Loop loop               # None once the connection is lost; its keep-alive list owns a transport at work
    cdef ListHook keepalive     # in that list
    cdef object protocol         # None once the connection is lost; get_protocol() may be called by other threads
    cdef object context          # protocol callbacks run in it
    cdef object unscheduled      # the exception that _end_unscheduled() passes on
    cdef PyObject* pinned        # owns a reference to what owns the descriptor, or NULL: see pin()
    cdef int fd                  # kept for repr() when the descriptor is gone
    cdef unsigned char dropped_writes  # since the connection ended; counted up to asyncio's warning
    cdef cpp_bool closing        # close() or abort() was called, or the end or an error was met
    cdef cpp_bool ending         # connection_lost() is scheduled, or was called: nothing is sent any more
    cdef readonly cpp_bool _paused  # pause_reading() was called last

    # What each kind of transport does in its own way:
    cdef bint is_open(self) noexcept
    cdef bint waits_for_kernel(self) noexcept
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) noexcept
    cdef size_t buffered(self) noexcept
    cdef int discard_pending(self) except -1
    cdef int end_when_drained(self) except -1
    cdef int release(self) except -1
    cdef bint only_logs(self, object exception) except -1

    cdef int pin(self, object owner) except -1
    cdef int unpin(self) except -1
    cdef int check_owner(self) except -1
    cdef int replace_protocol(self, object protocol) except -1
    cdef bint wants_data(self) noexcept
    cdef int watch(self) except -1
    cdef int fail(self, object exception, str message) except -1
    cdef int force_close(self, object exception) except -1
    cdef int schedule_connection_lost(self, object exception) except -1
    cdef int update_keepalive(self) noexcept
    cdef int drop_write(self, str warning, int unwarned) except -1


# RuntimeError in another thread than the one that runs the loop: first in each method that changes something.
# Debug mode's check on other transports; with a GIL a method runs as a whole, and is not checked.
cdef inline int owner_only(BaseTransport transport) except -1:
    if free_threaded:
        return transport.check_owner()
    return 0


cdef class WritingTransport(BaseTransport):
    cdef FlowControl flow        # of what is written and not sent

    cdef int pause_if_full(self) except -1
    cdef int resume_if_drained(self) except -1


cdef object check_new(Loop loop, object protocol)
cdef int begin(BaseTransport transport, object connection_made, object then, object waiter) except -1
cdef void read_callback_failed(BaseTransport transport, Loop loop) noexcept
cdef int end_in_context(object transport, object context, object exception) except -1
cdef int set_water_marks(FlowControl& flow, object high, object low) except -1
cdef str describe_transport(BaseTransport transport, bint reading, bint blocked)
