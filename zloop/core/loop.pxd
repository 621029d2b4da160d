# The native half of the loop. It knows no transport.
from zloop.core.contexts cimport ContextCache
from zloop.core.descriptors cimport DescriptorLoop
from zloop.core.scheduler cimport check
from zloop.engine.address cimport Address
from zloop.engine.hook_list cimport HookList, ListHook


cdef class Loop(DescriptorLoop):
    cdef ContextCache connection_contexts  # accepted ones' that have changed nothing in theirs, while a server listens
    cdef HookList anchored     # owns a reference to each transport that waits for the kernel: nobody else may hold it
    cdef Py_buffer lent        # a protocol's buffer, during one transport's read
    cdef object place          # what has the memory of a read in place, during one: a bytes object or a NativeProtocol
    cdef Address last_sender   # of the datagram that sock_recvfrom() has received last
    cdef object last_sender_name  # the same as Python has it; None: there was none
    cdef dict acceptors        # id of its socket object -> Acceptor: keeps a listening one, and that object, alive
    cdef object task_factory   # None: asyncio.Task

    cdef bint is_the_running_one(self) except -1
    cdef int open_signal_pipe(self) except -1
    cdef int close_pipe(self, object pipe) except -1
    cdef int hold_while(self, bint waits, object transport, ListHook& anchor) noexcept
