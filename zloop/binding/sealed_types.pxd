from cpython.object cimport PyTypeObject

cdef extern from "binding/sealed_types.hpp" namespace "zloop::binding":
    int seal_type(PyTypeObject* type, bint admits_subclasses) except -1
    int refuse_copies(PyTypeObject* type) except -1
