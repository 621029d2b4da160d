# cython: language_level=3
"""The transport of a connected stream socket.

The engine's Stream moves the bytes; this class decides what they mean: protocol callbacks, flow control, the order in
which a connection ends. Behaviour and messages are those of asyncio's _SelectorSocketTransport.

What is written is sent in the call. What the kernel does not take waits in the stream's queue, and what is written
behind it, too; they leave together when the kernel has room.
"""
import sys
from asyncio import BufferedProtocol, Transport, constants
from asyncio.log import logger

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_SetString
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF
from libc.errno cimport EAGAIN, EBADF
from libc.string cimport memcpy
from libcpp cimport bool as cpp_bool

from zloop.binding.context cimport call_method_and_leave, call_method_in_context, enter_and_call_method
from zloop.binding.methods cimport flatten_methods, install_extra_info_shim
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport free_threaded
from zloop.binding.trampolines cimport call_method
from zloop.core.contexts cimport PyContext_Enter, PyContext_Exit
from zloop.core.handles cimport raise_current
from zloop.core.loop cimport Loop
from zloop.core.scheduler cimport check
from zloop.engine.stream cimport StreamOps
from zloop.transports.base cimport describe_transport, owner_only
from zloop.transports.lazy_socket cimport EOF_WRITTEN, SENDING_FILE
from zloop.transports.receiver cimport cut_bytes, native_protocol
from zloop.transports.state cimport TransportState, transport_state
from zloop.transports.stream cimport (
    bytes_of,
    hold_transport,
    let_transport_go,
    queue_bytes,
    release_bytes,
    write_memory,
)

from zloop.core import diagnostics

cdef extern from "Python.h":
    PyObject** PySequence_Fast_ITEMS(object sequence)
    Py_ssize_t PySequence_Fast_GET_SIZE(object sequence)
    # Declared as raising nothing: the caller checks what they return, and handles the exception that they set.
    Py_ssize_t length_or_error "PyObject_Length"(object thing) noexcept
    PyObject* integer_or_error "PyLong_FromSsize_t"(Py_ssize_t value) noexcept
    int leave_or_error "PyContext_Exit"(object context) noexcept
    int view_or_error "PyObject_GetBuffer"(object exporter, Py_buffer* view, int flags) noexcept

# As give(), but with the exception left for the caller to deal with.
ctypedef int (*QuietlyGive)(object context, NativeProtocol native, const char* data, size_t size) noexcept

cdef int unwarned = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES - 1  # asyncio counts the end itself, too
cdef bint server_counts_transports = sys.version_info >= (3, 13)  # Server._attach() takes the transport
cdef bint writelines_joins = sys.version_info < (3, 12)
cdef str writable_types = (
    "a bytes, bytearray, or memoryview object" if sys.version_info >= (3, 14) else "a bytes-like object"
)

# Below it, copying bytes costs less than one more segment of sendmsg().
cdef Py_ssize_t worth_a_vector = 16 * 1024

# From this size of a read on, copying it out of the shared buffer costs more than a buffer for the largest read.
cdef Py_ssize_t direct_read_threshold = 8 * 1024
cdef size_t direct_read_size = 256 * 1024

cdef object no_size_hint = -1  # to a BufferedProtocol, of what may come


@cython.final
cdef class SocketTransport(LazySocketTransport, Transport):
    """A connected TCP or Unix stream socket, tied to a protocol. Made by the loop's methods."""

    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE
    _start_tls_compatible = True
    _empty_waiter = None  # a future that waits for an empty write queue: sendfile() is in progress

    def __repr__(self):
        return describe_transport(self, self.stream.reading(), self.stream.blocked())

    def get_extra_info(self, name, default=None):
        """The connection's "socket" (a TransportSocket), "peername" or "sockname"; `default` for other names."""
        with cython.critical_section(self):
            self.describe(name)
        return default if self.extra is None else self.extra.get(name, default)

    # ---- protocol and state

    def set_protocol(self, protocol):
        """Let another protocol have the connection; a BufferedProtocol gets its own kind of reads."""
        owner_only(self)
        self.replace_protocol(protocol)
        self.native = native_protocol(protocol)
        self.reads_directly = False
        self.stream.set_buffered(isinstance(protocol, BufferedProtocol))

    # ---- reading

    cdef int receive(self, const char* data, size_t size) except -1:
        if self.ending:
            return 0
        if <Py_ssize_t>size >= direct_read_threshold and (self.native is None or self.native.lends):
            self.read_directly(True)
        if self.native is not None:
            return self.deliver_natively(self.native, data, size)
        return self.deliver(PyBytes_FromStringAndSize(data, <Py_ssize_t>size))

    cdef int deliver(self, object data) except -1:
        cdef PyObject* result = call_method_in_context(
            self.context, self.protocol, "data_received", <PyObject*>data)
        if result == NULL:
            return self.protocol_failed("data_received")
        Py_DECREF(<object>result)
        return 0

    # NULL: the bytes are in the protocol's own memory, which it has lent.
    cdef int deliver_natively(self, NativeProtocol native, const char* data, size_t size) except -1:
        if (<QuietlyGive>give)(self.context, native, data, size) < 0:
            return self.protocol_failed("data_received")
        return 0

    # Of an exception that is set: it ends the connection, unless it is meant to leave the loop.
    cdef int protocol_failed(self, str method) except -1:
        try:
            raise_current()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fail(exc, f"Fatal error: protocol.{method}() call failed.")
        return 0

    # ---- direct reads: into the memory that the bytes are to be in for good, so that none is copied

    cdef int read_directly(self, bint on) except -1:
        self.reads_directly = on
        self.stream.set_buffered(on)
        return 0

    # Fills in where the next read goes, and holds that memory until memory_filled(). False: no read.
    cdef int get_memory(self, char** data, size_t* size) except -1:
        if self.ending:
            return False
        return self.lend_direct_buffer(data, size) if self.reads_directly else self.lend_buffer(data, size)

    cdef int memory_filled(self, ssize_t result) except -1:
        cdef TransportState state
        if self.loop is None:  # pragma: no cover: nothing of the program's runs between get_memory() and this
            return 0
        state = self.loop.transports
        if state.direct_buffer is not None:
            return self.direct_buffer_filled(state, result)
        return self.buffer_filled(state, result)

    cdef bint lend_direct_buffer(self, char** data, size_t* size) except -1:
        cdef TransportState state = self.loop.transports
        native = self.native
        size[0] = direct_read_size
        try:
            if native is not None and native.lend(data, size[0]):
                state.direct_buffer = native
                return True
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fail(exc, "Fatal error: protocol.data_received() call failed.")
        if self.ending:
            return False
        state.direct_buffer = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size[0])
        data[0] = PyBytes_AS_STRING(state.direct_buffer)
        return True

    cdef int direct_buffer_filled(self, TransportState state, ssize_t result) except -1:
        cdef PyObject* payload
        buffer, state.direct_buffer = state.direct_buffer, None
        if result < direct_read_threshold and self.reads_directly:
            self.read_directly(False)
        if not PyBytes_CheckExact(buffer):
            self.deliver_natively(buffer, NULL, <size_t>max(result, 0))
        elif result > 0 and self.native is not None:
            self.deliver_natively(self.native, PyBytes_AS_STRING(buffer), <size_t>result)
        elif result > 0:
            payload = <PyObject*>buffer
            Py_INCREF(buffer)
            buffer = None
            self.deliver(cut_bytes(payload, result))
        return 0 if result > 0 else self.nothing_received(result)

    # ---- a BufferedProtocol's memory

    cdef bint lend_buffer(self, char** data, size_t* size) except -1:
        cdef TransportState state = self.loop.transports
        cdef PyObject* result
        cdef Py_ssize_t length
        # Both calls are one callback: its context is left after buffer_updated(), and here where that is not to come.
        result = enter_and_call_method(self.context, self.protocol, "get_buffer", no_size_hint)
        if result == NULL:
            self.protocol_failed("get_buffer")
            return False
        buffer = <object>result
        Py_DECREF(buffer)  # the call's reference
        length = length_or_error(buffer)
        if length > 0 and view_or_error(buffer, &state.view, PyBUF_SIMPLE | PyBUF_WRITABLE) == 0:
            if self.loop is not None:
                data[0] = <char*>state.view.buf
                size[0] = <size_t>state.view.len
                return True
            PyBuffer_Release(&state.view)
        leave_or_error(self.context)
        if self.loop is None:  # get_buffer(), or the class of what it has returned, has come to the connection's end
            PyErr_Clear()
            return False
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

    cdef int buffer_filled(self, TransportState state, ssize_t result) except -1:
        cdef PyObject* count
        cdef PyObject* updated
        # First of all, so that the protocol may resize its buffer.
        PyBuffer_Release(&state.view)
        if result <= 0:
            PyContext_Exit(self.context)
            return self.nothing_received(result)
        # As with asyncio, what get_buffer() has done to the transport, be it abort(), makes no difference any more.
        count = integer_or_error(result)
        updated = call_method_and_leave(self.context, self.protocol, "buffer_updated", count)
        Py_XDECREF(count)
        if updated == NULL:
            return self.protocol_failed("buffer_updated")
        Py_DECREF(<object>updated)
        return 0

    # ---- the end of what is received

    # A read's other results: 0 at the end, or -errno.
    cdef int nothing_received(self, ssize_t result) except -1:
        if result == 0:
            return self.receive_end()
        if result == -EAGAIN:
            return 0
        return self.read_failed(<int>-result)

    cdef int read_failed(self, int error) except -1:
        return self.fail(diagnostics.os_error(error), "Fatal read error on socket transport")

    cdef int receive_end(self) except -1:
        cdef object error = None
        if self.loop.debug:
            logger.debug("%r received EOF", self)
        try:
            PyContext_Enter(self.context)
            try:
                keep_open = self.protocol.eof_received()
            finally:
                PyContext_Exit(self.context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            error = exc
        if error is not None:
            return self.fail(error, "Fatal error: protocol.eof_received() call failed.")
        if keep_open:
            self.stream.stop_reading()  # the end would be readable for ever
            self.update_keepalive()
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
        owner_only(self)
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be {writable_types}, not {type(data).__name__!r}")
        if self.write_state != 0:
            self.refuse_write("write")
        if not is_empty(data) and not self.dropped():
            self.send(data)

    def writelines(self, list_of_data):
        """Send each of an iterable of bytes-like objects, in order, together; otherwise as write()."""
        owner_only(self)
        if writelines_joins:
            self.write(b"".join(list_of_data))
            return
        if self.write_state != 0:
            self.refuse_write("writelines")
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
                    if not self.ending:
                        self.send_view(data)
                    if self.ending:
                        return 0
        except BufferError as exc:  # not contiguous
            error = exc
        except MemoryError:
            self.flush_queue()  # what comes before it is written
            raise
        return self.flush_queue() if error is None else self.write_failed(error)

    def write_eof(self):
        """Shut the sending half down when everything written is sent. Does nothing when closing or done already."""
        owner_only(self)
        if self.closing or self.write_state & EOF_WRITTEN:
            return
        self.write_state |= EOF_WRITTEN
        if self.stream.pending() == 0:
            self.shut_down_writing()

    def can_write_eof(self):
        """True: the socket can be half-closed."""
        return True

    cdef int refuse_write(self, str method) except -1:
        if self.write_state & EOF_WRITTEN:
            raise RuntimeError(f"Cannot call {method}() after write_eof()")
        raise RuntimeError(f"unable to {method}; sendfile is in progress")

    # True when nothing can be sent any more.
    cdef bint dropped(self) except -1:
        if not self.ending:
            return False
        self.drop_write("socket.send() raised exception.", unwarned)
        return True

    # As write(), of bytes that are gone afterwards.
    cdef int send_borrowed(self, const char* data, size_t size) except -1:
        cdef int status
        if self.write_state != 0 or self.ending or not self.stream.is_open():
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

    cdef int write_failed_later(self, int error) except -1:
        return self.write_failed(diagnostics.os_error(error))

    cdef int flushed(self) except -1:
        if self.ending:
            return 0
        self.update_keepalive()
        self.resume_if_drained()  # which may write, close or abort
        if not self.ending and self.stream.pending() == 0:
            self.finish_writing()
        return 0

    # What waited for the last byte.
    cdef int finish_writing(self) except -1:
        self.wake_empty_waiter(None)
        if self.closing:
            self.schedule_connection_lost(None)
        elif self.write_state & EOF_WRITTEN:
            self.shut_down_writing()
        return 0

    def _make_empty_waiter(self):
        """A future that is done when everything written is sent. Until _reset_empty_waiter() writes are refused."""
        if self.write_state & SENDING_FILE:
            raise RuntimeError("Empty waiter is already set")
        waiter = self.set_empty_waiter()
        if self.stream.pending() == 0:
            waiter.set_result(None)
        return waiter

    def _make_drain_waiter(self):
        """During sendfile(): the empty waiter anew, done when the kernel takes more. ConnectionError once closed."""
        if self.closing:
            raise ConnectionError("Connection is closed by peer")
        waiter = self.set_empty_waiter()
        check(self.stream.wait_writable())
        self.update_keepalive()
        return waiter

    cdef int kernel_has_room(self) except -1:
        self.update_keepalive()
        return self.wake_empty_waiter(None)

    def _reset_empty_waiter(self):
        self.write_state &= ~SENDING_FILE
        (<object>self)._empty_waiter = None

    # By asyncio's name in __dict__, which few transports have: a slot of its own would cost each connection a word.
    cdef object set_empty_waiter(self):
        waiter = self.loop.create_future()
        (<object>self)._empty_waiter = waiter
        self.write_state |= SENDING_FILE
        return waiter

    # `exception`: what the wait ends with, or None.
    cdef int wake_empty_waiter(self, object exception) except -1:
        if not self.write_state & SENDING_FILE:
            return 0
        waiter = (<object>self)._empty_waiter
        if waiter.done():
            return 0
        if exception is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(exception)
        return 0

    # ---- the end

    cdef int fail(self, object exception, str message) except -1:
        LazySocketTransport.fail(self, exception, message)
        return self.wake_empty_waiter(exception)

    cdef int release(self) except -1:
        self.native = None
        self.stream.close()
        self.update_keepalive()
        try:
            if self.holds_fd:
                self.close_descriptor()
        finally:
            self._detach_server()
            if self.write_state & SENDING_FILE:
                self.wake_empty_waiter(ConnectionError("Connection is closed by peer"))
        return 0

    def _detach_server(self):
        server = self.server
        self.server = None
        if server is None:
            return
        if server_counts_transports:
            server._detach(self)
        else:
            server._detach()

    # The connection is one of the server's from here on, until _detach_server().
    cdef int attach_server(self, object server) except -1:
        if server_counts_transports:
            server._attach(self)
        else:
            server._attach()
        self.server = server
        return 0


flatten_methods(<PyTypeObject*>SocketTransport)
install_extra_info_shim(<PyTypeObject*>SocketTransport, <PyTypeObject*>Transport)


cdef inline bint is_empty(object data) except -1:
    return PyBytes_GET_SIZE(data) == 0 if PyBytes_CheckExact(data) else not data


# Passes received bytes to a protocol with a C-level interface; NULL: they are in memory that it has lent.
cdef int give(object context, NativeProtocol native, const char* data, size_t size) except -1:
    PyContext_Enter(context)
    try:
        return native.receive(data, size) if data != NULL else native.filled(size)
    finally:
        PyContext_Exit(context)


cdef bytes joined_if_small(object chunks):
    """A list or tuple of bytes objects as one, where copying costs less than a segment for each; or None."""
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t count
    cdef PyObject** items
    cdef char* place
    if type(chunks) is not list and type(chunks) is not tuple:
        return None
    if free_threaded and type(chunks) is list:
        chunks = tuple(chunks)  # which no other thread can change meanwhile
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


cdef SocketTransport open_transport(Loop loop, int fd, object protocol, object context):
    """A transport that is tied to the loop and a protocol. The descriptor stays the caller's."""
    cdef SocketTransport transport = SocketTransport.__new__(SocketTransport)
    transport_state(loop)
    transport.loop = loop
    transport.fd = fd
    transport.context = context
    transport.set_protocol(protocol)
    loop.evict_watcher(fd)
    loop.note_transport(fd, transport)
    check(transport.stream.open(loop.reactor, fd, stream_ops, <void*>transport))
    return transport


# ---- what the engine calls: the interpreter is held, and nothing may be raised

# An exception of ours, not of the protocol: what was received is not passed on, so nothing that follows may be.
cdef void read_callback_failed(SocketTransport transport, Loop loop) noexcept:
    try:
        try:
            raise_current()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            transport.fail(exc, "Fatal read error on socket transport")
    except BaseException as exc:
        loop.escaped(exc, "Exception in transport callback")


# An exception out of another callback. Where memory was out, something was not done that is not asked for again.
cdef void callback_failed(SocketTransport transport, Loop loop) noexcept:
    try:
        try:
            raise_current()
        except MemoryError as exc:
            if transport.loop is None:
                raise
            transport.fail(exc, "Fatal error on transport")
    except BaseException as exc:
        loop.escaped(exc, "Exception in transport callback")


cdef void on_data(void* owner, const char* data, size_t size) noexcept:
    call_method(owner, SocketTransport.receive, read_callback_failed, data, size)


cdef cpp_bool get_buffer(void* owner, char** data, size_t* size) noexcept:
    # Held until on_buffer_filled(): a turn of the loop inside get_buffer() may drop every other reference.
    Py_INCREF(<object><PyObject*>owner)
    if call_method(owner, SocketTransport.get_memory, callback_failed, data, size) == 1:
        return True
    Py_DECREF(<object><PyObject*>owner)
    return False


cdef void on_buffer_filled(void* owner, ssize_t result) noexcept:
    call_method(owner, SocketTransport.memory_filled, read_callback_failed, result)
    Py_DECREF(<object><PyObject*>owner)


cdef void on_end(void* owner) noexcept:
    call_method(owner, SocketTransport.receive_end, callback_failed)


cdef void on_read_error(void* owner, int error) noexcept:
    call_method(owner, SocketTransport.read_failed, callback_failed, error)


cdef void on_flushed(void* owner) noexcept:
    call_method(owner, SocketTransport.flushed, callback_failed)


cdef void on_write_error(void* owner, int error) noexcept:
    call_method(owner, SocketTransport.write_failed_later, callback_failed, error)


cdef void on_writable(void* owner) noexcept:
    call_method(owner, SocketTransport.kernel_has_room, callback_failed)


cdef StreamOps stream_ops
stream_ops.release = release_bytes
stream_ops.hold = hold_transport
stream_ops.let_go = let_transport_go
stream_ops.on_data = on_data
stream_ops.get_buffer = get_buffer
stream_ops.on_buffer_filled = on_buffer_filled
stream_ops.on_end = on_end
stream_ops.on_read_error = on_read_error
stream_ops.on_flushed = on_flushed
stream_ops.on_write_error = on_write_error
stream_ops.on_writable = on_writable


seal_type(<PyTypeObject*>SocketTransport, False)
