# The native half of the loop. It cimports no transport.
from zloop.core.descriptors cimport DescriptorLoop
from zloop.core.scheduler cimport check
from zloop.engine.address cimport Address
from zloop.engine.hook_list cimport HookList, ListHook


cdef class Loop(DescriptorLoop):
    cdef HookList anchored     # owns a reference to each transport that waits for the kernel: nobody else may hold it
    cdef Address last_sender   # of the last datagram that sock_recvfrom() received
    cdef object last_sender_name  # the same as a Python address; None: there has been none
    cdef object transports     # what the transports keep for this loop, with a close(); None: there has been none
    cdef object task_factory   # None: asyncio.Task

    cdef bint is_current_loop(self) except -1
    cdef int open_signal_pipe(self) except -1
    cdef int close_pipe(self, object pipe) except -1
    cdef int hold_while(self, bint waits, object transport, ListHook& anchor) noexcept
