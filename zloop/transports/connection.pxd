# Transports of connected stream sockets are made here.
from zloop.core.loop cimport Loop
from zloop.engine.address cimport SmallAddress
from zloop.transports.stream_socket cimport SocketTransport


cdef object transport_of_socket(
    Loop loop, object sock, object protocol, object waiter, dict extra, object server, object context)
cdef SocketTransport transport_of_descriptor(
    Loop loop, int fd, const SmallAddress& peer, tuple params, object protocol, object waiter, object server,
    object context)
