# cython: language_level=3
"""A connection that is begun on a descriptor, while no socket object of Python's is needed for it.

create_connection() spares an object that the transport would only take apart again. can_connect_directly() names what
has to hold for that; the transport makes the object when it is asked for.
"""
import socket

from cpython.object cimport PyTypeObject
from libc.errno cimport EINPROGRESS

from zloop.binding.address cimport parse_address
from zloop.binding.audit cimport is_audited
from zloop.binding.sealed_types cimport seal_type
from zloop.core.loop cimport Loop
from zloop.engine cimport sys as sys_calls
from zloop.engine.address cimport Address

from zloop.core import diagnostics
from zloop.core.socket_objects import STREAM_METHODS, inherits_methods, plain_socket, wrap_descriptor

cdef extern from "Python.h":
    bint PyLong_Check(object thing)

cdef dict names_of_socket = socket.__dict__
cdef int AF_INET = socket.AF_INET
cdef int AF_INET6 = socket.AF_INET6
cdef int SOCK_STREAM = socket.SOCK_STREAM
cdef int IPPROTO_TCP = socket.IPPROTO_TCP

# By family: that, type and protocol, as plain numbers.
cdef dict tcp_params = {family: (family, SOCK_STREAM, IPPROTO_TCP) for family in (AF_INET, AF_INET6)}


# True for a numeric address in the form that getaddrinfo() returns, which is the form that error messages show.
cdef bint parse_resolved(object address, int family, Address& peer) noexcept:
    if family == AF_INET6 and not (type(address) is tuple and len(<tuple>address) == 4):
        return False
    return parse_address(address, family, peer)


# The methods of the class that programs replace to watch or to steer connections.
cdef object plain_init = getattr(plain_socket, "__init__", None)
cdef object plain_connect = socket.SocketType.connect


cdef bint connects_plainly() except -1:
    return plain_socket.connect is plain_connect


# Interprets connect()'s result: True if the attempt is in progress, False if it is connected; OSError if it failed.
# EAGAIN is a failure: nothing reports when a Unix listener's full backlog has room again.
cdef bint is_in_progress(int status) except -1:
    if status != 0 and status != -EINPROGRESS:
        raise diagnostics.os_error(-status)
    return status != 0


# The state of an attempt in progress: True if it is connected, False if not yet; OSError if it failed.
cdef bint is_connected(int fd, object address) except -1:
    cdef int status = sys_calls.finish_connect(fd)
    if status != 0 and status != -EINPROGRESS:
        raise OSError(-status, f"Connect call failed {address}")
    return status == 0


# True if new socket objects use Python's own methods for I/O: programs replace socket.socket by other classes.
cdef bint makes_plain_sockets() except -1:
    cdef object kind = names_of_socket["socket"]
    return kind is plain_socket or inherits_methods(kind, STREAM_METHODS)


def can_connect_directly(Loop loop not None, family, kind, proto, address):
    """Whether a connection may do without a socket object: an internet address in numbers, and nothing that has to see
    the object. Debug mode logs it; a class in socket.socket's place, a replaced __init__() or connect() and audit hooks
    get it passed.
    """
    cdef Address peer
    if loop.debug or socket.socket is not plain_socket or plain_socket.__init__ is not plain_init:
        return False
    if not (PyLong_Check(family) and PyLong_Check(kind) and PyLong_Check(proto)) or family not in tcp_params:
        return False
    if kind != SOCK_STREAM or proto != IPPROTO_TCP or not parse_resolved(address, family, peer):
        return False
    return connects_plainly() and not is_audited()


cdef class ConnectingDescriptor:
    """A TCP connection on its way, without a socket object; owns its non-blocking descriptor until detach()."""

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            sys_calls.close(self.fd)

    def is_connected(self):
        """Whether the connection is there by now; OSError if it failed."""
        return is_connected(self.fd, self.address)

    def close(self):
        """Close the descriptor, if it has not been given away."""
        cdef int fd = self.detach()
        if fd >= 0:
            sys_calls.close(fd)

    cpdef int detach(self) noexcept:
        """Give the descriptor away: it is the caller's."""
        cdef int fd = self.fd
        self.fd = -1
        return fd

    def as_socket(self):
        """A socket object, which has the descriptor from here on."""
        sock = wrap_descriptor(*self.params, self.fd)
        self.detach()
        return sock


def connect_directly(Loop loop not None, family, address):
    """Begin to connect to an address for which can_connect_directly() holds; OSError if that fails at once."""
    cdef ConnectingDescriptor connecting = ConnectingDescriptor.__new__(ConnectingDescriptor)
    cdef Address peer
    cdef int fd
    connecting.params = tcp_params[family]
    connecting.address = address
    fd = sys_calls.open_socket(family, SOCK_STREAM, IPPROTO_TCP)
    if fd < 0:
        raise diagnostics.os_error(-fd)
    connecting.fd = fd
    parse_resolved(address, family, peer)
    connecting.pending = is_in_progress(sys_calls.connect(fd, peer.data(), peer.size()))
    if connecting.pending:
        loop.check_no_transport(fd)
        loop.check_closed()
    return connecting


seal_type(<PyTypeObject*>ConnectingDescriptor, False)
