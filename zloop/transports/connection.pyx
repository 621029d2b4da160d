# cython: language_level=3
"""Ties a connected stream socket to a protocol: makes its transport.

connection_made() is called in the next turn, reading begins after it, and `waiter` (a future, or None) is done after
that.
"""
import socket

from zloop.core.contexts cimport PyContext_CopyCurrent
from zloop.engine cimport sys as sys_calls
from zloop.engine.socket cimport sockaddr_storage, socklen_t
from zloop.transports.base cimport begin, check_new
from zloop.transports.direct_connect cimport ConnectingDescriptor
from zloop.transports.lazy_socket cimport describe_socket
from zloop.transports.stream_socket cimport open_transport

from zloop.core.socket_objects import STREAM_METHODS, has_plain_methods, hold_socket, is_tcp, params_of, plain_socket
from zloop.transports.selector_transports import make_stream_transport

cdef tuple internet_families = (int(socket.AF_INET), int(socket.AF_INET6))
cdef int SOCK_STREAM = socket.SOCK_STREAM


cdef object transport_of_socket(
    Loop loop, object sock, object protocol, object waiter, dict extra, object server, object context
):
    """The transport of a connected, non-blocking socket object, which it owns from here on.

    Protocol callbacks run in `context`, or in a copy of the current one. A socket whose class has methods of its own
    gets asyncio's transport.
    """
    cdef SocketTransport transport
    if type(sock) is not plain_socket and not has_plain_methods(sock, STREAM_METHODS):
        loop.check_closed()
        return make_stream_transport(loop, sock, protocol, waiter, extra, server, context)
    connection_made = check_new(loop, protocol)
    loop.check_no_transport(sock)
    describe_socket(extra, sock)
    transport = open_transport(loop, sock.fileno(), protocol, PyContext_CopyCurrent() if context is None else context)
    transport.extra = extra
    hold_socket(sock)
    transport.sock = sock
    transport.pin(sock)
    transport.holds_fd = True
    return begin_connection(transport, connection_made, is_tcp(sock), waiter, server)


cdef SocketTransport transport_of_descriptor(
    Loop loop, int fd, const SmallAddress& peer, tuple params, object protocol, object waiter, object server,
    object context
):
    """The transport of a connection to `peer` that has no socket object; `params` are its family, type and protocol.

    The object is made when it is asked for. The descriptor is the transport's from the call on, and closed if there is
    no transport to be had.
    """
    cdef SocketTransport transport = None
    try:
        connection_made = check_new(loop, protocol)
        loop.check_no_transport(fd)
        transport = open_transport(loop, fd, protocol, context)
        transport.params = params
        (&transport.peer)[0] = peer
    except BaseException:
        sys_calls.close(fd)
        raise
    transport.holds_fd = True
    tcp = params[0] in internet_families and params[1] == SOCK_STREAM
    return begin_connection(transport, connection_made, tcp, waiter, server)


# The transport closes its descriptor by itself from here on, whatever happens.
cdef SocketTransport begin_connection(
    SocketTransport transport, object connection_made, bint tcp, object waiter, object server
):
    if tcp:
        # Fails for other stream protocols, or when the peer is gone already: the first read or write reports it.
        sys_calls.set_nodelay(transport.fd)
    if server is not None:
        try:
            transport.attach_server(server)
        except BaseException:
            transport.closing = True
            transport.release()
            raise
    begin(transport, connection_made, transport._start_reading, waiter)
    return transport


def make_socket_transport(Loop loop not None, sock, protocol, waiter=None, *, extra=None, server=None, context=None):
    """For the Python half of the loop: see transport_of_socket()."""
    return transport_of_socket(loop, sock, protocol, waiter, {} if extra is None else extra, server, context)


def make_descriptor_transport(Loop loop not None, sock, protocol, waiter, context):
    """The transport of a connected internet socket that has no other user: see transport_of_descriptor().

    The descriptor is taken out of the socket object, or of the ConnectingDescriptor. None, and nothing is taken, where
    the object has to be seen.
    """
    cdef sockaddr_storage address
    cdef socklen_t size
    cdef SmallAddress peer
    cdef tuple params
    cdef int fd
    if loop.debug:
        return None
    if type(sock) is ConnectingDescriptor:
        params = (<ConnectingDescriptor>sock).params
        fd = (<ConnectingDescriptor>sock).fd
    else:
        if type(sock) is not plain_socket:
            return None
        params = params_of(sock)
        if params[0] not in internet_families:
            return None
        fd = sock.fileno()
    if sys_calls.peer_address(fd, &address, &size) < 0 or not peer.assign(address, size):
        return None
    return transport_of_descriptor(loop, sock.detach(), peer, params, protocol, waiter, None, context)
