# cython: language_level=3
"""What an application has written and TLS has not encrypted: before the end of the handshake, or beyond what the
transport underneath takes.
"""
import collections

from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.object cimport PyTypeObject

from zloop.binding.sealed_types cimport seal_type


cdef class Backlog:
    """Chunks of bytes, in order."""

    # `done` bytes of the chunk are encrypted: more than none only if it becomes the first.
    cdef int append(self, bytes chunk, Py_ssize_t done) except -1:
        self.chunks.append(chunk)
        self.offset += done
        self.size += PyBytes_GET_SIZE(chunk) - done
        return 0

    cdef int clear(self) except -1:
        self.chunks.clear()
        self.offset = self.size = 0
        return 0

    # The first chunk, which there has to be; from `offset` on it is not encrypted.
    cdef bytes first(self):
        return self.chunks[0]

    # `count` bytes more of the first chunk are encrypted.
    cdef int consume(self, Py_ssize_t count) except -1:
        self.size -= count
        self.offset += count
        if self.offset == PyBytes_GET_SIZE(self.chunks[0]):
            self.offset = 0
            self.chunks.popleft()
        return 0


cdef Backlog new_backlog():
    cdef Backlog backlog = Backlog.__new__(Backlog)
    backlog.chunks = collections.deque()
    return backlog


seal_type(<PyTypeObject*>Backlog, False)
