// Detection of audit hooks.
#pragma once

#include <Python.h>

namespace zloop::binding {

// True if there are audit hooks (or a tracer of audit events). Nothing is reported to them.
//
// CPython has no function that returns this. But PySys_Audit() makes the arguments of an event only if there is a hook,
// and it fails if an argument cannot be made. The argument here can never be made.
inline bool is_audited() {
  PyObject* (*const failing_converter)(void*) = [](void* /*unused*/) -> PyObject* {
    PyErr_SetNone(PyExc_LookupError);
    return nullptr;
  };
  if (PySys_Audit("socket.connect", "O&", failing_converter, nullptr) == 0) return false;
  PyErr_Clear();
  return true;
}

}  // namespace zloop::binding
