from cpython.object cimport PyTypeObject

cdef extern from "binding/methods.hpp" namespace "zloop::binding":
    ctypedef object (*CallSoonFn)(object self, object callback, object args, object context)
    ctypedef object (*CreateTaskFn)(object self, object coro)

    bint is_bound_method(object attribute, object method, object object)
    int put_extra_info_front(PyTypeObject* type, PyTypeObject* base) except -1
    int adopt_methods(PyTypeObject* type) except -1
    int put_fronts(PyTypeObject* loop_type, CallSoonFn call_soon, CreateTaskFn create_task) except -1
