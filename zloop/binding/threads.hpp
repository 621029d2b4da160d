// What other threads than a loop's may reach, on interpreters with a GIL and without one (PEP 703).
//
// With a GIL nothing here costs anything: the GIL is the lock, and what asks for `free_threaded` is compiled out.
#pragma once

#include <Python.h>

#include <new>

#include "zloop/inbox.hpp"
#include "zloop/shared_inbox.hpp"

namespace zloop::binding {

#ifdef Py_GIL_DISABLED
#ifndef ZLOOP_FREE_THREADED
#error "the engine is not built for threads without a GIL: see the option ZLOOP_FREE_THREADED"
#endif

inline constexpr bool free_threaded = true;

// The garbage collector calls for_each() when it has stopped all other threads.
using LoopInbox = SharedInbox;

#else

inline constexpr bool free_threaded = false;

// The loop takes the GIL again after each Reactor::wait(), before it checks the inbox.
using LoopInbox = Inbox;

#endif

// True for a module in native code that has not declared that it does without a GIL: importing it turns the GIL on.
#ifdef Py_GIL_DISABLED
inline bool needs_gil(PyObject* module) {
  if (!PyModule_Check(module)) return false;
  const PyModuleDef* definition = PyModule_GetDef(module);
  if (definition == nullptr) return false;  // in Python
  const PyModuleDef_Slot* slot = definition->m_slots;
  if (slot == nullptr) return false;  // of the old kind, which declares it in a place of the interpreter's own
  for (; slot->slot != 0; ++slot) {
    if (slot->slot == Py_mod_gil) return slot->value != Py_MOD_GIL_NOT_USED;
  }
  return true;
}
#else
inline bool needs_gil(const PyObject* /*module*/) { return false; }
#endif

// Adds a new reference to `object`, which the one who takes it then owns. False if memory is out. The reference comes
// first: another thread may give it up before push() returns.
inline bool push_owned(LoopInbox& inbox, PyObject* object) {
  Py_INCREF(object);
  try {
    inbox.push(object);
  } catch (const std::bad_alloc&) {
    Py_DECREF(object);  // the caller holds another
    return false;
  }
  return true;
}

// Keeps other threads out of the methods of an object that CPython runs under the object's lock (critical sections, PEP
// 703). Nothing in between may run Python code. With a GIL, that is enough.
class ObjectLock {
 public:
#ifdef Py_GIL_DISABLED
  void lock(PyObject* object) { PyCriticalSection_Begin(&section_, object); }
  void unlock() { PyCriticalSection_End(&section_); }

 private:
  PyCriticalSection section_{};
#else
  void lock(const PyObject* /*object*/) {}
  void unlock() {}
#endif
};

// A plain attribute that one thread writes and others read, of which each reads some value that it had.
template <typename T>
T load_shared(const T& attribute) {
  return __atomic_load_n(&attribute, __ATOMIC_RELAXED);
}

template <typename T, typename Value>
void store_shared(T& attribute, Value value) {
  __atomic_store_n(&attribute, static_cast<T>(value), __ATOMIC_RELAXED);
}

// Sets the attribute to 1. True for the one thread that found it 0.
template <typename T>
bool set_once(T& attribute) {
  if constexpr (free_threaded) return __atomic_exchange_n(&attribute, T{1}, __ATOMIC_ACQ_REL) == T{0};
  const bool is_first = attribute == T{0};
  attribute = T{1};
  return is_first;
}

// Sets the attribute if it is 0. False if it is not.
template <typename T>
bool claim_shared(T& attribute, T value) {
  T expected = 0;
  return __atomic_compare_exchange_n(&attribute, &expected, value, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

}  // namespace zloop::binding
