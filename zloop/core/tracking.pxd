# Which handles the garbage collector tracks. Inline: what cimports this is another shared object than handles.pyx.
#
# Most handles run and are freed soon after they are made, and there may be a hundred thousand at a time. While a loop
# runs, the collector does not track the handles in its queues: a running loop is reachable, and so are they. A handle
# that has run and is still referenced, or whose loop has stopped, may be part of a cycle, and is tracked from then on.
#
# Without a GIL all stay tracked: there a collection visits the tracked objects of all threads at once, and a count of
# references tells nothing of those that other threads hold.
from cpython.object cimport PyObject

from zloop.binding.gc_slots cimport visit_inbox, visit_queue
from zloop.binding.threads cimport LoopInbox, free_threaded
from zloop.engine.ring_buffer cimport ReadyQueue

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object thing)
    void PyObject_GC_UnTrack(object thing) noexcept
    int PyObject_GC_IsTracked(PyObject* thing) noexcept
    void PyObject_GC_Track(PyObject* thing) noexcept


# For a handle that goes into the queues of a running loop.
cdef inline void untrack(object handle) noexcept:
    if not free_threaded:
        PyObject_GC_UnTrack(handle)


# For a handle that has run: tracked if it has other references than the caller's.
cdef inline void track_if_held(object handle) noexcept:
    if not free_threaded and Py_REFCNT(handle) > 1:
        track(<PyObject*>handle, NULL)


# For the handles in the queues of a loop that has stopped.
cdef inline void track_queued(ReadyQueue& ready, LoopInbox& inbox) noexcept:
    if not free_threaded:
        visit_queue(ready, track, NULL)
        visit_inbox(inbox, track, NULL)


cdef inline int track(PyObject* handle, void* nothing) noexcept:
    if not PyObject_GC_IsTracked(handle):
        PyObject_GC_Track(handle)
    return 0
