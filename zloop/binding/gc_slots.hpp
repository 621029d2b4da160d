// Shows the garbage collector the references that C++ containers own.
//
// Cython generates tp_traverse and tp_clear for the Python attributes of a class; they do not visit its C++ members.
// install_gc_slots() replaces them by functions that handle the C++ members and then call the generated ones. Call it
// while the module is initialized, before the class has an instance or a subclass (a subclass made in Python calls the
// slots of its base at run time; a static one would have copied them).
#pragma once

#include <Python.h>

#include "binding/threads.hpp"
#include "zloop/hook_list.hpp"
#include "zloop/ring_buffer.hpp"
#include "zloop/timer_heap.hpp"

namespace zloop::binding {

using WalkFn = int (*)(PyObject* self, visitproc visit, void* arg);
using ClearFn = void (*)(PyObject* self);

// One class per extension module: the installed functions call its functions for the containers, and then the generated
// slots.
struct GcSlots {
  static inline WalkFn walk = nullptr;
  static inline ClearFn clear_containers = nullptr;
  static inline traverseproc generated_traverse = nullptr;
  static inline inquiry generated_clear = nullptr;

  static int traverse(PyObject* self, visitproc visit, void* arg) {
    const int stop = walk(self, visit, arg);
    return stop != 0 ? stop : generated_traverse(self, visit, arg);
  }

  static int clear(PyObject* self) {
    clear_containers(self);
    return generated_clear(self);
  }
};

inline void install_gc_slots(PyTypeObject* type, WalkFn walk, ClearFn clear_containers) {
  GcSlots::walk = walk;
  GcSlots::clear_containers = clear_containers;
  GcSlots::generated_traverse = type->tp_traverse;
  GcSlots::generated_clear = type->tp_clear;
  type->tp_traverse = &GcSlots::traverse;
  type->tp_clear = &GcSlots::clear;
}

// Each visits every reference that its container owns, as Py_VISIT does.
inline int visit_queue(const ReadyQueue& queue, visitproc visit, void* arg) {
  for (std::size_t i = 0; i < queue.size(); ++i) {
    if (const int stop = visit(static_cast<PyObject*>(queue[i]), arg)) return stop;
  }
  return 0;
}

inline int visit_timers(const TimerHeap& timers, visitproc visit, void* arg) {
  return timers.for_each_owner([&](void* owner) { return visit(static_cast<PyObject*>(owner), arg); });
}

inline int visit_inbox(const LoopInbox& inbox, visitproc visit, void* arg) {
  return inbox.for_each([&](void* item) { return visit(static_cast<PyObject*>(item), arg); });
}

inline int visit_list(const HookList& list, visitproc visit, void* arg) {
  return list.for_each([&](void* owner) { return visit(static_cast<PyObject*>(owner), arg); });
}

}  // namespace zloop::binding
