# cython: language_level=3
"""What the transports and acceptors of a loop share. The loop owns it, and knows no more of it than close()."""
from cpython.object cimport PyTypeObject

from zloop.binding.sealed_types cimport seal_type


cdef class TransportState:
    """Made with the first transport or acceptor of a loop."""

    def __cinit__(self):
        self.acceptors = {}

    def close(self):
        """The loop is closed: what accepts gives its socket back."""
        for acceptor in self.acceptors.values():
            acceptor.abandon()


cdef TransportState transport_state(Loop loop):
    """The loop's, made if there is none yet."""
    if loop.transports is None:
        loop.transports = TransportState.__new__(TransportState)
    return loop.transports


def acceptor_of(Loop loop not None, sock):
    """The Acceptor of a listening socket object, or None."""
    return transport_state(loop).acceptors.get(id(sock))


seal_type(<PyTypeObject*>TransportState, False)
