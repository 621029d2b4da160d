// Types whose instances native code makes, and nobody else.
//
// What the methods of a native class take for granted is set by the function that makes an instance. Python has ways to
// come by one that nobody has set up: the type's __new__, a call of a subclass whose __init__ does nothing, copy and
// pickle. seal_type() closes them at the type, so that no method has to look. Native code does not come this way:
// Cython calls the generated function by its name, except for a base in another module, which a guard lets pass.
//
// To be called while a module is being made, before a class has an instance or a subclass made in Python.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <utility>

namespace zloop::binding {

// The class that a type made in Python derives its layout from; another type itself.
inline const PyTypeObject* native_base(const PyTypeObject* type) {
  while (PyType_HasFeature(const_cast<PyTypeObject*>(type), Py_TPFLAGS_HEAPTYPE) != 0) type = type->tp_base;
  return type;
}

// In front of the tp_new that Cython generates. Each number has static variables, and so a function, of its own: by the
// function CPython tells whether a type's __new__ is asked for another type's instance (tp_new_wrapper(),
// typeobject.c), and refuses that by itself.
template <std::size_t Number>
struct NewGuard {
  static inline const PyTypeObject* sealed = nullptr;  // static, as all types that Cython makes
  static inline newfunc generated = nullptr;
  static inline bool admits_subclasses = false;

  static PyObject* call(PyTypeObject* type, PyObject* args, PyObject* keywords) {
    const bool is_made_here = native_base(type) == sealed;
    if (is_made_here && (type == sealed || !admits_subclasses)) {
      PyErr_Format(PyExc_TypeError, "cannot create '%.100s' instances: they are made by an event loop", type->tp_name);
      return nullptr;
    }
    return generated(type, args, keywords);
  }

  static void install(PyTypeObject* type, bool admitting_subclasses) {
    sealed = type;
    admits_subclasses = admitting_subclasses;
    generated = std::exchange(type->tp_new, &call);
    type->tp_vectorcall = nullptr;  // past tp_new
  }
};

inline PyObject* refuse_to_reduce(PyObject* self, PyObject* /*nothing*/) {
  PyErr_Format(PyExc_TypeError, "cannot pickle '%.200s' object", Py_TYPE(self)->tp_name);
  return nullptr;
}

// Makes copy.copy(), copy.deepcopy() and pickle refuse. 0, or -1 with an exception set.
inline int refuse_copies(PyTypeObject* type) {
  static PyMethodDef definition{"__reduce__", &refuse_to_reduce, METH_NOARGS, nullptr};
  PyObject* method = PyDescr_NewMethod(type, &definition);
  if (method == nullptr) return -1;
  const int status = PyDict_SetItemString(type->tp_dict, definition.ml_name, method);
  Py_DECREF(method);
  PyType_Modified(type);
  return status;
}

// 0, or -1 with an exception set. Subclasses that are admitted have an __init__, or methods, that can do without.
inline int seal_type(PyTypeObject* type, bool admits_subclasses) {
  using Install = void (*)(PyTypeObject*, bool);
  static constexpr auto guards = []<std::size_t... Number>(std::index_sequence<Number...>) {
    return std::array<Install, sizeof...(Number)>{&NewGuard<Number>::install...};
  }(std::make_index_sequence<8>{});
  static std::size_t used = 0;
  if (used == guards.size() || PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) != 0) {
    PyErr_Format(PyExc_SystemError, "%s cannot be sealed", type->tp_name);
    return -1;
  }
  guards[used++](type, admits_subclasses);
  return refuse_copies(type);
}

}  // namespace zloop::binding
