// zloop.transports._asyncio_bases: the classes between asyncio's transport classes and zloop's native transports.
//
// A Cython class cannot derive from a class made in Python: the deallocator and the traversal which Python gave that
// class look for the first base that has others, starting from the object's own type, and would call themselves for
// ever. A base type stands between the two with plain ones of its own. So isinstance(transport, asyncio.Transport)
// holds, and what a program patches into asyncio's classes reaches zloop's transports.
#include "binding/transport_base.hpp"

#include <array>
#include <utility>

namespace {

void base_dealloc(PyObject* self);

// An instance of a base type itself, of no use to anybody, but possible.
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

struct BaseType {
  const char* name;
  const char* qualified_name;
  std::array<const char*, 2> parents;  // in asyncio.transports; the second may be null
};

constexpr std::array base_types = {
    BaseType{"TransportBase", "zloop.transports._asyncio_bases.TransportBase", {"Transport", nullptr}},
    // asyncio's own datagram transport is both.
    BaseType{
        "DatagramTransportBase",
        "zloop.transports._asyncio_bases.DatagramTransportBase",
        {"Transport", "DatagramTransport"},
    },
    BaseType{"ReadTransportBase", "zloop.transports._asyncio_bases.ReadTransportBase", {"ReadTransport", nullptr}},
};

bool has_known_layout(PyObject* parent) {
  const auto* type = reinterpret_cast<PyTypeObject*>(parent);
  if (std::cmp_equal(type->tp_basicsize, sizeof(ZloopTransportBase)) && type->tp_dictoffset == 0 &&
      type->tp_weaklistoffset == 0) {
    return true;
  }
  PyErr_Format(PyExc_ImportError, "%R has a layout that this build of zloop does not know", parent);
  return false;
}

// A new tuple of classes, or null with an exception set.
PyObject* find_parents(PyObject* asyncio_transports, const BaseType& base) {
  PyObject* parents = PyTuple_New(base.parents[1] == nullptr ? 1 : 2);
  if (parents == nullptr) return nullptr;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(parents); ++i) {
    PyObject* parent = PyObject_GetAttrString(asyncio_transports, base.parents[static_cast<std::size_t>(i)]);
    if (parent != nullptr) PyTuple_SET_ITEM(parents, i, parent);
    if (parent == nullptr || !has_known_layout(parent)) {
      Py_DECREF(parents);
      return nullptr;
    }
  }
  return parents;
}

PyObject* make_type(PyObject* module, const BaseType& base, PyObject* parents) {
  PyType_Slot slots[] = {
      {Py_tp_new, reinterpret_cast<void*>(base_new)},
      {Py_tp_dealloc, reinterpret_cast<void*>(base_dealloc)},
      {Py_tp_traverse, reinterpret_cast<void*>(base_traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(base_clear)},
      {Py_tp_doc, const_cast<char*>("What zloop's native transports have in common with asyncio's.")},
      {0, nullptr},
  };
  PyType_Spec spec = {
      base.qualified_name,
      sizeof(ZloopTransportBase),
      0,
      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,  // no BASETYPE: only static types may derive from it
      slots,
  };
  return PyType_FromModuleAndSpec(module, &spec, parents);
}

int add_base_type(PyObject* module, PyObject* asyncio_transports, const BaseType& base) {
  PyObject* parents = find_parents(asyncio_transports, base);
  if (parents == nullptr) return -1;
  PyObject* type = make_type(module, base, parents);
  Py_DECREF(parents);
  if (type == nullptr) return -1;
  const int status = PyModule_AddObjectRef(module, base.name, type);
  Py_DECREF(type);
  return status;
}

int add_base_types(PyObject* module) {
  PyObject* asyncio_transports = PyImport_ImportModule("asyncio.transports");
  if (asyncio_transports == nullptr) return -1;
  int status = 0;
  for (const BaseType& base : base_types) {
    if (status == 0) status = add_base_type(module, asyncio_transports, base);
  }
  Py_DECREF(asyncio_transports);
  return status;
}

PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(add_base_types)},
    {0, nullptr},
};

PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    "zloop.transports._asyncio_bases",
    "The base types of zloop's native transports.",
    0,
    nullptr,
    module_slots,
    nullptr,
    nullptr,
    nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__asyncio_bases() { return PyModuleDef_Init(&module_definition); }
