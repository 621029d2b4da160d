from cpython.object cimport PyTypeObject

cdef extern from "binding/methods.hpp" namespace "zloop::binding":
    ctypedef object (*CallSoonFn)(object self, object callback, object args, object context)
    ctypedef object (*CreateTaskFn)(object self, object coro)

    bint is_bound_method(object attribute, object method, object object)
    int install_extra_info_shim(PyTypeObject* type, PyTypeObject* base) except -1
    int flatten_methods(PyTypeObject* type) except -1
    int install_call_soon_shim(PyTypeObject* type, CallSoonFn call_soon) except -1
    int install_create_task_shim(PyTypeObject* type, CreateTaskFn create_task) except -1
