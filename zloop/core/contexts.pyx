# cython: language_level=3
"""Contexts for callbacks."""
from cpython.object cimport PyTypeObject

from zloop.binding.context cimport context_layout_ok
from zloop.binding.sealed_types cimport seal_type

contexts_can_be_shared = context_layout_ok()


cdef class ContextCache:
    """One copy of a context for all handles that are scheduled in it, and one in which they run one after the other.

    A callback cannot tell these from a copy of its own: see binding/context.hpp.
    """

    cdef int clear(self) except -1:
        """Release the contexts, and with them their variables' values."""
        self.shared_copy = None
        self.recycled = None
        return 0


cdef ContextCache new_context_cache():
    return ContextCache.__new__(ContextCache)


seal_type(<PyTypeObject*>ContextCache, False)
