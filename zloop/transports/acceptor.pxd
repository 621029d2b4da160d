# The accepting end of a server.
from libcpp.optional cimport optional

from zloop.core.loop cimport Loop
from zloop.engine.hook_list cimport HookList
from zloop.engine.listener cimport Listener
from zloop.engine.socket cimport sockaddr_storage, socklen_t


cdef class Clients:
    cdef HookList members          # borrowed: each leaves before it goes
    cdef Py_ssize_t count          # how many there are
    cdef object others             # a WeakSet of those that are asyncio's own; None: there has been none


cdef class Acceptor:
    cdef object __weakref__
    cdef optional[Listener] listener_storage
    cdef Listener* listener        # in listener_storage
    cdef Loop loop                 # whose TransportState owns this object while it serves
    cdef int fd                    # the listening socket's
    cdef int burst                 # connections accepted at a time
    cdef object queue              # of connections, as accept_queues knows it; None while it does not accept
    cdef tuple params              # the listening socket's family, type and protocol
    cdef object sock               # the listening socket, as it was handed in; None once closed
    cdef object held               # it, or what it hands its calls on to; owns the descriptor, held open against others
    cdef object protocol_factory
    cdef readonly object server    # the asyncio Server
    cdef object context            # each connection gets a copy
    cdef object accept_tls         # a coroutine function for (socket, extra); None: a server without TLS

    cdef Acceptor acceptor_before(self)
    cdef int listen(self) except -1
    cdef int stop(self) except -1
    cdef int give_way(self, object heir) except -1
    cdef object retire(self)
    cdef int accepted(self, int fd, const sockaddr_storage& peer, socklen_t peer_size) except -1
    cdef int accepted_object(self, int fd, object peername) except -1
    cdef int failed_to_tie(self, object exception, object protocol) except -1
    cdef int failed(self, int error) except -1
