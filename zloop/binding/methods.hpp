// Faster calls of the methods of native classes.
//
// CPython's interpreter calls a native method directly only on an instance of exactly the class that defines the method
// (CALL_METHOD_DESCRIPTOR_*, Python/bytecodes.c). For an instance of a derived class it takes a slower path each time,
// and searches the bases for the class. flatten_methods() copies the inherited native methods of a class into the class
// itself.
//
// Two methods of the loop have a fastcall shim in front of the function that Cython generates, for the most common
// signatures. Every other call, such as call_soon(callback=f), goes to the generated function:
// - call_soon(callback, *args, context=context): CPython's tasks and futures make this call each time they continue,
//   with a keyword that is not interned (the one in Modules/_asynciomodule.c). The generated parsing of arguments
//   compares strings then.
// - create_task(coro): the generated function makes an empty dictionary for the keywords.
//
// A program may replace get_extra_info() in asyncio's transport classes, for example by a mock. A transport's own
// get_extra_info() then calls the replacement, as if the transport did not override it, with the caller's arguments.
//
// All of these functions are called while a module is initialized, before a method of its classes is looked up.
#pragma once

#include <Python.h>

#include <cstddef>

namespace zloop::binding {

inline PyMethodDef* native_method(PyObject* attribute) {
  const bool is_native = attribute != nullptr && Py_TYPE(attribute) == &PyMethodDescr_Type;
  return is_native ? reinterpret_cast<PyMethodDescrObject*>(attribute)->d_method : nullptr;
}

// True if `attribute` of `object` is the native method itself, defined by the object's class or copied to it by
// flatten_methods().
inline bool is_bound_method(PyObject* attribute, PyObject* method, const PyObject* object) {
  return PyCFunction_Check(attribute) &&
         reinterpret_cast<PyCFunctionObject*>(attribute)->m_ml == native_method(method) &&
         PyCFunction_GET_SELF(attribute) == object;
}

// Adds a method to the type. The definition must never be freed. 0, or -1 with an exception set.
inline int add_method(PyTypeObject* type, PyMethodDef* definition) {
  PyObject* method = PyDescr_NewMethod(type, definition);
  if (method == nullptr) return -1;
  const int status = PyDict_SetItemString(type->tp_dict, definition->ml_name, method);
  Py_DECREF(method);
  PyType_Modified(type);
  return status;
}

inline PyObject* own_attributes(const PyTypeObject* type, Py_ssize_t base) {
  return reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(type->tp_mro, base))->tp_dict;
}

// True if the type, or a base that comes before `base` in the method resolution order, has the name.
inline bool is_overridden(const PyTypeObject* type, Py_ssize_t base, PyObject* name) {
  Py_ssize_t nearer = 0;
  while (nearer < base && PyDict_GetItem(own_attributes(type, nearer), name) == nullptr) ++nearer;
  return nearer < base;
}

// 0, or -1 with an exception set.
inline int flatten_methods(PyTypeObject* type) {
  const Py_ssize_t object_itself = PyTuple_GET_SIZE(type->tp_mro) - 1;
  for (Py_ssize_t base = 1; base < object_itself; ++base) {
    PyObject* name = nullptr;
    PyObject* attribute = nullptr;
    for (Py_ssize_t at = 0; PyDict_Next(own_attributes(type, base), &at, &name, &attribute) != 0;) {
      PyMethodDef* definition = native_method(attribute);
      if (definition == nullptr || definition->ml_name[0] == '_' || is_overridden(type, base, name)) continue;
      if (add_method(type, definition) < 0) return -1;
    }
  }
  return 0;
}

// The signature of METH_FASTCALL | METH_KEYWORDS. `args` has `count` positional arguments, followed by the values of
// the keywords in `names` (nullptr: no keywords).
using MethodFn = PyObject* (*)(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names);

// Installs Method::call in front of the generated function. Each Method has static variables of its own here.
template <typename Method>
struct FastcallShim {
  static inline PyMethodDef definition{};  // a copy of the generated one, with another function
  static inline MethodFn generated = nullptr;

  // 0, or -1 with an exception set.
  static int put(PyTypeObject* type, const char* name) {
    const PyMethodDef* found = native_method(PyDict_GetItemString(type->tp_dict, name));
    if (found == nullptr || found->ml_flags != (METH_FASTCALL | METH_KEYWORDS)) {  // GCOVR_EXCL_LINE: no such Cython
      PyErr_Format(PyExc_SystemError, "%s() is not the method that Cython is expected to generate", name);
      return -1;
    }
    definition = *found;
    // PyMethodDef has one type for all functions; the flags say which signature the function has.
    generated = reinterpret_cast<MethodFn>(reinterpret_cast<void (*)()>(definition.ml_meth));
    definition.ml_meth = reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&Method::call));
    return add_method(type, &definition);
  }
};

// These return a new reference, or nullptr with an exception set, and borrow their arguments.
using CallSoonFn = PyObject* (*)(PyObject* self, PyObject* callback, PyObject* args, PyObject* context);
using CreateTaskFn = PyObject* (*)(PyObject* self, PyObject* coro);

struct CallSoon {
  static inline CallSoonFn call_soon = nullptr;
  static inline PyObject* context_name = nullptr;  // owned; replaced by an equal string that a caller passes

  static PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
    const bool is_common = count >= 1 && (named == 0 || (named == 1 && is_context(PyTuple_GET_ITEM(names, 0))));
    if (!is_common) return FastcallShim<CallSoon>::generated(self, args, count, names);
    PyObject* rest = PyTuple_New(count - 1);
    if (rest == nullptr) return nullptr;
    for (Py_ssize_t i = 1; i < count; ++i) PyTuple_SET_ITEM(rest, i - 1, Py_NewRef(args[i]));
    PyObject* handle = call_soon(self, args[0], rest, named == 0 ? Py_None : args[count]);
    Py_DECREF(rest);
    return handle;
  }

  static bool is_context(PyObject* name) {
    if (name == context_name) return true;
    if (!PyUnicode_CheckExact(name) || PyUnicode_Compare(name, context_name) != 0) return false;
#ifndef Py_GIL_DISABLED  // callers in other threads read it
    Py_SETREF(context_name, Py_NewRef(name));
#endif
    return true;
  }
};

struct CreateTask {
  static inline CreateTaskFn create_task = nullptr;

  static PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    return count == 1 && names == nullptr ? create_task(self, args[0])
                                          : FastcallShim<CreateTask>::generated(self, args, count, names);
  }
};

struct GetExtraInfo {
  static inline PyTypeObject* transport_type = nullptr;  // static, as base_type
  static inline PyTypeObject* base_type = nullptr;       // between transport_type and asyncio's classes
  static inline PyObject* inherited = nullptr;           // owned; asyncio's original method
  static inline PyObject* name = nullptr;                // owned

  static PyObject* call(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
    PyObject* found = PyObject_GetAttr(reinterpret_cast<PyObject*>(base_type), name);
    if (found == nullptr) return nullptr;
    Py_DECREF(found);  // only its address is compared
    if (found == inherited) return FastcallShim<GetExtraInfo>::generated(self, args, count, names);
    PyObject* above =
        PyObject_CallFunctionObjArgs(reinterpret_cast<PyObject*>(&PySuper_Type), transport_type, self, nullptr);
    if (above == nullptr) return nullptr;
    PyObject* method = PyObject_GetAttr(above, name);
    Py_DECREF(above);
    if (method == nullptr) return nullptr;
    PyObject* info = PyObject_Vectorcall(method, args, static_cast<std::size_t>(count), names);
    Py_DECREF(method);
    return info;
  }
};

// For a type whose get_extra_info() overrides the one that `base` inherits. 0, or -1 with an exception set.
inline int install_extra_info_shim(PyTypeObject* type, PyTypeObject* base) {
  GetExtraInfo::transport_type = type;
  GetExtraInfo::base_type = base;
  GetExtraInfo::name = PyUnicode_InternFromString("get_extra_info");
  if (GetExtraInfo::name == nullptr) return -1;
  GetExtraInfo::inherited = PyObject_GetAttr(reinterpret_cast<PyObject*>(base), GetExtraInfo::name);
  if (GetExtraInfo::inherited == nullptr) return -1;
  return FastcallShim<GetExtraInfo>::put(type, "get_extra_info");
}

// Each installs a shim in front of the method of that name, which the type itself defines. 0, or -1 with an exception
// set.
inline int install_call_soon_shim(PyTypeObject* type, CallSoonFn call_soon) {
  CallSoon::call_soon = call_soon;
  CallSoon::context_name = PyUnicode_InternFromString("context");
  return CallSoon::context_name == nullptr ? -1 : FastcallShim<CallSoon>::put(type, "call_soon");
}

inline int install_create_task_shim(PyTypeObject* type, CreateTaskFn create_task) {
  CreateTask::create_task = create_task;
  return FastcallShim<CreateTask>::put(type, "create_task");
}

}  // namespace zloop::binding
