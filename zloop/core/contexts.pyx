# cython: language_level=3
"""Contexts for callbacks: one snapshot for many handles, and one context in which their callbacks run in turn."""
from cpython.object cimport PyTypeObject

from zloop.binding.context cimport are_alike, contexts_are_as_described
from zloop.binding.sealed_types cimport seal_type

contexts_can_be_shared = contexts_are_as_described()


cdef class ContextCache:
    """Contexts for callbacks: one snapshot for many handles or transports, and one context in which they run in turn.

    What a callback sees is what it would see in a copy made for it: see binding/context.hpp.
    """

    cdef object share_copy_of(self, object context):
        """The same of another context."""
        if self.snapshot is None or not contexts_can_be_shared or not are_alike(self.snapshot, context):
            self.snapshot = PyContext_Copy(context)
        return self.snapshot

    cdef int clear(self) except -1:
        """Hold no variable's value any longer: nobody is about to be scheduled."""
        self.snapshot = None
        self.runner = None
        return 0


cdef ContextCache new_context_cache():
    return ContextCache.__new__(ContextCache)


seal_type(<PyTypeObject*>ContextCache, False)
