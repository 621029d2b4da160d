# cython: language_level=3
"""The native part of the sock_* methods: the system call, and the wait for the kernel where that would block.

Each function makes the call at once and returns its result or, if the call would block, an Operation to await. For a
plain socket object the system call is made directly, which avoids an exception for each that would block; for other
objects (subclasses, doubles, blocking sockets) the object's own method is called.
"""
import socket

from cpython.buffer cimport (
    PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN

from zloop.binding.address cimport parse_address, sender_address
from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport load_shared
from zloop.core.contexts cimport ContextCache, PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from zloop.core.handles cimport Handle
from zloop.core.descriptors cimport FdWatcher
from zloop.core.loop cimport Loop
from zloop.engine cimport sys as sys_calls
from zloop.engine.address cimport Address
from zloop.engine.reactor cimport read_buffer_size
from zloop.engine.shared_buffer cimport Loan
from zloop.engine.socket cimport sockaddr_storage, socklen_t
from zloop.transports.direct_connect cimport connects_plainly, is_in_progress, is_connected, parse_resolved

from zloop.core import diagnostics
from zloop.core.socket_objects import (
    WOULD_BLOCK, params_of, plain_socket, refuse_ssl_socket, wrap_descriptor,
)

cdef extern from "Python.h":
    ctypedef struct TypeSlots "PyTypeObject":
        PyObject* (*tp_iternext)(PyObject* self) noexcept
        object (*tp_descr_get)(object descriptor, object instance, object owner)

    TypeSlots* Py_TYPE(object thing) noexcept

    int PyObject_SetAttr(object owner, object name, object value) noexcept
    PyObject* PyObject_CallOneArg(object callable, object argument) noexcept
    void PyErr_SetObject(object kind, object exception) noexcept
    void PyErr_SetString(object kind, const char* message) noexcept
    int PySys_Audit(const char* event, const char* format, ...) except -1
    bint PyLong_Check(object thing)
    bint PyLong_CheckExact(object thing)

cdef object would_block = object()

# Descriptors of the base class; `family` is an int there, where socket.socket's own property makes an enum member.
cdef object fileno_of = socket.SocketType.fileno
cdef object timeout_descriptor = socket.SocketType.timeout
cdef object family_descriptor = socket.SocketType.family
cdef int AF_INET = socket.AF_INET
cdef int AF_INET6 = socket.AF_INET6
cdef int AF_UNIX = socket.AF_UNIX


cdef class Operation(Handle):
    """A call that waits: the reader or writer of its socket's descriptor, and what its coroutine awaits.

    An operation removes its own registration only: a cancelled one never removes its successor. Like every reader it is
    replaced by the next one for its descriptor, without a report, as in asyncio.
    """

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):  # pragma: no cover: next_of() replaces its slot
        raise NotImplementedError

    def send(self, value):
        """Resume; called by a coroutine that awaits this."""
        return next(self)

    def throw(self, exception, value=None, traceback=None):
        """End the wait: the task is cancelled."""
        self.abandon()
        raise exception if value is None else value

    def close(self):
        """End the wait: the coroutine is closed."""
        self.abandon()

    def _repr_info(self):
        info = Handle._repr_info(self)
        info.append(f"for {self.sock!r}")
        return info

    # Called when the socket is ready, in place of a callback.
    cdef int run(self, ContextCache contexts) except -1:
        if self.future.done():  # cancelled in this turn; abandon() has not been called yet
            return 0
        if self.context is None:
            self.try_again()
        else:
            PyContext_Enter(self.context)
            try:
                self.try_again()
            finally:
                PyContext_Exit(self.context)
        if self.result is would_block and self.exception is None:
            if self.wait_again() == 0:
                return 0
        self.end()
        self.future.set_result(None)
        return 0

    cdef int try_again(self) except -1:
        try:
            self.result = self.attempt(<Loop>self._loop, self.sock, self.argument)
        except (SystemExit, KeyboardInterrupt):
            self.wait_again()
            raise
        except BaseException as exc:
            self.exception = exc
        return 0

    # -1 if the poller refuses; the error is the operation's result then.
    cdef int wait_again(self) except -2:
        cdef int status
        if self.watcher is None or load_shared(self.is_cancelled):
            return 0
        status = self.watcher.apply()
        if status == 0:
            return 0
        self.exception = diagnostics.os_error(-status)
        return -1

    cdef int end(self) except -1:
        cdef FdWatcher watcher = self.watcher
        self.watcher = None
        if watcher is not None and not load_shared(self.is_cancelled):  # else another handle has the registration
            watcher.loop.drop_fd_handle(watcher, self)
        return 0

    # The waiter is gone: ends the wait and drops the result.
    cdef int abandon(self) except -1:
        cdef object result = self.result
        self.end()
        self.result = would_block
        if self.attempt == try_accept and result is not would_block:
            result[0].close()  # accepted in the turn in which the task was cancelled
        return 0


# Operation's tp_iternext: yields the future, then returns the result. Not a Cython method, because that would create a
# traceback frame for each StopIteration.
cdef PyObject* next_of(PyObject* self) noexcept:
    cdef Operation operation = <Operation>self
    cdef PyObject* stop
    if not operation.awaited:
        operation.awaited = True
        if PyObject_SetAttr(operation.future, "_asyncio_future_blocking", True) < 0:
            return NULL
        Py_INCREF(operation.future)
        return <PyObject*>operation.future
    if operation.exception is not None:
        PyErr_SetObject(type(operation.exception), operation.exception)
        operation.exception = None  # its traceback is about to refer to this object's awaiter
    elif operation.result is would_block:
        PyErr_SetString(RuntimeError, "await wasn't used with future")
    else:
        stop = PyObject_CallOneArg(StopIteration, operation.result)
        if stop is not NULL:
            PyErr_SetObject(StopIteration, <object>stop)
            Py_DECREF(<object>stop)
        operation.result = would_block
    return NULL

(<TypeSlots*>Operation).tp_iternext = next_of


# The attempt's result, or an Operation if it would block.
cdef object try_or_wait(Loop loop, object sock, Attempt attempt, bint for_reading, object argument):
    cdef object result = attempt(loop, sock, argument)
    return wait_for(loop, sock, attempt, for_reading, argument) if result is would_block else result


cdef Operation wait_for(Loop loop, object sock, Attempt attempt, bint for_reading, object argument):
    cdef Operation operation
    fd = sock.fileno()
    loop.check_no_transport(fd)
    operation = Operation.__new__(Operation)
    operation._loop = loop
    operation.once = True
    operation.sock = sock
    operation.attempt = attempt
    operation.argument = argument
    operation.for_reading = for_reading
    operation.result = would_block
    operation.future = loop.create_future()
    if type(sock) is not plain_socket:
        operation.context = PyContext_CopyCurrent()  # its methods may be Python code
    operation.watcher = loop.set_fd_handle(fd, operation, for_reading)
    return operation


cpdef int check_socket(Loop loop, object sock) except -1:
    """TypeError for a TLS socket; in debug mode ValueError for one that blocks."""
    if type(sock) is not plain_socket:
        refuse_ssl_socket(sock)
    if loop.debug and sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    return 0


cdef inline object value_of(object descriptor, object sock):
    return Py_TYPE(descriptor).tp_descr_get(descriptor, sock, plain_socket)


# The descriptor of a plain socket object that is open and non-blocking; else -1.
cdef int plain_descriptor(object sock) except -2:
    cdef object timeout
    if type(sock) is not plain_socket:
        return -1
    timeout = value_of(timeout_descriptor, sock)
    if type(timeout) is not float or <double>timeout != 0.0:
        return -1
    return fileno_of(sock)


# The same, if the socket is of a family whose addresses parse_address() knows.
cdef int addressed_descriptor(object sock) except -2:
    cdef int fd = plain_descriptor(sock)
    cdef int family
    if fd < 0:
        return -1
    family = value_of(family_descriptor, sock)
    return fd if family == AF_INET or family == AF_INET6 or family == AF_UNIX else -1


# `would_block` for EAGAIN; other errors are raised.
cdef object failed(ssize_t status):
    if status == -EAGAIN:
        return would_block
    raise diagnostics.os_error(<int>-status)


# ---- receiving

# The loop's read buffer on loan; NULL if `size` exceeds it. The received bytes are copied out of it.
cdef char* shared_buffer(Loop loop, object size, Loan& loan) except? NULL:
    if PyLong_CheckExact(size) and 0 < size <= read_buffer_size:
        return loan.begin(loop.reactor.read_buffer())
    return NULL


cdef object try_receive(Loop loop, object sock, object argument):
    cdef int fd = plain_descriptor(sock)
    cdef Loan loan
    cdef char* data = shared_buffer(loop, argument, loan) if fd >= 0 else NULL
    cdef ssize_t received
    if data == NULL:
        try:
            return sock.recv(argument)
        except WOULD_BLOCK:
            return would_block
    received = sys_calls.recv(fd, data, <size_t>argument)
    return PyBytes_FromStringAndSize(data, received) if received >= 0 else failed(received)


cdef object try_receive_into(Loop loop, object sock, object argument):
    cdef int fd = plain_descriptor(sock)
    cdef Py_buffer view
    cdef ssize_t received
    if fd >= 0:
        try:
            PyObject_GetBuffer(argument, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        except (TypeError, BufferError):
            fd = -1  # the socket object's method raises the error
    if fd < 0:
        try:
            return sock.recv_into(argument)
        except WOULD_BLOCK:
            return would_block
    # Receiving zero bytes makes no system call and never waits, as with the socket object.
    received = sys_calls.recv(fd, view.buf, view.len) if view.len > 0 else 0
    PyBuffer_Release(&view)
    return received if received >= 0 else failed(received)


cdef object try_receive_from(Loop loop, object sock, object argument):
    cdef int fd = addressed_descriptor(sock)
    cdef Loan loan
    cdef char* data = shared_buffer(loop, argument, loan) if fd >= 0 else NULL
    cdef sockaddr_storage sender
    cdef socklen_t sender_size = 0
    cdef ssize_t received
    if data == NULL:
        try:
            return sock.recvfrom(argument)
        except WOULD_BLOCK:
            return would_block
    received = sys_calls.recv_from(fd, data, <size_t>argument, &sender, &sender_size)
    if received < 0:
        return failed(received)
    content = PyBytes_FromStringAndSize(data, received)
    loan.end()
    # The next datagram is likely to have the same sender, and a reply to go there.
    if not loop.last_sender.same_as(sender, sender_size):
        loop.last_sender_name = sender_address(sender, sender_size)
        loop.last_sender = Address(sender, sender_size)
    return content, loop.last_sender_name


cdef object try_receive_from_into(Loop loop, object sock, object argument):
    try:
        return sock.recvfrom_into(*argument)
    except WOULD_BLOCK:
        return would_block


def receive(Loop loop not None, sock, size):
    """Receive up to `size` bytes; b"" at the end of the stream."""
    check_socket(loop, sock)
    return try_or_wait(loop, sock, try_receive, True, size)


def receive_into(Loop loop not None, sock, buffer):
    """Receive into a writable buffer; the number of bytes received."""
    check_socket(loop, sock)
    return try_or_wait(loop, sock, try_receive_into, True, buffer)


def receive_from(Loop loop not None, sock, size):
    """Receive a datagram's first `size` bytes; these and the sender's address."""
    check_socket(loop, sock)
    return try_or_wait(loop, sock, try_receive_from, True, size)


def receive_from_into(Loop loop not None, sock, buffer, size):
    """Receive a datagram's first `size` bytes (0: len(buffer)) into a writable buffer; its size and sender."""
    check_socket(loop, sock)
    return try_or_wait(loop, sock, try_receive_from_into, True, (buffer, size or len(buffer)))


# ---- sending

cdef class Unsent:
    """The data of a sock_sendall() that has not been sent."""


# The number of bytes sent, or `would_block`.
cdef object send_some(object sock, object data):
    cdef int fd = plain_descriptor(sock)
    cdef Py_buffer view
    cdef ssize_t sent
    if fd < 0:
        try:
            return sock.send(data)
        except WOULD_BLOCK:
            return would_block
    if PyBytes_CheckExact(data):
        sent = sys_calls.send(fd, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))
    else:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        sent = sys_calls.send(fd, view.buf, <size_t>view.len)
        PyBuffer_Release(&view)
    return sent if sent >= 0 else failed(sent)


cdef object try_send_rest(Loop loop, object sock, object argument):
    cdef Unsent unsent = <Unsent>argument
    cdef object sent = send_some(sock, unsent.view[unsent.position:])
    if sent is would_block:
        return would_block
    unsent.position += sent
    return None if unsent.position == len(unsent.view) else would_block


cdef object try_send_to(Loop loop, object sock, object argument):
    cdef object data, address
    cdef int fd = addressed_descriptor(sock)
    cdef int family
    cdef Address receiver
    cdef ssize_t sent
    data, address = argument
    family = value_of(family_descriptor, sock) if fd >= 0 else 0
    if address is not None and address is loop.last_sender_name and family == loop.last_sender.family():
        receiver = loop.last_sender
    elif fd >= 0 and not parse_address(address, family, receiver):
        fd = -1  # the socket object's method takes the address or raises the error
    if fd < 0 or not PyBytes_CheckExact(data):
        try:
            return sock.sendto(data, address)
        except WOULD_BLOCK:
            return would_block
    PySys_Audit("socket.sendto", "OO", <PyObject*>sock, <PyObject*>address)
    sent = sys_calls.send_to(
        fd, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data), receiver.data(), receiver.size()
    )
    return sent if sent >= 0 else failed(sent)


def send_all(Loop loop not None, sock, data):
    """Send all of a bytes-like object; None. After an error the number of bytes sent is not known."""
    cdef Unsent unsent
    cdef object sent
    check_socket(loop, sock)
    sent = send_some(sock, data)
    if PyBytes_CheckExact(data) and sent == PyBytes_GET_SIZE(data):
        return None
    unsent = Unsent.__new__(Unsent)
    unsent.view = memoryview(data).cast("B")
    unsent.position = 0 if sent is would_block else sent
    return None if unsent.position == len(unsent.view) else wait_for(loop, sock, try_send_rest, False, unsent)


def send_to(Loop loop not None, sock, data, address):
    """Send a datagram to an address; the number of bytes sent."""
    check_socket(loop, sock)
    return try_or_wait(loop, sock, try_send_to, False, (data, address))


# ---- connecting, accepting, waiting

def is_resolved(sock, address):
    """True for a plain socket and an address in numeric form, which a resolver would return unchanged."""
    cdef Address peer
    cdef int family
    if addressed_descriptor(sock) < 0:
        return False
    family = value_of(family_descriptor, sock)
    return parse_resolved(address, family, peer)


cdef object try_finish_connect(Loop loop, object sock, object argument):
    try:
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except WOULD_BLOCK:
        return would_block
    if error != 0:
        raise OSError(error, f"Connect call failed {argument}")
    return None


cdef object try_accept(Loop loop, object sock, object argument):
    cdef int fd = addressed_descriptor(sock)
    cdef sockaddr_storage peer
    cdef socklen_t peer_size = 0
    cdef int accepted
    if fd < 0:
        try:
            connection, address = sock.accept()
            connection.setblocking(False)
        except WOULD_BLOCK:
            return would_block
        return connection, address
    accepted = sys_calls.accept(fd, &peer, &peer_size)
    if accepted < 0:
        return failed(accepted)
    try:
        connection = wrap_descriptor(*params_of(sock), accepted)
    except BaseException:
        sys_calls.close(accepted)
        raise
    loop.renew_watcher(accepted)
    return connection, sender_address(peer, peer_size)


cdef object try_nothing(Loop loop, object sock, object argument):
    return None


def begin_connect(Loop loop not None, sock, address):
    """Connect to a resolved address; OSError if that fails at once.

    False if the connection is established; True if it is in progress, until finish_connect().
    """
    cdef int fd = addressed_descriptor(sock)
    cdef Address peer
    if fd >= 0 and connects_plainly() and parse_address(address, value_of(family_descriptor, sock), peer):
        PySys_Audit("socket.connect", "OO", <PyObject*>sock, <PyObject*>address)
        if not is_in_progress(sys_calls.connect(fd, peer.data(), peer.size())):
            return False
    else:
        try:
            sock.connect(address)
            return False
        except WOULD_BLOCK as exc:  # connect(2): in progress, also after EINTR, until the socket is writable
            if exc.errno == EAGAIN:
                raise
    loop.check_no_transport(sock.fileno())
    loop.check_closed()
    return True


def finish_connect(Loop loop not None, sock, address):
    """None if the connection is established, an Operation if it is still in progress; OSError if it failed."""
    cdef int fd = addressed_descriptor(sock)
    if fd >= 0 and is_connected(fd, address):
        return None
    return wait_for(loop, sock, try_finish_connect, False, address)


def accept(Loop loop not None, sock):
    """A new connection's non-blocking socket object, owned by the caller, and the peer's address."""
    check_socket(loop, sock)
    sock.fileno()  # the first attribute that an object that is no socket lacks, as in asyncio
    return try_or_wait(loop, sock, try_accept, True, None)


def until_writable(Loop loop not None, sock):
    """An Operation that ends when the socket is writable."""
    return wait_for(loop, sock, try_nothing, False, None)


seal_type(<PyTypeObject*>Operation, False)
seal_type(<PyTypeObject*>Unsent, False)
