from cpython.object cimport PyObject

cdef extern from "binding/context.hpp" namespace "zloop::binding":
    bint context_layout_ok() noexcept
    bint have_same_variables(object left, object right) noexcept
    bint is_unshared(object context) noexcept
    PyObject* current_context() noexcept
    bint call_in_context(object context, object callback, tuple args) noexcept
    PyObject* enter_and_call_method(object context, object object, object name, object argument) noexcept
    PyObject* call_method_and_leave(object context, object object, object name, PyObject* argument) noexcept
    PyObject* call_method_in_context(object context, object object, object name, PyObject* argument) noexcept
