# cython: language_level=3
"""Contexts for callbacks: one snapshot for many handles, and one context in which their callbacks run in turn."""
from cpython.object cimport PyTypeObject

from zloop.binding.context cimport contexts_are_as_described
from zloop.binding.sealed_types cimport seal_type

contexts_can_be_shared = contexts_are_as_described()


cdef class ContextCache:
    """Contexts for callbacks: one snapshot for many handles, and one context in which they run in turn.

    What a callback sees is what it would see in a copy made for it: see binding/context.hpp.
    """

    cdef int clear(self) except -1:
        """Hold no variable's value any longer: nobody is about to be scheduled."""
        self.snapshot = None
        self.runner = None
        return 0


cdef ContextCache new_context_cache():
    return ContextCache.__new__(ContextCache)


seal_type(<PyTypeObject*>ContextCache, False)
