# Contexts for callbacks, shared where nobody can tell: see binding/context.hpp.
cimport cython
from cpython.object cimport PyObject

from zloop.binding.context cimport are_alike, current_context, is_unshared

cdef extern from "Python.h":
    object PyContext_Copy(object context)
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


# Else every callback gets a copy of the context at once.
cdef bint contexts_can_be_shared


# The hot methods are inline: what cimports this is another shared object, and would call them through a pointer.
@cython.final
cdef class ContextCache:
    cdef object snapshot         # alike the context that it was last asked for a copy of; never entered
    cdef object runner           # as good as new, and nobody else's

    cdef int clear(self) except -1

    # A snapshot of the current context, for a handle to hold and nobody to enter.
    cdef inline object share(self):
        cdef PyObject* current = current_context()
        cdef object snapshot = self.snapshot
        if snapshot is None or current is NULL or not are_alike(snapshot, <object>current):
            self.snapshot = snapshot = PyContext_CopyCurrent()
        return snapshot

    # A context of the caller's own, alike the snapshot.
    cdef inline object take_runner(self, object snapshot):
        cdef object runner = self.runner
        self.runner = None
        if runner is not None and are_alike(runner, snapshot):
            return runner
        return PyContext_Copy(snapshot)

    # Takes a context that is used no more, if it is as good as new. The caller holds one reference to it.
    cdef inline bint give_back(self, object context, object snapshot) noexcept:
        if not is_unshared(context) or not are_alike(context, snapshot):
            return False
        self.runner = context
        return True


cdef ContextCache new_context_cache()
