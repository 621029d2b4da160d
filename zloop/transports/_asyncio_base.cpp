// zloop.transports._asyncio_base: the class between asyncio.BaseTransport and zloop's native transports.
//
// A Cython class cannot derive from a class made in Python: the deallocator and the traversal which Python gave that
// class look for the first base that has others, starting from the object's own type, and would call themselves for
// ever. This type stands between the two with plain ones of its own. A native transport names asyncio's class of its
// kind as a further base. So isinstance(transport, asyncio.Transport) holds, and what a program patches into asyncio's
// classes reaches zloop's transports.
#include "binding/transport_base.hpp"

#include <utility>

namespace {

void base_dealloc(PyObject* self);

// An instance of this type itself, of no use, but possible.
bool is_exact(PyObject* self) { return Py_TYPE(self)->tp_dealloc == base_dealloc; }

// Cython relies on object members not being null.
PyObject* base_new(PyTypeObject* type, PyObject* /*args*/, PyObject* /*keywords*/) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self != nullptr) reinterpret_cast<ZloopTransportBase*>(self)->_extra = Py_NewRef(Py_None);
  return self;
}

int base_traverse(PyObject* self, visitproc visit, void* arg) {
  if (is_exact(self)) Py_VISIT(Py_TYPE(self));
  Py_VISIT(reinterpret_cast<ZloopTransportBase*>(self)->_extra);
  return 0;
}

int base_clear(PyObject* self) {
  Py_CLEAR(reinterpret_cast<ZloopTransportBase*>(self)->_extra);
  return 0;
}

// The native transports are static types, which their instances do not count; a class derived from one in Python has a
// deallocator which gives up the count after calling this one. So only an exact instance does it here.
void base_dealloc(PyObject* self) {
  PyTypeObject* type = Py_TYPE(self);
  const bool counted = is_exact(self);
  PyObject_GC_UnTrack(self);
  base_clear(self);
  type->tp_free(self);
  if (counted) Py_DECREF(type);
}

bool has_known_layout(PyObject* parent) {
  const auto* type = reinterpret_cast<PyTypeObject*>(parent);
  const bool is_known = std::cmp_equal(type->tp_basicsize, sizeof(ZloopTransportBase)) && type->tp_dictoffset == 0 &&
                        type->tp_weaklistoffset == 0;
  if (!is_known) {  // GCOVR_EXCL_LINE: no such CPython
    PyErr_Format(PyExc_ImportError, "%R has a layout that this build of zloop does not know", parent);
  }
  return is_known;
}

// A new reference, or null with an exception set.
PyObject* make_type(PyObject* module, PyObject* parent) {
  PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(base_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(base_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(base_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(base_clear)},
      {Py_tp_doc, const_cast<char*>("What zloop's native transports have in common with asyncio's.")},
      {0, nullptr},
  };
  PyType_Spec spec = {
      "zloop.transports._asyncio_base.AsyncioBase",
      sizeof(ZloopTransportBase),
      0,
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
      slots,
  };
  return PyType_FromModuleAndSpec(module, &spec, parent);
}

// zloop.loop imports this module before any other native one. Those that Cython makes belong to the interpreter that is
// the first to import them, and are refused to all others from then on: a subinterpreter would take them away from the
// main one. zloop itself asks from CPython 3.12 on, where that can be asked in Python.
bool is_main_interpreter() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return true;
  PyErr_SetString(PyExc_ImportError, "zloop does not run in a subinterpreter; use asyncio's own loop there");
  return false;
}

int add_base_type(PyObject* module) {
  if (!is_main_interpreter()) return -1;
  PyObject* asyncio_transports = PyImport_ImportModule("asyncio.transports");
  if (asyncio_transports == nullptr) return -1;
  PyObject* parent = PyObject_GetAttrString(asyncio_transports, "BaseTransport");
  Py_DECREF(asyncio_transports);
  if (parent == nullptr) return -1;
  PyObject* type = has_known_layout(parent) ? make_type(module, parent) : nullptr;
  Py_DECREF(parent);
  if (type == nullptr) return -1;
  const int status = PyModule_AddObjectRef(module, "AsyncioBase", type);
  Py_DECREF(type);
  return status;
}

PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(add_base_type)},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    "zloop.transports._asyncio_base",
    "The base type of zloop's native transports.",
    0,
    nullptr,
    module_slots,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__asyncio_base() { return PyModuleDef_Init(&module_definition); }
