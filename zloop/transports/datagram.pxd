# The transport of a datagram socket.
from libcpp.optional cimport optional

from zloop.binding.transport_base cimport DatagramTransportBase
from zloop.core.loop cimport Loop
from zloop.engine.address cimport Address
from zloop.engine.datagram cimport Datagram, ReceivedDatagram, Route
from zloop.engine.hook_list cimport ListHook


cdef class DatagramTransport(DatagramTransportBase):
    cdef ListHook anchorage      # in the list of that name; the first attribute, at one offset in all transports
    cdef object __weakref__
    cdef dict __dict__           # programs set attributes, and replace methods, on transports
    cdef optional[Datagram] datagram_storage
    cdef Datagram* datagram      # in datagram_storage
    cdef Loop loop               # None once the connection is lost; its `anchored` owns a transport at work
    cdef object protocol         # None once the connection is lost
    cdef readonly object _sock   # owns the descriptor, held open against its other users; None once closed
    cdef readonly object _context     # protocol callbacks run in it
    cdef object unscheduled      # what _end_unscheduled() is to say
    cdef readonly object _address     # the only one that sendto() may name, or None
    cdef bint connected          # the socket has a peer: sendto() goes there whatever address it names
    cdef bint has_peer           # it has one, which need not have a name: then sendto() may leave the address out
    cdef bint may_end            # its datagrams are a connection's
    cdef bint ended              # and nothing follows
    cdef int family              # of the socket
    cdef int fd                  # kept for repr() when the socket is gone
    cdef object backlog          # (data, sender) of what was received and not yet passed on, in a deque
    cdef bint delivery_scheduled  # of the backlog
    cdef object sender           # the last one, as a protocol gets it
    cdef Address sender_address  # the same for the kernel
    cdef object target           # the last one that was parsed
    cdef Address target_address
    cdef bint closing            # close() or abort() was called, or an error was met
    cdef int conn_lost           # connection_lost() is scheduled; counts sends after that, too
    cdef readonly bint _paused    # pause_reading() was called last
    cdef bint protocol_paused    # pause_writing() was called last
    cdef size_t high_water       # bytes
    cdef size_t low_water        # bytes

    cdef bint wants_data(self) noexcept
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
    cdef size_t buffered(self) noexcept
    cdef int pause_protocol_if_full(self) except -1
    cdef int resume_protocol_if_drained(self) except -1
    cdef int fail(self, object exception, str message) except -1
    cdef int force_close(self, object exception) except -1
    cdef int end_when_drained(self) except -1
    cdef int schedule_connection_lost(self, object exception) except -1
    cdef int anchor(self) except -1
    cdef int let_go(self) except -1
