from cpython.object cimport PyTypeObject

cdef extern from "binding/methods.hpp" namespace "zloop::binding":
    ctypedef object (*CallSoonFn)(object self, object callback, object args, object context)
    ctypedef object (*CreateTaskFn)(object self, object coro)

    bint is_bound_method(object attribute, object method, object object)
    int put_extra_info_front(PyTypeObject* type, PyTypeObject* base) except -1
    int adopt_methods(PyTypeObject* type) except -1
    int put_call_soon_front(PyTypeObject* type, CallSoonFn call_soon) except -1
    int put_create_task_front(PyTypeObject* type, CreateTaskFn create_task) except -1
