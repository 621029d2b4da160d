// Whether anybody listens to the interpreter's audit events.
#pragma once

#include <Python.h>

namespace zloop::binding {

// True if there are audit hooks (or a tracer in their place). Nothing is reported to them.
//
// The interpreter does not tell; but what an event is about is made for hooks only. This one's cannot be made.
inline bool is_audited() {
  PyObject* (*const unmakeable)(void*) = [](void* /*nothing*/) -> PyObject* {
    PyErr_SetNone(PyExc_LookupError);
    return nullptr;
  };
  if (PySys_Audit("socket.connect", "O&", unmakeable, nullptr) == 0) return false;
  PyErr_Clear();
  return true;
}

}  // namespace zloop::binding
