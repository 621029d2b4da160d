// Comparison of contexts, so that callbacks can share them and not every callback needs a Context object of its own.
//
// A callback runs in a copy of the context in which it was scheduled. The copy matters only if the callback sets a
// variable, or if other code keeps a reference to the copy; both are rare. The variables of a context are an immutable
// mapping: setting a variable replaces the mapping by another one. So two contexts with the same mapping have the same
// variables, and a context that has the mapping with which it began is as good as new. Only this comparison uses
// CPython's internals: all changes of a context go through PyContext_*(). ContextCache (core/contexts.pyx) uses it.
//
// Needs the interpreter's lock: on a free-threaded build every callback gets a copy of its own.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <utility>

namespace zloop::binding {

// The first members of CPython's PyContext, the same from 3.7 to 3.15 (Include/internal/pycore_context.h).
struct ContextObject {
  PyObject ob_base;
  PyObject* previous;
  PyObject* variables;  // owned; compared, never dereferenced
  PyObject* weak_references;
  int entered;
};

inline const ContextObject* layout_of(const PyObject* context) {
  return reinterpret_cast<const ContextObject*>(context);
}

inline bool have_same_variables(const PyObject* left, const PyObject* right) {
  return layout_of(left)->variables == layout_of(right)->variables;
}

// True if the caller has the only reference, there is no weak reference, and the context is not entered.
inline bool is_unshared(PyObject* context) {
  return Py_REFCNT(context) == 1 && Py_TYPE(context) == &PyContext_Type && layout_of(context)->entered == 0 &&
         layout_of(context)->weak_references == nullptr;
}

// True if this interpreter's contexts have the layout above. CPython does not guarantee it, so it is tested on a
// context.
inline bool context_layout_ok() {
#ifdef Py_GIL_DISABLED
  return false;
#else
  if (std::cmp_less(PyContext_Type.tp_basicsize, sizeof(ContextObject))) return false;
  PyObject* context = PyContext_New();
  PyObject* copy = context != nullptr ? PyContext_Copy(context) : nullptr;
  PyObject* variable = PyContextVar_New("zloop", nullptr);
  bool described = copy != nullptr && variable != nullptr && have_same_variables(context, copy) && is_unshared(copy);
  if (described && PyContext_Enter(copy) == 0) {
    PyObject* token = PyContextVar_Set(variable, Py_None);
    described = token != nullptr && !have_same_variables(context, copy) && layout_of(copy)->entered == 1;
    Py_XDECREF(token);
    described = PyContext_Exit(copy) == 0 && described && layout_of(copy)->entered == 0;
  }
  Py_XDECREF(variable);
  Py_XDECREF(copy);
  Py_XDECREF(context);
  PyErr_Clear();
  return described;
#endif
}

// Borrowed; null in a thread that has not had a context yet.
inline PyObject* current_context() { return PyThreadState_Get()->context; }

// Calls callback(*args) in the context. False, with an exception set, if the call fails or the context is already
// entered.
inline bool call_in_context(PyObject* context, PyObject* callback, PyObject* args) {
  if (PyContext_Enter(context) < 0) return false;
  PyObject* const* items = PySequence_Fast_ITEMS(args);
  PyObject* result = PyObject_Vectorcall(callback, items, static_cast<std::size_t>(PyTuple_GET_SIZE(args)), nullptr);
  const bool left = PyContext_Exit(context) == 0;
  Py_XDECREF(result);
  return left && result != nullptr;
}

// Two calls in the same context, one after the other. enter_and_call_method() enters it, and stays in it if the call
// succeeds; call_method_and_leave() leaves it in any case. Each calls object.name(argument) and returns a new
// reference; or null, with an exception set, if the call fails or the context is already entered. If the second
// argument could not be made, call_method_and_leave() takes null in its place, with the exception set.
inline PyObject* enter_and_call_method(PyObject* context, PyObject* object, PyObject* name, PyObject* argument) {
  if (PyContext_Enter(context) < 0) return nullptr;
  const std::array<PyObject*, 2> arguments = {object, argument};
  PyObject* result = PyObject_VectorcallMethod(name, arguments.data(), arguments.size(), nullptr);
  if (result == nullptr) PyContext_Exit(context);
  return result;
}

inline PyObject* call_method_and_leave(PyObject* context, PyObject* object, PyObject* name, PyObject* argument) {
  const std::array<PyObject*, 2> arguments = {object, argument};
  PyObject* result =
      argument != nullptr ? PyObject_VectorcallMethod(name, arguments.data(), arguments.size(), nullptr) : nullptr;
  if (PyContext_Exit(context) < 0) Py_CLEAR(result);
  return result;
}

// Calls object.name(argument) in the context. Returns as above.
inline PyObject* call_method_in_context(PyObject* context, PyObject* object, PyObject* name, PyObject* argument) {
  if (PyContext_Enter(context) < 0) return nullptr;
  const std::array<PyObject*, 2> arguments = {object, argument};
  PyObject* result = PyObject_VectorcallMethod(name, arguments.data(), arguments.size(), nullptr);
  if (PyContext_Exit(context) < 0) Py_CLEAR(result);
  return result;
}

}  // namespace zloop::binding
