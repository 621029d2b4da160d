# cython: language_level=3
"""The transport of a connected stream socket.

The engine's Stream moves the bytes; this class decides what they mean: protocol callbacks, flow control, the order in
which a connection ends. Behaviour and messages are those of asyncio's _SelectorSocketTransport.

What is written is sent in the call. What the kernel does not take waits in the stream's queue, and what is written
behind it, too; they leave together when the kernel has room.
"""
import socket
import sys
import warnings
from asyncio import BufferedProtocol, constants, trsock
from asyncio.log import logger

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_SetString
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.errno cimport EAGAIN, EBADF, ECONNRESET
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool

from zloop.binding.address cimport sender_address
from zloop.binding.context cimport call_method_and_leave, call_method_in_context, enter_and_call_method
from zloop.binding.methods cimport adopt_methods, put_extra_info_front
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.transport_base cimport TransportBase
from zloop.core.handles cimport (
    ContextCache, PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit, contexts_can_be_shared, raise_current,
)
from zloop.core.loop cimport Loop, check
from zloop.engine cimport sys as sys_calls
from zloop.engine.stream cimport StreamOps
from zloop.transports.direct_connect cimport ConnectingDescriptor
from zloop.transports.receiver cimport cut_bytes, native_protocol
from zloop.transports.writing cimport WritingTransport, bytes_of, queue_bytes, release_bytes, write_memory

from zloop.core import diagnostics
from zloop.core.socket_objects import (
    STREAM_METHODS, closed_socket, has_plain_methods, hold_socket, is_tcp, kind_of, let_go_socket, plain_socket,
    wrap_descriptor,
)
from zloop.core.waiters import set_result_unless_cancelled
from zloop.transports.selector_transports import make_stream_transport

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object sequence)
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence)
    # Declared as raising nothing: the caller looks at what they return, and deals with the exception that they set.
    Py_ssize_t length_or_error "PyObject_Length"(object thing) noexcept
    PyObject* integer_or_error "PyLong_FromSsize_t"(Py_ssize_t value) noexcept
    int leave_or_error "PyContext_Exit"(object context) noexcept
    int view_or_error "PyObject_GetBuffer"(object exporter, Py_buffer* view, int flags) noexcept

# As give(), but with the exception left for the caller to deal with.
ctypedef int (*QuietlyGive)(object context, NativeProtocol native, const char* data, size_t size) noexcept

cdef object dont_nag_before = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
cdef bint server_counts_transports = sys.version_info >= (3, 13)  # Server._attach() takes the transport
cdef bint writelines_joins = sys.version_info < (3, 12)
cdef str writable_types = (
    "a bytes, bytearray, or memoryview object" if sys.version_info >= (3, 14) else "a bytes-like object"
)

# What asyncio's transports know from the beginning.
cdef frozenset described_names = frozenset({"socket", "sockname", "peername"})

cdef tuple internet_families = (int(socket.AF_INET), int(socket.AF_INET6))
cdef int SOCK_STREAM = socket.SOCK_STREAM

# Below it, copying bytes costs less than telling the kernel of one more place.
cdef Py_ssize_t worth_a_vector = 16 * 1024

# From so much in one read on, copying it out of the shared buffer costs more than making room for as much as may come.
cdef Py_ssize_t in_place_size = 8 * 1024
cdef size_t in_place_read_size = 256 * 1024

cdef object no_size_hint = -1  # to a BufferedProtocol, of what may come


cdef class SocketTransport(WritingTransport):
    """A connected TCP or Unix stream socket, tied to a protocol. Made by the loop's methods."""

    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE
    _start_tls_compatible = True

    def __cinit__(self):
        self.fd = -1

    def __del__(self):
        if not self.holds_fd:
            return
        try:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
        finally:
            self.let_go()  # whatever becomes of the warning: Clients are not told otherwise

    def __repr__(self):
        return describe_transport(
            self, self.loop, not self.holds_fd, self.closing, self.fd,
            self.stream.reading(), self.stream.blocked(), self.stream.pending(),
        )

    # ---- the socket: an object of it, and what there is to know, are made when somebody asks for them

    @property
    def _sock(self):
        return self.socket_object()

    @property
    def _extra(self):
        for name in described_names:
            self.describe(name)
        return self.extra

    def get_extra_info(self, name, default=None):
        """The connection's "socket" (a TransportSocket), "peername" or "sockname"; `default` for other names."""
        if self.kind is not None and name in described_names:
            self.describe(name)
        return default if self.extra is None else self.extra.get(name, default)

    # None once closed. It owns the descriptor from here on.
    cdef object socket_object(self):
        if self.sock is None and self.holds_fd:
            sock = wrap_descriptor(*self.kind, self.fd)
            hold_socket(sock)
            self.sock = sock
        return self.sock

    # asyncio asks for all of it in the beginning: the answer must be the same when the connection is closed.
    cdef int describe(self, object name) except -1:
        cdef sockaddr_storage address
        cdef socklen_t size
        if self.kind is None or (self.extra is not None and name in self.extra):
            return 0
        if self.extra is None:
            self.extra = {}
        if name == "socket":
            sock = self.socket_object()
            self.extra[name] = trsock.TransportSocket(closed_socket(*self.kind) if sock is None else sock)
        elif name == "peername":
            self.extra[name] = sender_address(address, self.peer.copy_to(address))
        else:
            if self.holds_fd:
                self.note_local_address()
            if name not in self.extra:
                size = self.local.get().copy_to(address) if self.local.get() is not NULL else 0
                self.extra[name] = sender_address(address, size)
        return 0

    # In as little memory as it takes.
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

    # ---- protocol and state

    def set_protocol(self, protocol):
        """Let another protocol have the connection; a BufferedProtocol gets its own kind of reads."""
        self.protocol = protocol
        self.native = native_protocol(protocol)
        self.reads_in_place = False
        self.stream.set_buffered(isinstance(protocol, BufferedProtocol))

    # ---- reading

    def is_reading(self):
        """True when data is passed to the protocol as it comes."""
        return not self.closing and not self._paused

    def pause_reading(self):
        """Pass no data to the protocol until resume_reading(). Does nothing when closing or paused."""
        if self.closing or self._paused:
            return
        self._paused = True
        self.stream.stop_reading()
        self.anchor()
        if self.loop.debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Pass data to the protocol again. Does nothing when closing or not paused."""
        if self.closing or not self._paused:
            return
        self._paused = False
        check(self.stream.start_reading())
        self.anchor()
        if self.loop.debug:
            logger.debug("%r resumes reading", self)

    def _start_reading(self):
        """Scheduled behind connection_made(), which may have paused or closed."""
        cdef ContextCache contexts
        if not self.is_reading():
            return
        check(self.stream.start_reading())
        self.anchor()
        contexts = self.loop.connection_contexts
        if contexts.snapshot is not None and not self.shares_context:
            give_context_back(self, contexts, contexts.snapshot)

    cdef int receive(self, const char* data, size_t size) except -1:
        if self.conn_lost:
            return 0
        if <Py_ssize_t>size >= in_place_size and (self.native is None or self.native.lends):
            self.read_in_place(True)
        if self.native is None:
            return self.tell("data_received", PyBytes_FromStringAndSize(data, <Py_ssize_t>size))
        return self.deliver_natively(self.native, data, size)

    # Calls protocol.method(argument).
    cdef int tell(self, str method, object argument) except -1:
        cdef ContextCache contexts = self.loop.connection_contexts
        cdef object snapshot = take_context(self, contexts)
        cdef PyObject* result = call_method_in_context(self.context, self.protocol, method, <PyObject*>argument)
        if snapshot is not None:
            give_context_back(self, contexts, snapshot)
        return self.told(result, method)

    # `result`: what the call has returned.
    cdef int told(self, PyObject* result, str method) except -1:
        if result == NULL:
            return self.protocol_failed(method)
        Py_DECREF(<object>result)
        return 0

    # NULL: the bytes are in memory that it has lent.
    cdef int deliver_natively(self, NativeProtocol native, const char* data, size_t size) except -1:
        cdef ContextCache contexts = self.loop.connection_contexts
        cdef object snapshot = take_context(self, contexts)
        cdef int status = (<QuietlyGive>give)(self.context, native, data, size)
        if snapshot is not None:
            give_context_back(self, contexts, snapshot)
        return self.protocol_failed("data_received") if status < 0 else 0

    # Of an exception that is set: it ends the connection, unless it is meant to leave the loop.
    cdef int protocol_failed(self, str method) except -1:
        try:
            raise_current()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fail(exc, f"Fatal error: protocol.{method}() call failed.")
        return 0

    # An exception that no protocol has raised: what was received is not passed on, so nothing that follows may be.
    cdef void lost_bytes(self, object exception, Loop loop) noexcept:
        try:
            if not isinstance(exception, (SystemExit, KeyboardInterrupt)):
                self.fail(exception, "Fatal read error on socket transport")
                return
        except BaseException as exc:
            exception = exc
        loop.escaped(exception, "Exception in transport callback")

    # One out of another callback. Without memory something was not done that nothing will ask for again.
    cdef void broken(self, object exception, Loop loop) noexcept:
        try:
            if isinstance(exception, MemoryError) and self.loop is not None:
                self.fail(exception, "Fatal error on transport")
                return
        except BaseException as exc:
            exception = exc
        loop.escaped(exception, "Exception in transport callback")

    cdef int read_in_place(self, bint on) except -1:
        self.reads_in_place = on
        self.stream.set_buffered(on)
        return 0

    # As lend_buffer(): the memory that the bytes are to be in for good, so that none is copied.
    cdef bint lend_place(self, char** data, size_t* size) except -1:
        if self.conn_lost:
            return False
        native = self.native
        size[0] = in_place_read_size
        try:
            if native is not None and native.lend(data, size[0]):
                self.loop.place = native
                return True
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fail(exc, "Fatal error: protocol.data_received() call failed.")
        if self.conn_lost:
            return False
        self.loop.place = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size[0])
        data[0] = PyBytes_AS_STRING(self.loop.place)
        return True

    cdef int place_filled(self, ssize_t result) except -1:
        cdef PyObject* payload
        place, self.loop.place = self.loop.place, None
        if result < in_place_size and self.reads_in_place:
            self.read_in_place(False)
        if not PyBytes_CheckExact(place):
            self.deliver_natively(place, NULL, <size_t>max(result, 0))
        elif result > 0 and self.native is not None:
            self.deliver_natively(self.native, PyBytes_AS_STRING(place), <size_t>result)
        elif result > 0:
            payload = <PyObject*>place
            Py_INCREF(place)
            place = None
            self.tell("data_received", cut_bytes(payload, result))
        return 0 if result > 0 else self.nothing_received(result)

    # What else a read can tell: the end, or -errno.
    cdef int nothing_received(self, ssize_t result) except -1:
        if result == 0:
            return self.receive_end()
        if result == -EAGAIN:
            return 0
        return self.fail(diagnostics.os_error(-result), "Fatal read error on socket transport")

    # Fills in where the next read goes, and keeps that memory in place until buffer_filled(). False: no read.
    cdef bint lend_buffer(self, char** data, size_t* size) except -1:
        cdef PyObject* result
        cdef Py_ssize_t length
        if self.conn_lost:
            return False
        # Both calls are one callback: its context is left after buffer_updated(), and here where that is not to come.
        result = enter_and_call_method(self.own_context(), self.protocol, "get_buffer", no_size_hint)
        if result == NULL:
            self.protocol_failed("get_buffer")
            return False
        buffer = <object>result
        Py_DECREF(buffer)  # the call's reference
        length = length_or_error(buffer)
        if length > 0 and view_or_error(buffer, &self.loop.lent, PyBUF_SIMPLE | PyBUF_WRITABLE) == 0:
            data[0] = <char*>self.loop.lent.buf
            size[0] = <size_t>self.loop.lent.len
            return True
        leave_or_error(self.context)
        if length == 0:
            PyErr_SetString(RuntimeError, "get_buffer() returned an empty buffer")
        if length <= 0:
            self.protocol_failed("get_buffer")
            return False
        PyErr_Clear()
        kind = type(buffer).__name__
        error = TypeError(f"get_buffer() must return a contiguous, writable bytes-like object, not {kind}")
        self.fail(error, "Fatal read error on socket transport")
        return False

    cdef int buffer_filled(self, ssize_t result) except -1:
        cdef PyObject* count
        cdef PyObject* updated
        # First of all, so that the protocol may resize what it lent.
        PyBuffer_Release(&self.loop.lent)
        if result <= 0:
            PyContext_Exit(self.context)
            return self.nothing_received(result)
        # As with asyncio, what get_buffer() has done to the transport, be it abort(), makes no difference any more.
        count = integer_or_error(result)
        updated = call_method_and_leave(self.context, self.protocol, "buffer_updated", count)
        Py_XDECREF(count)
        return self.told(updated, "buffer_updated")

    cdef int receive_end(self) except -1:
        cdef object error = None
        if self.loop.debug:
            logger.debug("%r received EOF", self)
        try:
            context = self.own_context()
            PyContext_Enter(context)
            try:
                keep_open = self.protocol.eof_received()
            finally:
                PyContext_Exit(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            error = exc
        if error is not None:
            return self.fail(error, "Fatal error: protocol.eof_received() call failed.")
        if keep_open:
            self.stream.stop_reading()  # the end would be readable for ever
            self.anchor()
        else:
            self.close()
        return 0

    # ---- writing

    def write(self, data):
        """Send bytes, a bytearray or a memoryview, without waiting. What is passed may be changed afterwards;
        mapped memory, when all of it is sent.

        What the kernel does not take at once is kept if it is bytes, or a memoryview of bytes or of an mmap; of other
        memory there is a copy. Raises TypeError for other types, RuntimeError after write_eof() or during
        sendfile(). On a connection that is lost the data is dropped, with a warning in the log after a few times.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be {writable_types}, not {type(data).__name__!r}")
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if not is_empty(data) and not self.dropped():
            self.send(data)

    def writelines(self, list_of_data):
        """Send each of an iterable of bytes-like objects, in order, together; otherwise as write()."""
        if writelines_joins:
            self.write(b"".join(list_of_data))
            return
        if self.eof_written:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to writelines; sendfile is in progress")
        if not list_of_data or self.dropped():
            return
        joined = joined_if_small(list_of_data)
        if joined is None:
            self.queue_all(list_of_data)
        elif joined:
            self.send(joined)

    cdef int queue_all(self, object list_of_data) except -1:
        # A wrong type among them is refused before the first is sent.
        # No list comprehension: when memory is out, Cython 3.3 gives the item up twice.
        cdef list chunks = []
        cdef object error = None
        for data in list_of_data:
            if data:
                chunks.append(data if PyBytes_CheckExact(data) else memoryview(data))
        if not self.stream.is_open():
            for data in chunks:
                self._write_without_loop(data)
            return 0
        try:
            for data in chunks:
                if PyBytes_CheckExact(data):
                    queue_bytes(&self.stream, data)
                elif data.nbytes < worth_a_vector:
                    queue_bytes(&self.stream, bytes_of(data))
                else:
                    # The kernel may take it as it is.
                    self.flush_queue()
                    if self.conn_lost == 0:
                        self.send_borrowed(data)
                    if self.conn_lost:
                        return 0
        except BufferError as exc:  # not contiguous
            error = exc
        except MemoryError:
            self.flush_queue()  # what comes before it is written
            raise
        return self.flush_queue() if error is None else self.write_failed(error)

    def write_eof(self):
        """Shut the sending half down when everything written is sent. Does nothing when closing or done already."""
        if self.closing or self.eof_written:
            return
        self.eof_written = True
        if self.stream.pending() == 0:
            self.shut_down_writing()

    def can_write_eof(self):
        """True: the socket can be half-closed."""
        return True

    # True, with a warning after a few times, when nothing can be sent any more.
    cdef bint dropped(self) except -1:
        if not self.conn_lost:
            return False
        if self.conn_lost >= dont_nag_before:
            logger.warning("socket.send() raised exception.")
        self.conn_lost += 1
        return True

    cdef bint takes_writes(self) noexcept:
        return self.conn_lost == 0

    # As write(), of bytes that are gone afterwards.
    cdef int send_lent(self, const char* data, size_t size) except -1:
        cdef int status
        if self.eof_written or self.empty_waiter is not None or self.conn_lost or not self.stream.is_open():
            self.write(PyBytes_FromStringAndSize(data, <Py_ssize_t>size))
            return 0
        status = write_memory(&self.stream, None, data, size)
        return 0 if status == 0 else self.rest_waits(status)

    def _write_without_loop(self, data):
        """After loop.close(): what the kernel takes is sent; for the rest the closed loop would be needed."""
        if self.stream.lost():  # the descriptor is another file's by now
            self.loop.check_closed()
            return self.write_failed(diagnostics.os_error(EBADF))
        if self.socket_object().send(data) < memoryview(data).nbytes:
            self.loop.check_closed()

    cdef int write_failed(self, object exception) except -1:
        return self.fail(exception, "Fatal write error on socket transport")

    cdef int flushed(self) except -1:
        if self.conn_lost:
            return 0
        self.anchor()
        self.resume_protocol_if_drained()  # which may write, close or abort
        if self.conn_lost == 0 and self.stream.pending() == 0:
            self.finish_writing()
        return 0

    # What waited for the last byte.
    cdef int finish_writing(self) except -1:
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        if self.closing:
            self.schedule_connection_lost(None)
        elif self.eof_written:
            self.shut_down_writing()
        return 0

    def _make_empty_waiter(self):
        """A future that is done when everything written is sent. Until _reset_empty_waiter() writes are refused."""
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.empty_waiter = self.loop.create_future()
        if self.stream.pending() == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _make_room_waiter(self):
        """During sendfile(): the empty waiter anew, done when the kernel takes more. ConnectionError once closed."""
        if self.closing:
            raise ConnectionError("Connection is closed by peer")
        self.empty_waiter = self.loop.create_future()
        check(self.stream.wait_for_room())
        self.anchor()
        return self.empty_waiter

    cdef int room_made(self) except -1:
        self.anchor()
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_result(None)
        return 0

    def _reset_empty_waiter(self):
        self.empty_waiter = None

    # ---- the end

    def close(self):
        """Send what is queued, then end the connection. Nothing more is received."""
        if self.closing:
            return
        self.closing = True
        self.stream.stop_reading()
        self.anchor()
        if self.stream.pending() == 0:
            self.schedule_connection_lost(None)

    def abort(self):
        """End the connection now; what the kernel has not taken is lost."""
        self.force_close(None)

    def _force_close(self, exc):
        self.force_close(exc)

    def _fatal_error(self, exc, message="Fatal error on transport"):
        self.fail(exc, message)

    # An error that ends the connection. OSError is the network's business and is only logged in debug mode.
    cdef int fail(self, object exception, str message) except -1:
        if isinstance(exception, OSError):
            if self.loop is not None and self.loop.debug:
                logger.debug("%r: %s", self, message, exc_info=exception)
        else:
            try:
                self._report(exception, message)
            except MemoryError:
                pass  # connection_lost() tells
        self.force_close(exception)
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(exception)
        return 0

    cdef int force_close(self, object exception) except -1:
        if self.conn_lost:
            return 0
        self.stream.discard_pending()
        if not self.closing:
            self.closing = True
            self.stream.stop_reading()
        self.schedule_connection_lost(exception)
        return 0

    cdef int schedule_connection_lost(self, object exception) except -1:
        self.conn_lost += 1
        return self.end_soon(exception)

    def _call_connection_lost(self, exc):
        """Tell the protocol, once, and let everything go."""
        if self.loop is None:
            return
        self.closing = True
        self.conn_lost += 1
        try:
            self.protocol.connection_lost(exc)
        finally:
            try:
                self.let_go()
            finally:
                self.protocol = self.native = None
                self.loop = None
            if self.empty_waiter is not None and not self.empty_waiter.done():
                self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))

    cdef int let_go(self) except -1:
        """Give everything back: the engine's half, the descriptor, the place in the loop's and the server's tables."""
        self.stream.close()
        self.anchor()
        try:
            if self.holds_fd:
                self.close_descriptor()
        finally:
            self._detach_server()
        return 0

    cdef int close_descriptor(self) except -1:
        cdef ContextCache contexts = self.loop.connection_contexts
        try:
            unknown = self.extra is None or "sockname" not in self.extra
            if unknown and self.kind is not None and not self.stream.lost():
                self.note_local_address()
        finally:
            self.holds_fd = False
            if contexts is not None and contexts.snapshot is None:  # no server listens: this may be the last of one
                contexts.clear()
            self._close_descriptor()
        return 0

    def _close_descriptor(self):
        sock, self.sock = self.sock, None
        if sock is not None:
            let_go_socket(sock, lost=self.stream.lost())
            return
        if self.stream.lost():
            return
        status = sys_calls.close(self.fd)
        if status != -ECONNRESET:  # some systems' way to say that the peer was first; socket objects keep it, too
            check(status)

    def _detach_server(self):
        server = self.server
        self.server = None
        if server is None:
            return
        if server_counts_transports:
            server._detach(self)
        else:
            server._detach()


adopt_methods(<PyTypeObject*>SocketTransport)
put_extra_info_front(<PyTypeObject*>SocketTransport, <PyTypeObject*>TransportBase)


# Makes the transport's context one to be entered. Returns what it was, for give_context_back(), if it may be that
# again; else None.
cdef inline object take_context(SocketTransport transport, ContextCache contexts):
    cdef object snapshot
    if not transport.shares_context:
        return None
    snapshot = transport.context
    transport.context = contexts.take_runner(snapshot)
    transport.shares_context = False
    return snapshot


# Leaves all alone if a variable was set in the context, or somebody has got hold of it. An exception may be set.
cdef inline int give_context_back(SocketTransport transport, ContextCache contexts, object snapshot) noexcept:
    cdef object context = transport.context
    transport.context = None
    if contexts_can_be_shared and contexts.give_back(context, snapshot):
        transport.context = snapshot
        transport.shares_context = True
    else:
        transport.context = context
    return 0


cdef inline bint is_empty(object data) except -1:
    return PyBytes_GET_SIZE(data) == 0 if PyBytes_CheckExact(data) else not data


# What was received goes to a protocol's native face; NULL: it is in memory that this has lent.
cdef int give(object context, NativeProtocol native, const char* data, size_t size) except -1:
    PyContext_Enter(context)
    try:
        return native.receive(data, size) if data != NULL else native.filled(size)
    finally:
        PyContext_Exit(context)


cdef bytes joined_if_small(object chunks):
    """A list or tuple of bytes objects as one, where copying costs less than telling the kernel of each; or None."""
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t count
    cdef PyObject** items
    cdef char* place
    if type(chunks) is not list and type(chunks) is not tuple:
        return None
    items, count = PySequence_Fast_ITEMS(chunks), PySequence_Fast_GET_SIZE(chunks)
    for i in range(count):
        if not PyBytes_CheckExact(<object>items[i]):
            return None
        size += PyBytes_GET_SIZE(<object>items[i])
        if size > worth_a_vector:
            return None
    joined = PyBytes_FromStringAndSize(NULL, size)
    place = PyBytes_AS_STRING(joined)
    for i in range(count):
        size = PyBytes_GET_SIZE(<object>items[i])
        memcpy(place, PyBytes_AS_STRING(<object>items[i]), <size_t>size)
        place += size
    return joined


cdef object tie_socket(
    Loop loop, object sock, object protocol, object waiter, dict extra, object server, object context
):
    """Tie a connected, non-blocking socket to a protocol. The transport, which is returned, owns the socket then.

    connection_made() is called in the next turn, reading begins after it, and `waiter` (a future, or None) is done
    after that. Protocol callbacks run in `context`, or in a copy of the current one.
    """
    cdef SocketTransport transport
    if type(sock) is not plain_socket and not has_plain_methods(sock, STREAM_METHODS):
        loop.check_closed()
        return make_stream_transport(loop, sock, protocol, waiter, extra, server, context)
    connection_made = check_new(loop, sock, protocol)
    transport = SocketTransport.__new__(SocketTransport)
    transport.fd = sock.fileno()
    transport.extra = extra
    describe_socket(extra, sock)
    transport.context = PyContext_CopyCurrent() if context is None else context
    open_stream(transport, loop, protocol)
    hold_socket(sock)
    transport.sock = sock
    transport.holds_fd = True
    return begin(transport, connection_made, is_tcp(sock), waiter, server)


cdef SocketTransport new_bare_transport(
    Loop loop, int fd, const SmallAddress& peer, tuple kind, object protocol, object waiter, object server,
    object context
):
    """The same for a connection to `peer` that nobody has a socket object of; `kind` is its family, type and protocol.

    An object is made when somebody asks. The descriptor is the transport's from the call on, and closed if there is no
    transport to be had.
    """
    cdef SocketTransport transport = None
    try:
        connection_made = check_new(loop, fd, protocol)
        transport = SocketTransport.__new__(SocketTransport)
        transport.fd = fd
        transport.kind = kind
        (&transport.peer)[0] = peer
        transport.context = context
        open_stream(transport, loop, protocol)
    except BaseException:
        sys_calls.close(fd)
        raise
    transport.holds_fd = True
    tcp = kind[0] in internet_families and kind[1] == SOCK_STREAM
    return begin(transport, connection_made, tcp, waiter, server)


# A closed loop and what is no protocol are found out before anything is tied. Returns what to call first.
cdef object check_new(Loop loop, object fileobj, object protocol):
    loop.check_closed()
    connection_made = protocol.connection_made
    loop.check_no_transport(fileobj)
    return connection_made


cdef int open_stream(SocketTransport transport, Loop loop, object protocol) except -1:
    transport.loop = loop
    transport.set_protocol(protocol)
    loop.evict_watcher(transport.fd)
    return check(transport.stream.open(loop.reactor, transport.fd, stream_ops, <void*>transport))


# From here on the transport closes its descriptor by itself, whatever happens.
cdef SocketTransport begin(
    SocketTransport transport, object connection_made, bint tcp, object waiter, object server
):
    cdef Loop loop = transport.loop
    cdef object first = None  # a Handle, or what a subclass's call_soon() returns
    if tcp:
        # Fails for other stream protocols, or when the peer is gone already: the first read or write will tell.
        sys_calls.set_nodelay(transport.fd)
    try:
        if server is not None:
            if server_counts_transports:
                server._attach(transport)
            else:
                server._attach()
            transport.server = server
        first = loop.call_soon(connection_made, transport, context=transport.context)
        # Which gives the context back if it can: nobody else may hold it then.
        loop.call_soon(transport._start_reading, context=transport.context if server is None else None)
        if waiter is not None:
            loop.call_soon(set_result_unless_cancelled, waiter, None, context=transport.context)
    except BaseException:  # memory is out: no protocol is told of a connection that nobody would read
        transport.closing = True  # what _start_reading() looks at
        try:
            if first is not None:
                first.cancel()
        finally:
            transport.let_go()
        raise
    return transport


def make_socket_transport(Loop loop not None, sock, protocol, waiter=None, *, extra=None, server=None, context=None):
    """For the Python half of the loop: see tie_socket()."""
    return tie_socket(loop, sock, protocol, waiter, {} if extra is None else extra, server, context)


def make_bare_transport(Loop loop not None, sock, protocol, waiter, context):
    """The same for a connected internet socket that nobody else has: see new_bare_transport().

    The descriptor is taken out of the socket object, or of the ConnectingDescriptor. None, and nothing is taken, where
    the object has to be seen.
    """
    cdef sockaddr_storage address
    cdef socklen_t size
    cdef SmallAddress peer
    cdef tuple kind
    cdef int fd
    if loop.debug:
        return None
    if type(sock) is ConnectingDescriptor:
        kind = (<ConnectingDescriptor>sock).params
        fd = (<ConnectingDescriptor>sock).fd
    else:
        if type(sock) is not plain_socket:
            return None
        kind = kind_of(sock)
        if kind[0] not in internet_families:
            return None
        fd = sock.fileno()
    if sys_calls.peer_address(fd, &address, &size) < 0 or not peer.assign(address, size):
        return None
    return new_bare_transport(loop, sock.detach(), peer, kind, protocol, waiter, None, context)


cdef str describe_transport(
    object transport, Loop loop, bint closed, bint closing, int fd, bint reading, bint blocked, size_t pending
):
    """A transport's repr(); `loop` is None when the connection is lost."""
    info = [type(transport).__name__]
    if closed:
        info.append("closed")
    elif closing:
        info.append("closing")
    info.append(f"fd={fd}")
    if loop is not None and not loop.closed:
        info.append("read=polling" if reading else "read=idle")
        state = "polling" if blocked else "idle"
        info.append(f"write=<{state}, bufsize={pending}>")
    return f"<{' '.join(info)}>"


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


# ---- what the engine calls: the interpreter is held, and nothing may be raised

cdef void on_data(void* owner, const char* data, size_t size) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.receive(data, size)
    except BaseException as exc:
        transport.lost_bytes(exc, loop)


cdef cpp_bool get_buffer(void* owner, char** data, size_t* size) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        return transport.lend_place(data, size) if transport.reads_in_place else transport.lend_buffer(data, size)
    except BaseException as exc:
        transport.broken(exc, loop)
    return False


cdef void on_buffer_filled(void* owner, ssize_t result) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        if loop.place is not None:
            transport.place_filled(result)
        else:
            transport.buffer_filled(result)
    except BaseException as exc:
        transport.lost_bytes(exc, loop)


cdef void on_end(void* owner) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.receive_end()
    except BaseException as exc:
        transport.broken(exc, loop)


cdef void on_read_error(void* owner, int error) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.fail(diagnostics.os_error(error), "Fatal read error on socket transport")
    except BaseException as exc:
        transport.broken(exc, loop)


cdef void on_flushed(void* owner) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.flushed()
    except BaseException as exc:
        transport.broken(exc, loop)


cdef void on_write_error(void* owner, int error) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.write_failed(diagnostics.os_error(error))
    except BaseException as exc:
        transport.broken(exc, loop)


cdef void on_room(void* owner) noexcept:
    cdef SocketTransport transport = <SocketTransport>owner
    cdef Loop loop = transport.loop
    try:
        transport.room_made()
    except BaseException as exc:
        transport.broken(exc, loop)


cdef StreamOps stream_ops
stream_ops.release = release_bytes
stream_ops.on_data = on_data
stream_ops.get_buffer = get_buffer
stream_ops.on_buffer_filled = on_buffer_filled
stream_ops.on_end = on_end
stream_ops.on_read_error = on_read_error
stream_ops.on_flushed = on_flushed
stream_ops.on_write_error = on_write_error
stream_ops.on_room = on_room


seal_type(<PyTypeObject*>SocketTransport, False)
