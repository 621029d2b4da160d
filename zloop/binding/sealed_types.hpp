// Types whose instances only native code may make.
//
// The function that makes an instance of a native class initializes what the methods rely on. Python code could make an
// instance without that function: by the type's __new__, by a call of a subclass whose __init__ does nothing, by copy
// and by pickle. seal_type() prevents this in the type, so that no method has to check. Native code is not affected:
// Cython calls the generated function by its name, except for a base in another module, which the guard admits.
//
// To be called while a module is initialized, before a class has an instance or a subclass made in Python.
#pragma once

#include <Python.h>

#include <array>
#include <cstddef>
#include <utility>

namespace zloop::binding {

// For a type made in Python, the native class whose layout it has; any other type itself.
inline const PyTypeObject* native_base(const PyTypeObject* type) {
  while (PyType_HasFeature(const_cast<PyTypeObject*>(type), Py_TPFLAGS_HEAPTYPE) != 0) type = type->tp_base;
  return type;
}

// Replaces the tp_new that Cython generates. Each number has static variables of its own, and a function of its own:
// CPython compares these functions to detect that the __new__ of one type is called for another type (tp_new_wrapper(),
// typeobject.c), and refuses that itself.
template <std::size_t Number>
struct NewGuard {
  static inline const PyTypeObject* sealed = nullptr;  // static, as all types that Cython generates
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
    type->tp_vectorcall = nullptr;  // it would bypass tp_new
  }
};

inline PyObject* refuse_to_reduce(PyObject* self, PyObject* /*unused*/) {
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

// 0, or -1 with an exception set. `admits_subclasses`: Python code may make instances of subclasses, because their
// __init__ or the methods do not rely on that function.
inline int seal_type(PyTypeObject* type, bool admits_subclasses) {
  using Install = void (*)(PyTypeObject*, bool);
  static constexpr auto guards = []<std::size_t... Number>(std::index_sequence<Number...>) {
    return std::array<Install, sizeof...(Number)>{&NewGuard<Number>::install...};
  }(std::make_index_sequence<8>{});
  static std::size_t used = 0;
  const bool has_guard = used < guards.size() && PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) == 0;
  if (!has_guard) {  // GCOVR_EXCL_LINE: no module has so many types, or of that kind
    PyErr_Format(PyExc_SystemError, "%s cannot be sealed", type->tp_name);
    return -1;
  }
  guards[used++](type, admits_subclasses);
  return refuse_copies(type);
}

}  // namespace zloop::binding
