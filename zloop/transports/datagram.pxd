# The transport of a datagram socket.
cimport cython
from libcpp.optional cimport optional

from zloop.engine.address cimport Address
from zloop.engine.datagram cimport DatagramSocket, ReceivedDatagram, Route
from zloop.transports.base cimport WritingTransport


@cython.final
cdef class DatagramTransport(WritingTransport):
    cdef optional[DatagramSocket] datagram_storage
    cdef DatagramSocket* datagram      # in datagram_storage
    cdef readonly object _sock   # owns the descriptor, held open against its other users; None once closed
    cdef readonly object _address     # the only one that sendto() may name, or None
    cdef bint connected          # the socket has a peer: sendto() goes there whatever address it names
    cdef bint has_peer           # it has one, which need not have a name: then sendto() may leave the address out
    cdef bint may_end            # its datagrams are a connection's
    cdef bint ended              # and nothing follows
    cdef int family              # of the socket
    cdef object backlog          # (data, sender) of what was received and not yet passed on, in a deque
    cdef bint delivery_scheduled  # of the backlog
    cdef object sender           # the last one, as a protocol gets it
    cdef Address sender_address  # the same for the kernel
    cdef object target           # the last one that was parsed
    cdef Address target_address

    cdef int readable(self) except -1
    cdef int receive(self) except -1
    cdef int receive_batch(self) except -1
    cdef int receive_by_socket(self) except -1
    cdef object name_sender(self, const ReceivedDatagram& received)
    cdef int keep(self, const ReceivedDatagram* received, int count) except -1
    cdef int schedule_delivery(self) except -1
    cdef int deliver(self, object data, object sender) except -1
    cdef int deliver_backlog(self) except -1
    cdef int end_reading(self) except -1
    cdef int send_natively(self, object data, const Address* to) except -1
    cdef int send_by_socket(self, object data, object addr) except -1
    cdef object try_socket(self, object data, object addr)
    cdef bint find_address(self, object addr, Address* found) except -1
    cdef int enqueue(self, object payload, Route route, object addr, const Address* to) except -1
    cdef int send_failed(self, object exception) except -1
    cdef int send_queued(self) except -1
    cdef bint send_first_by_socket(self) except -1
    cdef int writable(self) except -1
