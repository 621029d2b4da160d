# cython: language_level=3
"""The socket of a stream transport: its descriptor, and the objects about it.

An accepted connection, and most that create_connection() makes, begin with a descriptor alone. The socket object, its
TransportSocket and the addresses are made when they are asked for; what asyncio answers after the end is noted before
the descriptor goes.
"""
import socket
from asyncio import trsock

from cpython.object cimport PyTypeObject
from libc.errno cimport ECONNRESET

from zloop.binding.address cimport sender_address
from zloop.binding.sealed_types cimport seal_type
from zloop.core.scheduler cimport check
from zloop.engine cimport sys as sys_calls
from zloop.engine.socket cimport sockaddr_storage, socklen_t

from zloop.core.socket_objects import closed_socket, hold_socket, let_go_socket, wrap_descriptor

# What get_extra_info() of asyncio's transports knows from the beginning.
cdef frozenset described_names = frozenset({"socket", "sockname", "peername"})


cdef class LazySocketTransport(StreamTransport):
    """A stream transport that owns a socket, as an object or as a descriptor alone."""

    cdef bint is_open(self) noexcept:
        return self.holds_fd

    @property
    def _sock(self):
        return self.socket_object()

    @property
    def _extra(self):
        for name in described_names:
            self.describe(name)
        return self.extra

    # None once closed. The object owns the descriptor from here on.
    cdef object socket_object(self):
        if self.sock is None and self.holds_fd:
            sock = wrap_descriptor(*self.params, self.fd)
            hold_socket(sock)
            self.sock = sock
            self.pin(sock)
        return self.sock

    # asyncio finds all of it out in the beginning: the answer is the same when the connection is closed.
    cdef int describe(self, object name) except -1:
        cdef sockaddr_storage address
        cdef socklen_t size
        if self.params is None or name not in described_names or (self.extra is not None and name in self.extra):
            return 0
        if self.extra is None:
            self.extra = {}
        if name == "socket":
            sock = self.socket_object()
            self.extra[name] = trsock.TransportSocket(closed_socket(*self.params) if sock is None else sock)
        elif name == "peername":
            self.extra[name] = sender_address(address, self.peer.copy_to(address))
        else:
            if self.holds_fd:
                self.note_local_address()
            if name not in self.extra:
                size = self.local.get().copy_to(address) if self.local.get() is not NULL else 0
                self.extra[name] = sender_address(address, size)
        return 0

    # Keeps the local address in as little memory as it takes.
    cdef int note_local_address(self) except -1:
        cdef sockaddr_storage address
        cdef socklen_t size
        if sys_calls.local_address(self.fd, &address, &size) < 0:
            return 0
        self.local.reset(new SmallAddress())
        if not self.local.get().assign(address, size):
            if self.extra is None:
                self.extra = {}
            self.extra["sockname"] = sender_address(address, size)
        return 0

    cdef int shut_down_writing(self) except -1:
        if self.sock is None:
            return check(sys_calls.shutdown_write(self.fd))
        self.sock.shutdown(socket.SHUT_WR)
        return 0

    cdef int close_descriptor(self) except -1:
        try:
            unknown = self.extra is None or "sockname" not in self.extra
            if unknown and self.params is not None and not self.stream.lost():
                self.note_local_address()
        finally:
            self.holds_fd = False
            self._close_descriptor()
        return 0

    def _close_descriptor(self):
        sock, self.sock = self.sock, None
        self.unpin()
        if sock is not None:
            let_go_socket(sock, lost=self.stream.lost())
            return
        if self.stream.lost():
            return
        status = sys_calls.close(self.fd)
        if status != -ECONNRESET:  # some systems' way to say that the peer was first; socket objects ignore it, too
            check(status)


cdef int describe_socket(dict extra, object sock) except -1:
    """Fill in what get_extra_info() answers."""
    extra["socket"] = trsock.TransportSocket(sock)
    try:
        extra["sockname"] = sock.getsockname()
    except OSError:
        extra["sockname"] = None
    if "peername" not in extra:
        try:
            extra["peername"] = sock.getpeername()
        except OSError:
            extra["peername"] = None
    return 0


seal_type(<PyTypeObject*>LazySocketTransport, False)
