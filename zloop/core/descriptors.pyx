# cython: language_level=3
"""Readers and writers: callbacks for when a descriptor is readable or writable."""
import weakref

from cpython.object cimport PyObject, PyTypeObject
from libc.errno cimport EEXIST
from libc.limits cimport INT_MAX

from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport free_threaded, load_shared
from zloop.core.handles cimport Handle, new_handle
from zloop.core.scheduler cimport Scheduler, check, run_handle
from zloop.engine.poller cimport interest_none, interest_read, interest_write
from zloop.engine.watcher cimport OwnedWatcher, Watcher, WatcherOps

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject* thing)


cdef object number_of(object fileobj):
    """The int itself, or the object's fileno(): negative if it is closed. ValueError for other objects."""
    if isinstance(fileobj, int):
        return fileobj
    try:
        return int(fileobj.fileno())
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"Invalid file object: {fileobj!r}") from None


cdef int descriptor_of(object fileobj) except -1:
    """number_of(), if that is not negative; else ValueError with the selectors module's message."""
    cdef object fd = number_of(fileobj)
    if fd < 0:
        raise ValueError(f"Invalid file descriptor: {fd}")
    return fd


cdef class FdWatcher:
    """The reader and the writer of one descriptor: add_reader(), add_writer() and pending sock_* calls set them.

    A watcher with neither is idle. It stays attached to the reactor until a transport or another file needs the
    descriptor: a program that waits for a descriptor once is likely to do it again.
    """

    cdef bint idle(self) noexcept:
        return self.reader is None and self.writer is None

    # Updates the poller's interest from the handles. 0, or -errno with the interest unchanged.
    cdef int apply(self) noexcept:
        cdef unsigned interest = interest_none
        cdef bint once = True
        if self.reader is not None:
            interest |= interest_read
            once = self.reader.once
        if self.writer is not None:
            interest |= interest_write
            once = once and self.writer.once
        if interest == interest_none:
            self.fileobj = None
            self.loop.reactor.disarm(self.watcher)
            return 0
        if once:
            return self.loop.reactor.arm(self.watcher, interest)
        return self.loop.reactor.set_interest(self.watcher, interest)

    # For a descriptor that another file has by now: the file that the handles waited for was closed.
    cdef int forget_callbacks(self) except -1:
        cdef Handle reader = self.reader
        cdef Handle writer = self.writer
        self.reader = self.writer = None
        self.apply()  # removing interest never fails
        self.watcher.renew()
        if reader is not None:
            reader.detach_callback()
        if writer is not None:
            writer.detach_callback()
        return 0

    # Sets the reader or writer; returns as apply().
    cdef int watch(self, Handle handle, bint for_reading) noexcept:
        if for_reading:
            self.reader = handle
        else:
            self.writer = handle
        return self.apply()

    cdef int run_ready(self, unsigned ready) except -1:
        cdef Handle handle = self.reader if ready == interest_read else self.writer
        if handle is None:  # pragma: no cover: apply() asks the poller for no more than there are handles for
            return 0
        if load_shared(handle.is_cancelled):  # by cancel(), which does not unregister it
            self.loop.drop_fd_callback(self.watcher.fd(), ready == interest_read)
        else:
            run_handle(self.loop, handle)
        return 0


cdef void on_fd_ready(Watcher& fd_watcher, unsigned ready) noexcept:
    cdef FdWatcher watcher = <FdWatcher>OwnedWatcher.owner_of(fd_watcher)
    try:
        watcher.run_ready(ready)
    except BaseException as exc:
        watcher.loop.escaped(exc, "Exception in a reader or writer")


cdef WatcherOps fd_watcher_ops
fd_watcher_ops.on_ready = on_fd_ready


cdef class DescriptorLoop(Scheduler):
    """Watches descriptors for their readers and writers."""

    def _ensure_fd_no_transport(self, fileobj):
        self.check_no_transport(fileobj)

    # RuntimeError if a transport uses the descriptor: a second reader would take its bytes.
    # Without a GIL another thread may drop a transport at any moment: there a weak reference tells of it.
    cdef int check_no_transport(self, object fileobj) except -1:
        cdef object number = number_of(fileobj)
        if free_threaded:
            self.check_thread()
        cdef void* user = self.reactor.user_of(number) if 0 <= number <= INT_MAX else NULL
        cdef object transport = None
        if free_threaded and user != NULL:
            transport = self.users.get(number)
        elif user != NULL and Py_REFCNT(<PyObject*>user) != 0:  # else it is being deallocated
            transport = <object><PyObject*>user
        elif self.selector_transports is not None:
            transport = self.selector_transports.get(number)
        if transport is not None and not transport.is_closing():
            raise RuntimeError(f"File descriptor {fileobj!r} is used by transport {transport!r}")

    # For a transport that begins to use a descriptor.
    cdef int note_transport(self, int fd, object transport) except -1:
        if free_threaded:
            if self.users is None:
                self.users = weakref.WeakValueDictionary()
            self.users[fd] = transport
        return 0

    def add_reader(self, fd, callback, *args):
        """Call callback(*args) in each turn in which `fd` is readable, at its end, or in error.

        `fd` is an int or an object with fileno(). The reader replaces an earlier one of the same descriptor. Raises
        ValueError if `fd` is no descriptor, OSError if the system cannot watch it (EPERM for a regular file with
        epoll_ctl(2)), RuntimeError if a transport uses the descriptor or the loop is closed.
        """
        self.check_no_transport(fd)
        self.set_fd_callback(fd, callback, args, None, True)

    def add_writer(self, fd, callback, *args):
        """Call callback(*args) in each turn in which `fd` is writable or in error; otherwise as add_reader()."""
        self.check_no_transport(fd)
        self.set_fd_callback(fd, callback, args, None, False)

    def remove_reader(self, fd):
        """Stop watching `fd` for reading; return whether it was watched. Raises as add_reader() does."""
        self.check_no_transport(fd)
        return self.drop_fd_callback(self.watched_descriptor(fd), True)

    def remove_writer(self, fd):
        """Stop watching `fd` for writing; return whether it was watched. Raises as add_reader() does."""
        self.check_no_transport(fd)
        return self.drop_fd_callback(self.watched_descriptor(fd), False)

    def _take_back_reader(self, int fd, Handle handle not None):
        """Remove the reader that _add_reader() set. False if the descriptor is another file's by now."""
        cdef FdWatcher watcher
        if self.closed:
            return True
        watcher = self.watchers.get(fd)
        if watcher is None or watcher.reader is not handle:
            return False
        self.drop_fd_callback(fd, True)
        return not self.reactor.is_lost(watcher.watcher)

    # Without the check for transports: for the loop's own use, and for libraries that call asyncio's methods.
    def _add_reader(self, fd, callback, *args, context=None):
        return self.set_fd_callback(fd, callback, args, context, True)

    def _add_writer(self, fd, callback, *args, context=None):
        return self.set_fd_callback(fd, callback, args, context, False)

    def _remove_reader(self, fd):
        return self.drop_fd_callback(self.watched_descriptor(fd), True)

    def _remove_writer(self, fd):
        return self.drop_fd_callback(self.watched_descriptor(fd), False)

    cdef int watched_descriptor(self, object fileobj) except -1:
        """descriptor_of(); for a watched object that has been closed, the descriptor that it had."""
        cdef FdWatcher watcher
        cdef int fd = -1
        try:
            return descriptor_of(fileobj)
        except ValueError:
            for watcher in self.watchers.values():
                if watcher.fileobj is fileobj and not watcher.idle():
                    fd = watcher.watcher.fd()
                    break
            else:
                raise
        return fd

    cdef FdWatcher watcher_for(self, object fileobj):
        cdef int fd = descriptor_of(fileobj)
        cdef FdWatcher watcher = self.watchers.get(fd)
        cdef int status
        if watcher is not None and watcher.watcher.attached():  # else the descriptor is another file's by now
            if watcher.idle():
                watcher.fileobj = fileobj
            return watcher
        watcher = FdWatcher.__new__(FdWatcher)
        watcher.loop = self
        watcher.fileobj = fileobj
        watcher.watcher.set_owner(<void*>watcher)
        status = self.reactor.attach(watcher.watcher, fd, fd_watcher_ops)
        if status == -EEXIST:  # by a transport that is closing, or by a server
            raise RuntimeError(f"File descriptor {fd} is in use by the event loop")
        check(status)
        self.watchers[fd] = watcher
        return watcher

    cdef Handle set_fd_callback(self, object fileobj, object callback, object args, object context, bint for_reading):
        cdef Handle handle = new_handle(self, callback, args, context, False)
        self.set_fd_handle(fileobj, handle, for_reading)
        return handle

    cdef FdWatcher set_fd_handle(self, object fileobj, Handle handle, bint for_reading):
        cdef Handle previous
        cdef FdWatcher watcher
        cdef int status
        if free_threaded:
            self.check_thread()
        self.check_closed()
        watcher = self.watcher_for(fileobj)
        previous = watcher.reader if for_reading else watcher.writer
        # An event that was pending for the previous handle must not run this one.
        if previous is not None and not self.reactor.refresh(watcher.watcher):
            watcher.forget_callbacks()
            previous = None
        status = watcher.watch(handle, for_reading)
        if status < 0 and watcher.watcher.lost():
            if for_reading:
                watcher.reader = None
            else:
                watcher.writer = None
            watcher.forget_callbacks()  # the other handle's file is closed, too
            previous = None
            status = watcher.watch(handle, for_reading)
        if status < 0:
            if for_reading:
                watcher.reader = previous
            else:
                watcher.writer = previous
            self.forget_if_idle(watcher.watcher.fd())
            check(status)
        if previous is not None:
            previous.detach_callback()
        return watcher

    cdef bint drop_fd_callback(self, int fd, bint for_reading) except -1:
        cdef FdWatcher watcher
        cdef Handle previous
        if free_threaded:
            self.check_thread()
        if self.closed:
            return False
        watcher = self.watchers.get(fd)
        if watcher is None:
            return False
        previous = watcher.reader if for_reading else watcher.writer
        if previous is None:
            return False
        if for_reading:
            watcher.reader = None
        else:
            watcher.writer = None
        watcher.apply()  # removing interest never fails
        previous.detach_callback()
        return True

    # For a handle that is still the descriptor's reader or writer.
    cdef int drop_fd_handle(self, FdWatcher watcher, Handle handle) except -1:
        if self.closed:
            return 0
        if watcher.reader is handle:
            watcher.reader = None
        else:
            watcher.writer = None
        watcher.apply()  # removing interest never fails
        return 0

    # For a transport that takes the descriptor over: removes its reader and writer, as asyncio does.
    cdef int evict_watcher(self, int fd) except -1:
        self.drop_fd_callback(fd, True)
        self.drop_fd_callback(fd, False)
        self.forget_if_idle(fd)
        return 0

    # For a new file: events of the file that had the descriptor before are dropped.
    cdef int renew_watcher(self, int fd) except -1:
        cdef FdWatcher watcher = self.watchers.get(fd)
        if watcher is not None:
            watcher.watcher.renew()
        return 0

    # Releases the descriptor for another watcher.
    cdef int forget_if_idle(self, int fd) except -1:
        cdef FdWatcher watcher = self.watchers.get(fd)
        if watcher is not None and watcher.idle():
            self.reactor.detach(watcher.watcher)
            del self.watchers[fd]
        return 0

    def _watched_descriptors(self):
        """A list of (file object, descriptor, reader, writer) for each watched descriptor."""
        cdef FdWatcher watcher
        cdef list watched = []
        for fd, watcher in self.watchers.items():
            if not watcher.idle():
                watched.append((watcher.fileobj, fd, watcher.reader, watcher.writer))
        return watched


seal_type(<PyTypeObject*>FdWatcher, False)
seal_type(<PyTypeObject*>DescriptorLoop, False)
