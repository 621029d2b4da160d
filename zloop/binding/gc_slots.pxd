from cpython.object cimport PyObject, PyTypeObject

from zloop.binding.threads cimport LoopInbox
from zloop.engine.hook_list cimport HookList
from zloop.engine.ring_buffer cimport ReadyQueue
from zloop.engine.timer_heap cimport TimerHeap

cdef extern from "Python.h":
    ctypedef int (*visitproc)(PyObject*, void*)

cdef extern from "binding/gc_slots.hpp" namespace "zloop::binding":
    ctypedef int (*WalkFn)(PyObject* self, visitproc visit, void* arg) noexcept
    ctypedef void (*ClearFn)(PyObject* self) noexcept

    void install_gc_slots(PyTypeObject* type, WalkFn walk, ClearFn clear_containers)
    int visit_queue(const ReadyQueue& queue, visitproc visit, void* arg) noexcept
    int visit_timers(const TimerHeap& timers, visitproc visit, void* arg) noexcept
    int visit_inbox(const LoopInbox& inbox, visitproc visit, void* arg) noexcept
    int visit_list(const HookList& list, visitproc visit, void* arg) noexcept
