# Contexts for callbacks, shared where that cannot be observed: see binding/context.hpp.
cimport cython
from cpython.object cimport PyObject

from zloop.binding.context cimport have_same_variables, current_context, is_unshared

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


# False: each callback gets a copy of its context when it is scheduled.
cdef bint contexts_can_be_shared


# The hot methods are inline: what cimports this is another shared object, and would call them through a pointer.
@cython.final
cdef class ContextCache:
    cdef object shared_copy  # a copy of the context that was current last, shared by handles and never entered; or None
    cdef object recycled    # a context to be used again, with the variables that it had when it was made; or None

    cdef int clear(self) except -1

    # The shared copy of the current context.
    cdef inline object share(self):
        cdef PyObject* current = current_context()
        cdef object shared_copy = self.shared_copy
        if shared_copy is None or current is NULL or not have_same_variables(shared_copy, <object>current):
            self.shared_copy = shared_copy = PyContext_CopyCurrent()
        return shared_copy

    # A context with the shared copy's variables, for the caller to enter.
    cdef inline object take_recycled(self, object shared_copy):
        cdef object recycled = self.recycled
        self.recycled = None
        if recycled is not None and have_same_variables(recycled, shared_copy):
            return recycled
        return PyContext_Copy(shared_copy)

    # Takes back a context to which the caller holds the only reference, if its variables are the shared copy's.
    cdef inline bint recycle(self, object context, object shared_copy) noexcept:
        if not is_unshared(context) or not have_same_variables(context, shared_copy):
            return False
        self.recycled = context
        return True


cdef ContextCache new_context_cache()
