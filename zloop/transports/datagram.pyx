# cython: language_level=3
"""The transport of a datagram socket: UDP, unix datagrams, and whatever other family has datagrams.

The engine's DatagramSocket moves them; this class decides what they mean: protocol callbacks, errors, flow control.
Behaviour and messages are those of asyncio's _SelectorDatagramTransport, which receives one datagram in a turn. Here,
system calls are shared:

* When datagrams are there, all of them are received and passed on, for a bounded number and time in a turn, whatever
  else is ready to run: with one in a turn, whatever the kernel cannot hold is lost beside a task that never waits.
  Those that loop.stop() or pause_reading() leave behind wait in a backlog; they are dropped when the transport is
  closed.
* Datagrams that had to wait for the kernel leave together, if they name an address. A connected socket sends them one
  by one: the kernel reports the fate of earlier ones to the next call, and only once, so that it would be lost in the
  middle of a batch.
"""
import socket
import sys
from asyncio import DatagramTransport as AsyncioDatagramTransport, Transport, constants
from collections import deque

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EBADF
from libc.stdint cimport int64_t

from zloop.binding.address cimport parse_address, sender_address
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.trampolines cimport call_method
from zloop.core.contexts cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from zloop.core.handles cimport raise_current
from zloop.core.loop cimport Loop
from zloop.core.scheduler cimport check
from zloop.engine.address cimport Address
from zloop.engine.clock cimport monotonic_ns
from zloop.engine.datagram cimport (
    DatagramOps,
    OutgoingDatagram,
    ReceivedDatagram,
    Route,
    batch_max,
    routed_by_owner,
)
from zloop.engine.shared_buffer cimport Loan
from zloop.transports.base cimport (
    BaseTransport, WritingTransport, begin, check_new, describe_transport, owner_only, read_callback_failed,
)
from zloop.transports.lazy_socket cimport describe_socket
from zloop.transports.stream cimport bytes_of

from zloop.core import diagnostics
from zloop.core.socket_objects import WOULD_BLOCK, has_ended, hold_socket, let_go_socket

cdef int unwarned = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES - 1  # asyncio counts the end itself, too
# CPython 3.13 sends empty datagrams, and counts a header with each that is queued.
cdef bint sends_empty = sys.version_info >= (3, 13)
cdef size_t header_size = 8 if sys.version_info >= (3, 13) else 0

cdef size_t longest_internet_datagram = 64 * 1024
cdef size_t longest_datagram = 256 * 1024  # asyncio's buffer: the rest of a longer one is dropped
cdef int AF_INET = socket.AF_INET
cdef int AF_INET6 = socket.AF_INET6
cdef int AF_UNIX = socket.AF_UNIX
cdef object SOCK_SEQPACKET = getattr(socket, "SOCK_SEQPACKET", None)

cdef enum:
    datagrams_in_a_turn = 128  # of one endpoint: then the others have their turn
    sure_in_a_turn = 64  # of one endpoint, however long they take: what nobody receives is lost
    time_in_a_turn = 250_000  # nanoseconds after the first batch: beyond those, a flood makes nobody wait long
    burst_size = 8


@cython.final
cdef class DatagramTransport(WritingTransport, Transport, AsyncioDatagramTransport):
    """A datagram socket, tied to a protocol. Made by the loop's create_datagram_endpoint()."""

    def __cinit__(self):
        self.datagram = &self.datagram_storage.emplace(datagram_ops, release_reference, <void*>self)

    def __dealloc__(self):
        if self.datagram is not NULL:
            self.datagram.close()  # here, as a destructor must not release what is queued

    def __repr__(self):
        return describe_transport(self, self.datagram.reading(), self.datagram.blocked())

    cdef bint is_open(self) noexcept:
        return self._sock is not None

    cdef bint waits_for_kernel(self) noexcept:
        return self.datagram.reading() or self.datagram.pending() > 0

    # ---- receiving

    cdef int start_reading(self) except -1:
        if not self.ended:
            check(self.datagram.start_reading())
        if self.backlog:
            self.schedule_delivery()
        return 0

    cdef int stop_reading(self) noexcept:
        self.datagram.stop_reading()
        return 0

    # The socket has datagrams, or an error.
    cdef int readable(self) except -1:
        PyContext_Enter(self.context)
        try:
            self.receive()
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int receive(self) except -1:
        cdef int budget = datagrams_in_a_turn
        cdef int count
        cdef int64_t now
        cdef int64_t deadline = 0
        # What was received before comes first. The kernel goes on saying that there is more.
        if self.delivery_scheduled:
            return 0
        while budget > 0 and self.wants_data() and not self.ended and not self.loop.stopping:
            if self.family == AF_INET or self.family == AF_INET6 or self.family == AF_UNIX:
                count = self.receive_batch()
            else:
                count = self.receive_by_socket()
            if count == 0:
                break
            budget -= count
            now = monotonic_ns()
            if deadline == 0:
                deadline = now + time_in_a_turn
            elif now >= deadline and budget <= datagrams_in_a_turn - sure_in_a_turn:
                break
        return 0

    # Receives a batch; returns the number of datagrams, 0 if the socket is likely to have no more.
    cdef int receive_batch(self) except -1:
        cdef ReceivedDatagram[batch_max] received
        cdef Loan loan  # until all are passed on or kept: a callback may do anything
        cdef int asked, count
        cdef int taken = 0
        if self.may_end:
            self.datagram.expect_one()  # each call after the end reports the end again
        asked = self.datagram.expected()
        count = self.datagram.receive(received, loan)
        if count < 0:
            if count != -EAGAIN:
                self.protocol.error_received(diagnostics.os_error(-count))
            return 0
        if self.may_end and count == 1 and received[0].size == 0 and has_ended(self._sock):
            self.end_reading()
        try:
            while taken < count and self.wants_data() and not self.loop.stopping:
                data = PyBytes_FromStringAndSize(received[taken].data, <Py_ssize_t>received[taken].size)
                sender = self.name_sender(received[taken])
                taken += 1
                self.deliver(data, sender)
        finally:
            if taken < count:
                self.keep(received + taken, count - taken)
        # After a batch that is not full, one more call would mostly return EAGAIN.
        return count if count == asked and (asked >= burst_size or self.may_end) else 0

    # For families whose addresses only the socket module knows.
    cdef int receive_by_socket(self) except -1:
        cdef object error = None
        try:
            data, sender = self._sock.recvfrom(longest_datagram)
        except WOULD_BLOCK:
            return 0
        except OSError as exc:
            error = exc
        if error is not None:
            self.protocol.error_received(error)
            return 0
        if self.may_end and not data and has_ended(self._sock):
            self.end_reading()
        self.deliver(data, sender)
        return 1

    # Nothing follows: the end of a connection of datagrams looks like an empty datagram, again and again.
    cdef int end_reading(self) except -1:
        self.ended = True
        self.datagram.stop_reading()
        return self.update_keepalive()

    cdef object name_sender(self, const ReceivedDatagram& received):
        # Very often it is the last one again.
        if self.sender is None or not self.sender_address.same_as(received.peer, received.peer_size):
            self.sender = sender_address(received.peer, received.peer_size)
            self.sender_address = Address(received.peer, received.peer_size)
        return self.sender

    cdef int keep(self, const ReceivedDatagram* received, int count) except -1:
        if self.closing:
            return 0
        for i in range(count):
            data = PyBytes_FromStringAndSize(received[i].data, <Py_ssize_t>received[i].size)
            self.backlog.append((data, self.name_sender(received[i])))
        if self.wants_data():
            self.schedule_delivery()
        return 0

    cdef int schedule_delivery(self) except -1:
        if not self.delivery_scheduled:
            self.delivery_scheduled = True
            self.loop.call_soon(self._deliver_next, context=self.context)
        return 0

    def _deliver_next(self):
        self.delivery_scheduled = False
        self.deliver_backlog()

    cdef int deliver_backlog(self) except -1:
        try:
            while self.backlog and self.wants_data() and not self.loop.stopping:
                data, sender = self.backlog.popleft()
                self.deliver(data, sender)
        finally:
            if self.backlog and self.wants_data():
                self.schedule_delivery()
        return 0

    cdef int deliver(self, object data, object sender) except -1:
        try:
            self.protocol.datagram_received(data, sender)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, f"Exception in callback {type(self).__name__}._read_ready()")  # as asyncio calls it
        return 0

    # ---- sending

    def sendto(self, data, addr=None):
        """Send a datagram (bytes, a bytearray or a memoryview) to an address; None: to the endpoint's remote_addr.

        What is passed may be changed afterwards. Raises TypeError for other types, ValueError for an address that is
        not the endpoint's remote one. The kernel's errors go to error_received(). On an endpoint that is gone the data
        is dropped, with a warning in the log after a few times.
        """
        owner_only(self)
        cdef Address address
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if not data and not sends_empty:
            return
        if self._address:
            if addr not in (None, self._address):
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if self.ending and (self._address or self._sock is None):
            self.drop_write("socket.send() raised exception.", unwarned)
        elif self.datagram.lost():  # the descriptor is another file's by now
            self.fail(diagnostics.os_error(EBADF), "Fatal write error on datagram transport")
        elif not self.datagram.is_open() or self.ending:
            self.send_by_socket(data, addr)
        elif self.connected or (addr is None and self.has_peer):
            self.send_natively(data, NULL)
        elif self.find_address(addr, &address):
            self.send_natively(data, &address)
        else:
            self.send_by_socket(data, addr)

    # With a destination of NULL, to the connected peer.
    cdef int send_natively(self, object data, const Address* to) except -1:
        cdef int status
        cdef object error = None
        try:
            payload = bytes_of(data)
        except BaseException as exc:
            error = exc
        if error is not None:
            return self.fail(error, "Fatal write error on datagram transport")
        if self.ending:  # an exporter's code ended the endpoint
            return 0
        status = self.datagram.send_now(PyBytes_AS_STRING(payload), <size_t>PyBytes_GET_SIZE(payload), to)
        if status == 0:
            return 0
        if status != -EAGAIN:
            self.protocol.error_received(diagnostics.os_error(-status))
            return 0
        return self.enqueue(payload, Route.peer if to == NULL else Route.address, None, to)

    # The socket object resolves host names, knows other families, and finds the words for a wrong address.
    cdef int send_by_socket(self, object data, object addr) except -1:
        if self.datagram.pending() == 0:
            error = self.try_socket(data, addr)
            if not isinstance(error, WOULD_BLOCK):
                return self.send_failed(error)
            if self.ending:
                return 0
            self.loop.check_closed()
        return self.enqueue(bytes(data), Route.owner, addr, NULL)

    # None when it is sent, or the exception.
    cdef object try_socket(self, object data, object addr):
        cdef object error = None
        try:
            if self.connected or (addr is None and self.has_peer):
                self._sock.send(data)
            else:
                self._sock.sendto(data, addr)
        except BaseException as exc:
            error = exc
        return error

    # False for an address that is the socket object's to deal with.
    cdef bint find_address(self, object addr, Address* found) except -1:
        if addr is None:
            return False
        if addr is self.sender:
            found[0] = self.sender_address
        else:
            if addr is not self.target:
                if not parse_address(addr, self.family, self.target_address):
                    self.target = None
                    return False
                self.target = addr
            found[0] = self.target_address
        return True

    cdef int enqueue(self, object payload, Route route, object addr, const Address* to) except -1:
        cdef OutgoingDatagram datagram
        reference = payload if route != Route.owner else (payload, addr)
        datagram.segment.data = PyBytes_AS_STRING(payload)
        datagram.segment.size = <size_t>PyBytes_GET_SIZE(payload)
        datagram.segment.reference = <void*>reference
        datagram.route = route
        if to != NULL:
            datagram.address = to[0]
        check(self.datagram.queue(datagram))
        Py_INCREF(reference)  # the queue's, given up by release_reference()
        if self.datagram.is_open():
            self.update_keepalive()
        return self.pause_if_full()

    cdef int send_failed(self, object exception) except -1:
        if exception is None:
            return 0
        if isinstance(exception, OSError):
            self.protocol.error_received(exception)
        elif isinstance(exception, (SystemExit, KeyboardInterrupt)):
            raise exception
        else:
            self.fail(exception, "Fatal write error on datagram transport")
        return 0

    # Offers the kernel what is queued now. What error_received() adds waits for another time: it may add for ever.
    cdef int send_queued(self) except -1:
        cdef size_t tries = self.datagram.pending() + 1  # the last one finds nothing left
        cdef int status
        while tries > 0:
            tries -= 1
            status = self.datagram.flush()
            if status == 0:
                return 0
            if status == routed_by_owner:
                if not self.send_first_by_socket():
                    return 0
            else:
                self.protocol.error_received(diagnostics.os_error(-status))
        return 0

    # False when the kernel is full.
    cdef bint send_first_by_socket(self) except -1:
        reference = <object><PyObject*>self.datagram.first().segment.reference
        data, addr = reference
        error = self.try_socket(data, addr)
        if isinstance(error, WOULD_BLOCK):
            return False
        # The socket may be of a class that called back and ended the endpoint.
        if self.datagram.pending() and self.datagram.first().segment.reference == <void*>reference:
            self.datagram.drop_first()
        self.send_failed(error)
        return True

    # The kernel takes more.
    cdef int writable(self) except -1:
        try:
            PyContext_Enter(self.context)
            try:
                self.send_queued()
            finally:
                PyContext_Exit(self.context)
        finally:
            if not self.ending:
                self.update_keepalive()
                self.resume_if_drained()  # which may send, close or abort
                self.end_when_drained()
        return 0

    def get_write_buffer_size(self):
        """Bytes sent that the kernel has not taken, with a header's 8 for each datagram (from CPython 3.13)."""
        return self.buffered()

    cdef size_t buffered(self) noexcept:
        return self.datagram.pending_bytes() + header_size * self.datagram.pending()

    # ---- the end

    cdef int discard_pending(self) except -1:
        self.datagram.discard_pending()
        return 0

    # An empty datagram waits, too.
    cdef int end_when_drained(self) except -1:
        if self.closing and not self.ending and self.datagram.pending() == 0:
            self.schedule_connection_lost(None)
        return 0

    cdef int release(self) except -1:
        self.datagram.close()
        self.backlog.clear()
        self.update_keepalive()
        sock, self._sock = self._sock, None
        self.unpin()
        if sock is not None:
            let_go_socket(sock, lost=self.datagram.lost())
        return 0


def make_datagram_transport(Loop loop not None, sock, protocol, address, waiter):
    """Tie a non-blocking datagram socket to a protocol. The transport owns the socket from here on.

    `address`, or None, is the only one that datagrams may be sent to. connection_made() is called in the next turn,
    receiving begins after it, and `waiter` (a future) is done after that.
    """
    cdef DatagramTransport transport
    cdef bint is_internet
    connection_made = check_new(loop, protocol)
    loop._ensure_fd_no_transport(sock)
    transport = DatagramTransport.__new__(DatagramTransport)
    transport.loop = loop
    transport.fd = sock.fileno()
    transport.family = sock.family
    transport.context = PyContext_CopyCurrent()
    transport._address = address
    transport.extra = {}
    describe_socket(transport.extra, sock)
    transport.connected = bool(transport.extra["peername"])
    transport.has_peer = transport.extra["peername"] is not None
    transport.may_end = sock.type == SOCK_SEQPACKET
    transport.backlog = deque()
    transport.protocol = protocol
    loop.evict_watcher(transport.fd)
    is_internet = transport.family == AF_INET or transport.family == AF_INET6
    loop.note_transport(transport.fd, transport)
    check(transport.datagram.open(
        loop.reactor, transport.fd, longest_internet_datagram if is_internet else longest_datagram))
    hold_socket(sock)
    transport._sock = sock
    transport.pin(sock)
    begin(transport, connection_made, transport._start_reading, waiter)
    return transport


# ---- what the engine calls: the interpreter is held, and nothing may be raised

cdef void release_reference(void* data) noexcept:
    Py_DECREF(<object><PyObject*>data)


cdef void write_callback_failed(BaseTransport transport, Loop loop) noexcept:
    try:
        raise_current()
    except BaseException as exc:
        loop.escaped(exc, f"Exception in callback {type(transport).__name__}._sendto_ready()")


cdef void on_readable(void* owner) noexcept:
    call_method(owner, DatagramTransport.readable, read_callback_failed)


cdef void on_writable(void* owner) noexcept:
    call_method(owner, DatagramTransport.writable, write_callback_failed)


cdef DatagramOps datagram_ops
datagram_ops.on_readable = on_readable
datagram_ops.on_writable = on_writable


seal_type(<PyTypeObject*>DatagramTransport, False)
