# cython: language_level=3
"""The accepting end of a server: one Acceptor for each listening socket.

The engine's Listener accepts; an Acceptor makes a socket, a protocol and a transport out of each connection.
"""
import socket
import weakref
from asyncio import constants, trsock
from asyncio.log import logger

from cpython.object cimport PyObject, PyTypeObject

from zloop.binding.address cimport address_tuple
from zloop.binding.gc_slots cimport visit_list
from zloop.binding.sealed_types cimport refuse_copies
from zloop.binding.threads cimport free_threaded
from zloop.binding.trampolines cimport call_method
from zloop.core.contexts cimport PyContext_Copy, PyContext_Enter, PyContext_Exit
from zloop.core.handles cimport raise_current
from zloop.core.loop cimport Loop
from zloop.core.scheduler cimport check
from zloop.engine cimport sys as sys_calls
from zloop.engine.address cimport SmallAddress
from zloop.engine.listener cimport ListenerOps, out_of_resources
from zloop.engine.socket cimport sockaddr_storage, socklen_t
from zloop.transports.connection cimport transport_of_descriptor, transport_of_socket
from zloop.transports.direct_connect cimport makes_plain_sockets
from zloop.transports.state cimport transport_state
from zloop.transports.stream_socket cimport SocketTransport

from zloop.core import diagnostics
from zloop.core.socket_objects import hold_socket, params_of, let_go_socket, unhold_socket, wrap_descriptor
from zloop.transports import accept_queues

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject* thing)

# Families whose addresses can be formatted later.
cdef frozenset known_families = frozenset({int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)})


cdef class Clients:
    """A server's transports: what asyncio.Server (from CPython 3.13 on) takes a WeakSet for.

    It does without weak references, and without Python's frames: a transport takes itself out, also when it is dropped.
    Not without a GIL: there another thread may drop a transport while it is looked at.
    """

    def __len__(self):
        return self.count + (0 if self.others is None else len(self.others))

    def __iter__(self):
        return iter(self.copy())

    def __contains__(self, transport):
        return any(client is transport for client in self)

    def add(self, transport):
        """The transport is the server's, and no other's."""
        if free_threaded or not isinstance(transport, SocketTransport):
            if self.others is None:
                self.others = weakref.WeakSet()
            self.others.add(transport)
        elif not (<SocketTransport>transport).membership.linked():
            self.members.add((<SocketTransport>transport).membership, <void*>transport)
            self.count += 1

    def discard(self, transport):
        """It is no longer, if it was."""
        if free_threaded or not isinstance(transport, SocketTransport):
            if self.others is not None:
                self.others.discard(transport)
        elif (<SocketTransport>transport).membership.linked():
            (<SocketTransport>transport).membership.leave()
            self.count -= 1

    def copy(self):
        """Those that are there now, as a list."""
        transports = [] if self.others is None else list(self.others)
        if visit_list(self.members, append_living, <void*>transports) != 0:
            raise MemoryError
        return transports


# Skips a transport that is being deallocated: finalizers and weak references' callbacks run then, and may come here.
cdef int append_living(PyObject* transport, void* transports) noexcept:
    if Py_REFCNT(transport) == 0:  # pragma: no cover: __del__() has taken it out, unless memory was out there
        return 0
    try:
        (<list>transports).append(<object>transport)
    except MemoryError:
        return -1
    return 0


cdef class Acceptor:
    """Accepts the connections of one listening socket."""

    # Begins to accept, up to backlog + 1 connections for each event, each with a copy of `context`. `held` is the plain
    # socket object, where `sock` is a wrapper around it. Connections go to the coroutine function
    # accept_tls(socket, extra) if there is one.
    def __cinit__(
        self, Loop loop not None, sock, held, protocol_factory, server, int backlog, context, accept_tls=None
    ):
        self.listener = &self.listener_storage.emplace(listener_ops, <void*>self)
        self.loop = loop
        self.sock = sock
        self.held = held
        self.params = params_of(held)
        self.protocol_factory = protocol_factory
        self.server = server
        self.context = context
        self.accept_tls = accept_tls
        self.fd = sock.fileno()
        self.burst = backlog + 1
        # As with asyncio, a later server takes the socket over: the earlier one stops accepting.
        before = self.acceptor_before()
        if before is not None:
            before.stop()
        loop.evict_watcher(self.fd)
        try:
            self.listen()
        except OSError:
            if before is not None:
                before.listen()
            raise
        with accept_queues.lock:
            hold_socket(held)
        if before is not None:
            before.give_way(held)
        transport_state(loop).acceptors[id(sock)] = self

    # The acceptor of the same descriptor, or None.
    cdef Acceptor acceptor_before(self):
        cdef Acceptor acceptor
        for acceptor in transport_state(self.loop).acceptors.values():
            if acceptor.fd == self.fd and acceptor.listener.is_open():
                return acceptor
        return None

    cdef int listen(self) except -1:
        self.queue = accept_queues.join(self, self.fd)
        try:
            check(self.listener.open(self.loop.reactor, self.fd, self.burst))
            check(self.listener.start())
        except OSError:
            self.stop()
            raise
        return 0

    cdef int stop(self) except -1:
        self.listener.close()
        if self.queue is not None:
            queue, self.queue = self.queue, None
            accept_queues.leave(self, queue)
        return 0

    # From here on another acceptor has the descriptor; `heir` is its socket object.
    cdef int give_way(self, object heir) except -1:
        self.retire()
        if self.held is not heir and self.listener.lost():
            self.held.detach()
        with accept_queues.lock:
            unhold_socket(self.held)
        return 0

    # Returns the listening socket, which is still held.
    cdef object retire(self):
        sock, self.sock = self.sock, None
        transport_state(self.loop).acceptors.pop(id(sock), None)
        self.stop()
        if self.loop.dispatching != 0:  # a protocol factory may have called this, in the middle of a burst
            self.loop.pending_close.append(self)
        return sock

    def close(self):
        """Stop accepting and close the listening socket."""
        if self.sock is not None:
            sock = self.retire()
            with accept_queues.lock:
                let_go_socket(sock, self.held, lost=self.listener.lost())

    def abandon(self):
        """The loop is closed first: stop accepting, and leave the socket to its other owner, the Server."""
        self.sock = None
        self.stop()
        if self.listener.lost():
            self.held.detach()
        with accept_queues.lock:
            unhold_socket(self.held)

    def _resume(self):
        if self.listener.is_open():
            check(self.listener.start())

    # Any thread, under the lock of accept_queues: whether others of this process accept from the same socket.
    def _set_shared(self, shared):
        self.listener.set_shared(shared)

    # Any thread: that has changed, or one of them has gone.
    def _line_up_soon(self):
        try:
            self.loop.call_soon_threadsafe(self._line_up)
        except RuntimeError:  # the loop was closed meanwhile
            pass

    def _line_up(self):
        self.listener.line_up()

    cdef int accepted(self, int fd, const sockaddr_storage& peer, socklen_t peer_size) except -1:
        cdef SmallAddress small
        cdef int owned = fd  # until it is the transport's
        if (
            self.accept_tls is not None
            or self.loop.debug
            or not makes_plain_sockets()
            or self.params[0] not in known_families
            or peer_size == 0
            or not small.assign(peer, peer_size)
        ):
            try:
                peername = address_tuple(peer, peer_size)
            except BaseException:  # pragma: no cover: no memory, where debug mode's own code crashes CPython
                sys_calls.close(fd)
                raise
            return self.accepted_object(fd, peername)
        protocol = None
        try:
            context = PyContext_Copy(self.context)
            PyContext_Enter(context)
            try:
                protocol = self.protocol_factory()
                owned = -1
                transport_of_descriptor(self.loop, fd, small, self.params, protocol, None, self.server, context)
            finally:
                PyContext_Exit(context)
        except BaseException as exc:
            if owned >= 0:
                sys_calls.close(owned)
            self.failed_to_tie(exc, protocol)
        return 0

    # The same with a socket object made at once, for code that replaces socket objects or watches them.
    cdef int accepted_object(self, int fd, object peername) except -1:
        protocol = None
        try:
            conn = wrap_descriptor(*self.params, fd)
        except BaseException:
            sys_calls.close(fd)
            raise
        try:
            context = self.context.copy()
            if peername is None:
                peername = conn.getpeername()
            if self.loop.debug:
                logger.debug("%r got a new connection from %r: %r", self.server, peername, conn)
            extra = {"peername": peername}
            PyContext_Enter(context)
            try:
                if self.accept_tls is not None:
                    self.loop.create_task(self.accept_tls(conn, extra))
                    return 0
                protocol = self.protocol_factory()
                transport_of_socket(self.loop, conn, protocol, None, extra, self.server, context)
            finally:
                PyContext_Exit(context)
        except BaseException as exc:
            conn.close()
            self.failed_to_tie(exc, protocol)
        return 0

    cdef int failed_to_tie(self, object exception, object protocol) except -1:
        if isinstance(exception, (SystemExit, KeyboardInterrupt)):
            raise exception
        diagnostics.report_failed_connection(self.loop, exception, protocol, None)
        return 0

    cdef int failed(self, int error) except -1:
        if not out_of_resources(error):
            exc = diagnostics.os_error(error)
            self.loop.call_exception_handler({"message": "socket.accept() failed", "exception": exc})
            return 0
        # The listener has paused itself; descriptors may be free again in a while.
        try:
            self.loop.call_exception_handler({
                "message": "socket.accept() out of system resource",
                "exception": diagnostics.os_error(error),
                "socket": trsock.TransportSocket(self.sock),
            })
            self.loop.call_later(constants.ACCEPT_RETRY_DELAY, self._resume)
        except BaseException:  # memory is out, or the handler leaves the loop: nothing else would begin again
            self._resume()
            raise
        return 0


# ---- what the engine calls: the interpreter is held, and nothing may be raised

cdef void report(Acceptor acceptor, Loop loop) noexcept:
    try:
        raise_current()
    except BaseException as exc:
        loop.escaped(exc, "Exception while accepting a connection")


cdef void on_accept(void* owner, int fd, const sockaddr_storage& peer, socklen_t peer_size) noexcept:
    call_method(owner, Acceptor.accepted, report, fd, peer, peer_size)


cdef void on_error(void* owner, int error) noexcept:
    call_method(owner, Acceptor.failed, report, error)


cdef ListenerOps listener_ops
listener_ops.on_accept = on_accept
listener_ops.on_error = on_error


refuse_copies(<PyTypeObject*>Clients)
refuse_copies(<PyTypeObject*>Acceptor)
