# Contexts for callbacks, shared where that cannot be observed: see binding/context.hpp.
cimport cython
from cpython.object cimport PyObject

from zloop.binding.context cimport are_alike, current_context, is_unshared

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
    cdef object snapshot  # a copy of the context that was current last, shared by handles and never entered; or None
    cdef object runner    # a context to be used again, with the variables that it had when it was made; or None

    cdef int clear(self) except -1

    # A shared copy of the current context, which is never entered.
    cdef inline object share(self):
        cdef PyObject* current = current_context()
        cdef object snapshot = self.snapshot
        if snapshot is None or current is NULL or not are_alike(snapshot, <object>current):
            self.snapshot = snapshot = PyContext_CopyCurrent()
        return snapshot

    # A context with the snapshot's variables, for the caller to enter.
    cdef inline object take_runner(self, object snapshot):
        cdef object runner = self.runner
        self.runner = None
        if runner is not None and are_alike(runner, snapshot):
            return runner
        return PyContext_Copy(snapshot)

    # Takes back a context to which the caller holds the only reference, if its variables are the snapshot's.
    cdef inline bint give_back(self, object context, object snapshot) noexcept:
        if not is_unshared(context) or not are_alike(context, snapshot):
            return False
        self.runner = context
        return True


cdef ContextCache new_context_cache()
