# The native half of the loop. It cimports no transport.
from zloop.core.descriptors cimport DescriptorLoop
from zloop.core.scheduler cimport check
from zloop.engine.address cimport Address
from zloop.engine.hook_list cimport HookList, ListHook


cdef class Loop(DescriptorLoop):
    cdef HookList keepalive_list     # owns a reference to each transport that waits for the kernel
    cdef Address last_sender   # of the last datagram that sock_recvfrom() received
    cdef object last_sender_name  # the same as a Python address; None: there has been none
    cdef object transports     # the transports' state for this loop, which has a close(); None before the first
    cdef object task_factory   # None: asyncio.Task

    cdef bint is_current_loop(self) except -1
    cdef int open_signal_pipe(self) except -1
    cdef int close_pipe(self, object pipe) except -1
    cdef int update_keepalive(self, bint waits, object transport, ListHook& hook) noexcept
