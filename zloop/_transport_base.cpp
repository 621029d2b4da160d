// zloop._transport_base: TransportBase, the class between asyncio.Transport and zloop's native transports.
//
// A Cython class cannot derive from a class made in Python: the deallocator and the traversal which Python gave that
// class look for the first base that has others, starting from the object's own type, and would call themselves for
// ever. TransportBase stands between the two with plain ones of its own. So isinstance(transport, asyncio.Transport)
// holds, and what a program patches into asyncio's classes reaches zloop's transports.
#include "binding/transport_base.hpp"

#include <utility>

namespace {

void base_dealloc(PyObject* self);

// An instance of TransportBase itself, of no use to anybody, but possible.
bool is_exact(PyObject* self) { return Py_TYPE(self)->tp_dealloc == base_dealloc; }

// Cython takes for granted that an object member is never null.
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

PyObject* make_transport_base(PyObject* module, PyObject* asyncio_transport) {
  const auto* parent = reinterpret_cast<PyTypeObject*>(asyncio_transport);
  if (std::cmp_not_equal(parent->tp_basicsize, sizeof(ZloopTransportBase)) || parent->tp_dictoffset != 0 ||
      parent->tp_weaklistoffset != 0) {
    PyErr_SetString(PyExc_ImportError, "asyncio.Transport has a layout that this build of zloop does not know");
    return nullptr;
  }
  PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(base_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(base_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(base_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(base_clear)},
      {Py_tp_doc, const_cast<char*>("What zloop's native transports have in common with asyncio's.")},
      {0, nullptr},
  };
  PyType_Spec spec = {
      "zloop._transport_base.TransportBase",
      sizeof(ZloopTransportBase),
      0,
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,  // no BASETYPE: only static types may derive from it
      slots,
  };
  return PyType_FromModuleAndSpec(module, &spec, asyncio_transport);
}

int add_transport_base(PyObject* module) {
  PyObject* asyncio = PyImport_ImportModule("asyncio.transports");
  if (asyncio == nullptr) return -1;
  PyObject* parent = PyObject_GetAttrString(asyncio, "Transport");
  Py_DECREF(asyncio);
  if (parent == nullptr) return -1;
  PyObject* type = make_transport_base(module, parent);
  Py_DECREF(parent);
  if (type == nullptr) return -1;
  const int status = PyModule_AddObjectRef(module, "TransportBase", type);
  Py_DECREF(type);
  return status;
}

PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(add_transport_base)},
    {0, nullptr},
};

PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    "zloop._transport_base",
    "The base type of zloop's native transports.",
    0,
    nullptr,
    module_slots,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__transport_base() { return PyModuleDef_Init(&module_definition); }
