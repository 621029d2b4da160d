# Readers and writers of descriptors.
from zloop.core.handles cimport Handle
from zloop.core.scheduler cimport Scheduler
from zloop.engine.watcher cimport OwnedWatcher


cdef class FdWatcher:
    cdef OwnedWatcher watcher  # its owner is this object
    cdef DescriptorLoop loop   # whose `watchers` owns this object while it is attached
    cdef object fileobj        # as passed by the program: identifies the watcher of a file that was closed
    cdef Handle reader         # None: not watched for reading
    cdef Handle writer

    cdef bint idle(self) noexcept
    cdef int apply(self) noexcept
    cdef int forget_callbacks(self) except -1
    cdef int watch(self, Handle handle, bint for_reading) noexcept
    cdef int run_ready(self, unsigned ready) except -1


cdef class DescriptorLoop(Scheduler):
    cdef dict watchers         # descriptor -> FdWatcher: readers, writers and pending sock_* calls
    cdef object users          # descriptor -> its native transport, weakly, without a GIL; None: there has been none
    cdef object selector_transports  # descriptor -> asyncio's own transport, weakly; None: there has been none

    cdef int check_no_transport(self, object fileobj) except -1
    cdef int note_transport(self, int fd, object transport) except -1
    cdef int watched_descriptor(self, object fileobj) except -1
    cdef FdWatcher watcher_for(self, object fileobj)
    cdef Handle set_fd_callback(self, object fileobj, object callback, object args, object context, bint for_reading)
    cdef FdWatcher set_fd_handle(self, object fileobj, Handle handle, bint for_reading)
    cdef bint drop_fd_callback(self, int fd, bint for_reading) except -1
    cdef int drop_fd_handle(self, FdWatcher watcher, Handle handle) except -1
    cdef int evict_watcher(self, int fd) except -1
    cdef int renew_watcher(self, int fd) except -1
    cdef int forget_if_idle(self, int fd) except -1


cdef int descriptor_of(object fileobj) except -1
