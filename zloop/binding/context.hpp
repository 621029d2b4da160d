// Contexts for callbacks, without one object for each.
//
// A callback runs in a copy of the context it was scheduled in. The copy is only needed by a callback that sets a
// variable, or by somebody who keeps hold of it; hardly any does. A context's variables are an immutable mapping, which
// setting a variable replaces by another one. So two contexts with the same mapping are alike, and a context with the
// mapping that it began with is as good as new. Telling that is all that is done here with CPython's internals:
// whatever changes a context goes through PyContext_*(). Its user is ContextCache (core/contexts.pyx).
//
// Needs the interpreter's lock: on a free-threaded build every callback gets a copy of its own.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <utility>

namespace zloop::binding {

// The head of CPython's own PyContext, the same from 3.7 to 3.15 (Include/internal/pycore_context.h).
struct ContextObject {
  PyObject ob_base;
  PyObject* previous;
  PyObject* variables;  // owned; compared, never followed
  PyObject* weak_references;
  int entered;
};

inline const ContextObject* layout_of(const PyObject* context) {
  return reinterpret_cast<const ContextObject*>(context);
}

inline bool have_same_variables(const PyObject* left, const PyObject* right) {
  return layout_of(left)->variables == layout_of(right)->variables;
}

// Nobody but the caller has it, and it is not in use.
inline bool is_unshared(PyObject* context) {
  return Py_REFCNT(context) == 1 && Py_TYPE(context) == &PyContext_Type && layout_of(context)->entered == 0 &&
         layout_of(context)->weak_references == nullptr;
}

// True if this interpreter's contexts are as described above: tried on one, since nothing promises it.
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

// Borrowed; null in a thread that has had none yet.
inline PyObject* current_context() { return PyThreadState_Get()->context; }

// Calls callback(*args) in the context. False, with the exception set, if that failed or the context is in use.
inline bool call_in_context(PyObject* context, PyObject* callback, PyObject* args) {
  if (PyContext_Enter(context) < 0) return false;
  PyObject* const* items = PySequence_Fast_ITEMS(args);
  PyObject* result = PyObject_Vectorcall(callback, items, static_cast<std::size_t>(PyTuple_GET_SIZE(args)), nullptr);
  const bool left = PyContext_Exit(context) == 0;
  Py_XDECREF(result);
  return left && result != nullptr;
}

// For calls in the same context one after the other: the first enters it, and stays in it if it succeeds, the last
// leaves it, either way. Each calls object.name(argument). A new reference; null, with the exception set, if that
// failed or, of the first, the context is in use. The last takes null for an argument that could not be made, with the
// exception set.
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

// Calls object.name(argument) in the context. As above.
inline PyObject* call_method_in_context(PyObject* context, PyObject* object, PyObject* name, PyObject* argument) {
  if (PyContext_Enter(context) < 0) return nullptr;
  const std::array<PyObject*, 2> arguments = {object, argument};
  PyObject* result = PyObject_VectorcallMethod(name, arguments.data(), arguments.size(), nullptr);
  if (PyContext_Exit(context) < 0) Py_CLEAR(result);
  return result;
}

}  // namespace zloop::binding
