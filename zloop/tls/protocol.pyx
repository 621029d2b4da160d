# cython: language_level=3
"""TLS between a transport and an application's protocol.

TlsProtocol is the protocol of the transport underneath; SSLTransport, its other face, is the transport that the
application sees. An engine (tls/engine.pyx) turns what one receives into what the other is given. States, time-outs,
messages and the order of events are those of asyncio.sslproto.

Over a SocketTransport no object is made of what is received before it is decrypted, nor of what is encrypted before the
kernel has refused it. What one call of write() or writelines() encrypts leaves in that call, together.
"""
import ssl
import warnings
from asyncio import CancelledError, Transport, constants
from asyncio.log import logger

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyTypeObject

from zloop.binding.sealed_types cimport seal_type
from zloop.binding.threads cimport free_threaded
from zloop.core.loop cimport Loop
from zloop.engine.reactor cimport output_buffer_size
from zloop.engine.shared_buffer cimport Loan
from zloop.tls.backlog cimport new_backlog
from zloop.tls.direct cimport make_engine
from zloop.tls.engine cimport TlsEngine, again_errors, make_no_engine
from zloop.transports.base cimport set_water_marks

from zloop.tls.arguments import default_context, positive

cdef tuple no_memory = (MemoryError, SystemError)  # the second is what the ssl module may make of the first
cdef object dont_nag_before = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
cdef object write_high_water_default = constants.FLOW_CONTROL_HIGH_WATER_SSL_WRITE * 1024
cdef object read_high_water_default = constants.FLOW_CONTROL_HIGH_WATER_SSL_READ * 1024

# Encrypted at once, bytes: whole records, and no more than the kernel may take of them.
cdef Py_ssize_t piece_size_max = 16 * 16384

cdef class SSLTransport(AsyncioBase, Transport):
    """The application's end of a TLS connection. Made by the loop's methods.

    Programs look for "ssl" in the name of a transport's class, CPython's own tests among them.
    """

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def __cinit__(self):
        self._closed = True
        self.ssl_protocol = unmade_protocol

    def __del__(self):
        if not self._closed:
            self._closed = True
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def __repr__(self):
        below = self.ssl_protocol._transport
        if below is None:
            return f"<{type(self).__name__} {'closed' if self._closed else 'unconnected'}>"
        return f"<{type(self).__name__}{' closing' if self.is_closing() else ''} over {below!r}>"

    @property
    def _loop(self):
        return self.ssl_protocol._loop

    @property
    def _ssl_protocol(self):
        return self.ssl_protocol

    def get_extra_info(self, name, default=None):
        """What is known of the connection: `ssl_object`, `peercert`, `cipher`, ..., and what is known underneath."""
        return self.ssl_protocol._get_extra_info(name, default)

    # As transports.base.owner_only().
    cdef int owner_only(self) except -1:
        if free_threaded:
            loop = self.ssl_protocol._loop
            if isinstance(loop, Loop):
                (<Loop>loop).check_thread()
        return 0

    def set_protocol(self, protocol):
        """Let another protocol have the connection; a BufferedProtocol gets its own kind of reads."""
        self.owner_only()
        self.ssl_protocol.set_protocol(protocol)

    def get_protocol(self):
        """The protocol; None once the connection is lost."""
        return self.ssl_protocol._app_protocol

    def is_closing(self):
        """True when the transport is closed or on its way."""
        below = self.ssl_protocol._transport
        return self._closed or (below is not None and below.is_closing())

    # ---- reading

    def is_reading(self):
        """True when data is passed to the protocol as it comes."""
        return not self.ssl_protocol.app_reading_paused

    def pause_reading(self):
        """Pass no data to the protocol until resume_reading()."""
        self.owner_only()
        self.ssl_protocol.app_reading_paused = True

    def resume_reading(self):
        """Pass data to the protocol again, from the next turn on."""
        self.owner_only()
        if self.ssl_protocol.app_reading_paused:
            self.ssl_protocol._loop.call_soon(self.ssl_protocol._resume)
            self.ssl_protocol.app_reading_paused = False

    def set_read_buffer_limits(self, high=None, low=None):
        """Set how much may be received and not be decrypted before the transport underneath is paused, and resumed:
        bytes.

        Defaults: high is 256 KiB, or four times low; low is a quarter of high. ValueError unless high >= low >= 0.
        """
        self.owner_only()
        if high is None and low is None:
            high = read_high_water_default
        set_water_marks(self.ssl_protocol.read_flow, high, low)
        self.ssl_protocol.control_reading()

    def get_read_buffer_limits(self):
        """The low and the high water mark of what is received, in bytes."""
        return (self.ssl_protocol.read_flow.low_water(), self.ssl_protocol.read_flow.high_water())

    def get_read_buffer_size(self):
        """Bytes received and not decrypted."""
        return self.ssl_protocol.engine.unread()

    # ---- writing

    def write(self, data):
        """Send bytes, a bytearray or a memoryview, without waiting. What is passed may be changed afterwards.

        Raises TypeError for other types. On a connection that is closed the data is dropped, with a warning in the log
        after a few times.
        """
        self.owner_only()
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data: expecting a bytes-like instance, got {type(data).__name__}")
        if data:
            self.ssl_protocol.write_data(data)

    def writelines(self, list_of_data):
        """Send each of an iterable of bytes-like objects, in order; otherwise as write()."""
        self.owner_only()
        self.ssl_protocol._write_all(list_of_data)

    def write_eof(self):
        """NotImplementedError: TLS has no half-closed connections."""
        raise NotImplementedError

    def can_write_eof(self):
        """False."""
        return False

    def set_write_buffer_limits(self, high=None, low=None):
        """Set when pause_writing() (from high on) and resume_writing() (at most low) are called: bytes of what is
        written, before it is encrypted.

        Defaults: high is 512 KiB, or four times low; low is a quarter of high. ValueError unless high >= low >= 0.
        """
        self.owner_only()
        if high is None and low is None:
            high = write_high_water_default
        set_water_marks(self.ssl_protocol.write_flow, high, low)
        self.ssl_protocol.control_app_writing()

    def get_write_buffer_limits(self):
        """The low and the high water mark of the write buffer, in bytes."""
        return (self.ssl_protocol.write_flow.low_water(), self.ssl_protocol.write_flow.high_water())

    def get_write_buffer_size(self):
        """Bytes written that the transport underneath has not got."""
        return self.ssl_protocol.backlog.size + self.ssl_protocol.engine.pending_output()

    @property
    def _protocol_paused(self):
        return bool(self.ssl_protocol.write_flow.paused())

    # ---- the end

    def close(self):
        """Send what is written and close_notify, wait for the peer's, then end the connection."""
        self.owner_only()
        if not self._closed:
            self._closed = True
            try:
                self.ssl_protocol.start_shutdown()
            except no_memory as exc:
                self.ssl_protocol.fatal_error(exc, "Fatal error on SSL protocol")
        else:
            # Protocols keep their transports: a cycle through this one would keep the certificates for longer.
            self.ssl_protocol = spent_protocol(self.ssl_protocol._loop)

    def abort(self):
        """End the connection now; what is not sent is lost."""
        self._force_close(None)

    def _force_close(self, exc):
        self.owner_only()
        self._closed = True
        self.ssl_protocol.abort(exc)

    def _test__append_write_backlog(self, data):
        """CPython's own tests fill the backlog by this."""
        self.ssl_protocol.backlog.append(bytes(data), 0)


cdef class TlsProtocol(TlsReader):
    """The protocol of the transport under a TLS connection."""

    def __cinit__(self):
        self.state = UNWRAPPED
        self.extra = {}
        self.engine = no_engine
        self.backlog = new_backlog()
        set_water_marks(self.write_flow, write_high_water_default, None)
        set_water_marks(self.read_flow, read_high_water_default, None)

    def __init__(
        self,
        loop,
        app_protocol,
        sslcontext,
        waiter,
        server_side=False,
        server_hostname=None,
        call_connection_made=True,
        ssl_handshake_timeout=None,
        ssl_shutdown_timeout=None,
    ):
        cdef SSLTransport transport
        self.handshake_timeout = positive(
            ssl_handshake_timeout, constants.SSL_HANDSHAKE_TIMEOUT, "ssl_handshake_timeout"
        )
        self.shutdown_timeout = positive(ssl_shutdown_timeout, constants.SSL_SHUTDOWN_TIMEOUT, "ssl_shutdown_timeout")
        self._loop = loop
        self._sslcontext = sslcontext or default_context(server_side, server_hostname)
        self.extra = {"sslcontext": self._sslcontext}
        self.waiter = waiter
        self.set_protocol(app_protocol)
        self.app_state = NOT_MADE if call_connection_made else MADE
        hostname = server_hostname if server_hostname and not server_side else None
        self.engine = make_engine(self._sslcontext, server_side, hostname)
        transport = SSLTransport.__new__(SSLTransport)
        transport.ssl_protocol = self
        transport._closed = False
        self._app_transport = transport

    @property
    def _sslobj(self):
        return self.engine.sslobj

    @property
    def _app_reading_paused(self):
        """By asyncio's name for it: CPython's tests wait for it."""
        return bool(self.app_reading_paused)

    def _get_extra_info(self, name, default=None):
        if name in self.extra:
            return self.extra[name]
        if self._transport is not None:
            return self._transport.get_extra_info(name, default)
        return default

    cdef int wake_waiter(self, object exception) except -1:
        waiter, self.waiter = self.waiter, None
        if waiter is None or waiter.cancelled():
            return 0
        if exception is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(exception)
        return 0

    # ---- what the transport underneath calls

    def connection_made(self, transport):
        """Begin the handshake."""
        self._transport = transport
        if type(transport) is SocketTransport:
            self.socket_transport = transport
        self.state = DO_HANDSHAKE
        try:
            if self._loop.get_debug():
                logger.debug("%r starts SSL handshake", self)
                self.handshake_began = self._loop.time()
            self.handshake_timer = self._loop.call_later(self.handshake_timeout, self._check_handshake_timeout)
            self.do_handshake()
        except no_memory as exc:
            self.fatal_error(exc, "SSL handshake failed")

    def connection_lost(self, exc):
        """Tell the application, if it knows of the connection, and let everything go."""
        self.backlog.clear()
        self.conn_lost += 1
        if self._app_transport is not None:
            self._app_transport._closed = True
        if self.state != DO_HANDSHAKE and self.app_state in (MADE, AT_END):
            self.app_state = LOST
            self.report_loss(exc)
        self.state = UNWRAPPED
        self._transport = self.socket_transport = None
        self._app_transport = None
        self._app_protocol = self.app_native = None
        self.wake_waiter(exc)
        for timer in (self.handshake_timer, self.shutdown_timer):
            if timer is not None:
                timer.cancel()
        self.handshake_timer = self.shutdown_timer = None

    cdef int report_loss(self, object exception) except -1:
        try:
            self._loop.call_soon(self._app_protocol.connection_lost, exception)
        except MemoryError:
            self._app_protocol.connection_lost(exception)  # rather early than never
        return 0

    cdef int receive(self, const char* data, size_t size) except -1:
        self.engine.feed(data, size)
        try:
            self.advance()
        finally:
            self.engine.retain()
        return 0

    def data_received(self, bytes data not None):
        """Received bytes, from a transport that is not a socket's."""
        self.receive(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def _take_over(self, transport):
        """In place of the application's protocol, whose pause_writing() may have been called."""
        transport.set_protocol(self)
        self.below_is_full = getattr(transport, "_protocol_paused", False)
        self.write_flow.set_paused(self.below_is_full)

    def _prepend(self, data):
        """Bytes that came before this protocol did, and that belong to the handshake."""
        copy = bytes(data)
        self.engine.feed(PyBytes_AS_STRING(copy), PyBytes_GET_SIZE(copy))
        self.engine.retain()

    cdef int advance(self) except -1:
        if self.state == WRAPPED:
            return self.do_read()
        if self.state == DO_HANDSHAKE:
            return self.do_handshake()
        if self.state == FLUSHING:
            return self.do_flush()
        if self.state == SHUTDOWN:
            return self.do_shutdown()
        return 0

    def eof_received(self):
        """The peer sends no more. False: the transport underneath closes itself."""
        self.at_end = True
        try:
            if self._loop.get_debug():
                logger.debug("%r received EOF", self)
            if self.state == DO_HANDSHAKE:
                self.handshake_done(ConnectionResetError())
            elif self.state == WRAPPED:
                self.state = FLUSHING
                if self.app_reading_paused:
                    return True
                self.do_flush()
            elif self.state == FLUSHING:
                self.do_write(True)
                self.state = SHUTDOWN
                self.do_shutdown()
            elif self.state == SHUTDOWN:
                self.do_shutdown()
        except Exception:
            self._transport.close()
            raise

    def pause_writing(self):
        """The transport underneath is full."""
        self.below_is_full = True

    def resume_writing(self):
        """The transport underneath takes more."""
        self.below_is_full = False
        if self.backlog.size > 0 and self.state == WRAPPED:
            try:
                self.do_write(False)
            except Exception as exc:
                self.fatal_error(exc, "Fatal error on SSL protocol")
        else:
            try:
                self.process_outgoing()
            except no_memory as exc:
                self.fatal_error(exc, "Fatal error on SSL protocol")

    # ---- the handshake

    def _check_handshake_timeout(self):
        if self.state == DO_HANDSHAKE:
            reason = f"SSL handshake is taking longer than {self.handshake_timeout} seconds: aborting the connection"
            self.fatal_error(ConnectionAbortedError(reason), "Fatal error on transport")

    cdef int do_handshake(self) except -1:
        cdef bint is_over = False
        cdef object error = None
        try:
            is_over = self.engine.do_handshake()
        except ssl.SSLError as exc:
            error = exc
        return self.handshake_done(error) if is_over or error is not None else self.process_outgoing()

    cdef int handshake_done(self, object exception) except -1:
        if self.handshake_timer is not None:
            self.handshake_timer.cancel()
            self.handshake_timer = None
        if exception is not None:
            return self.handshake_failed(exception)
        self.state = WRAPPED
        sslobj = self.engine.sslobj
        try:
            peercert = sslobj.getpeercert()
        except Exception as exc:
            exception = exc
        if exception is not None:
            return self.handshake_failed(exception)
        if self.handshake_began is not None:
            milliseconds = (self._loop.time() - self.handshake_began) * 1e3
            logger.debug("%r: SSL handshake took %.1f ms", self, milliseconds)
        self.extra.update(
            peercert=peercert, cipher=sslobj.cipher(), compression=sslobj.compression(), ssl_object=sslobj
        )
        if self.app_state == NOT_MADE:
            self.app_state = MADE
            self._app_protocol.connection_made(self._app_transport)
        self.wake_waiter(None)
        return self.do_read()

    cdef int handshake_failed(self, object exception) except -1:
        self.state = UNWRAPPED
        if isinstance(exception, ssl.CertificateError):
            self.fatal_error(exception, "SSL handshake failed on verifying the certificate")
        else:
            self.fatal_error(exception, "SSL handshake failed")
        return self.wake_waiter(exception)

    # ---- the shutdown

    cdef int start_shutdown(self) except -1:
        if self.state == FLUSHING and self.at_end and self.app_reading_paused:
            # The peer has gone, and what it has sent was kept for an application that does not want it any more.
            self.arm_shutdown_timer()
            return self.do_flush()
        if self.state in (FLUSHING, SHUTDOWN, UNWRAPPED):
            return 0
        if self._app_transport is not None:
            self._app_transport._closed = True
        if self.state == DO_HANDSHAKE:
            return self.abort(None)
        self.state = FLUSHING
        self.arm_shutdown_timer()
        return self.do_flush()

    cdef int arm_shutdown_timer(self) except -1:
        if self.shutdown_timer is None:
            self.shutdown_timer = self._loop.call_later(self.shutdown_timeout, self._check_shutdown_timeout)
        return 0

    def _check_shutdown_timeout(self):
        if self.state in (FLUSHING, SHUTDOWN) and self._transport is not None:
            self._transport._force_close(TimeoutError("SSL shutdown timed out"))

    cdef int do_flush(self) except -1:
        cdef object error = None
        self.do_read()  # which runs the application's code
        if self.state != FLUSHING:
            return 0
        try:
            self.do_write(True)
        except Exception as exc:
            error = exc
        if error is not None:
            return self.fatal_error(error, "Fatal error on SSL protocol")
        self.state = SHUTDOWN
        return self.do_shutdown()

    cdef int do_shutdown(self) except -1:
        cdef object error = None
        try:
            if not self.at_end:
                self.engine.shutdown()
        except ssl.SSLError as exc:
            error = exc
        if isinstance(error, again_errors):
            self.process_outgoing()
            return self.control_reading()
        # The peer may have sent more before it knew. As without TLS, a connection that is closed does not read it.
        # With no memory for its traceback, an exception may have become a MemoryError.
        if error is not None and getattr(error, "reason", None) != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
            return self.shutdown_done(error)
        self.process_outgoing()
        try:
            if error is None:
                self.call_eof_received()
        finally:
            self.shutdown_done(None)
        return 0

    cdef int shutdown_done(self, object exception) except -1:
        if exception is not None:
            if self.shutdown_timer is not None:
                self.shutdown_timer.cancel()
                self.shutdown_timer = None
            return self.fatal_error(exception, "Fatal error on transport")
        # The transport's close() sends what it has first, and a peer that reads nothing could delay that for ever.
        self.arm_shutdown_timer()
        if self._transport is not None:
            try:
                self._loop.call_soon(self._transport.close)
            except MemoryError:
                self._transport.close()
        return 0

    cdef int abort(self, object exception) except -1:
        self.state = UNWRAPPED
        if self._transport is not None:
            self._transport._force_close(exception)
        return 0

    # An error that ends the connection. OSError is the network's business and is only logged in debug mode.
    cdef int fatal_error(self, object exception, str message) except -1:
        transport = self._transport
        if transport is not None:
            transport._force_close(exception)
        if isinstance(exception, OSError):
            if self._loop.get_debug():
                logger.debug("%r: %s", self, message, exc_info=exception)
        elif not isinstance(exception, CancelledError):
            try:
                self._loop.call_exception_handler(
                    {"message": message, "exception": exception, "transport": transport, "protocol": self}
                )
            except MemoryError:
                pass  # connection_lost() passes it on
        return 0

    # ---- writing

    cdef bint refuses_writes(self) except -1:
        if self.state == WRAPPED or self.state == DO_HANDSHAKE:
            return False
        if self.conn_lost >= dont_nag_before:
            logger.warning("SSL connection is closed")
        self.conn_lost += 1
        return True

    cdef int write_data(self, object data) except -1:
        if self.refuses_writes():
            return 0
        try:
            self.accept(data, False)
            if self.state == WRAPPED:
                self.control_app_writing()
        except Exception as exc:
            self.fatal_error(exc, "Fatal error on SSL protocol")
        return 0

    def _write_all(self, list_of_data):
        if self.refuses_writes():
            return
        try:
            for data in list_of_data:
                self.accept(data, True)
            if self.state == WRAPPED:
                self.process_outgoing()
        except Exception as exc:
            self.fatal_error(exc, "Fatal error on SSL protocol")

    # Encrypts as much of `data` as goes now, and puts the rest into the backlog. `more`: as encrypt().
    cdef int accept(self, object data, bint more) except -1:
        cdef Py_buffer view
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t left
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if self.state == WRAPPED and self.backlog.size == 0:
                done = self.encrypt(<const char*>view.buf, view.len, more, False)
            left = view.len - done
            if left == 0:
                return 0
            if PyBytes_CheckExact(data):
                self.backlog.append(data, done)
            else:
                self.backlog.append(PyBytes_FromStringAndSize(<const char*>view.buf + done, left), 0)
        finally:
            PyBuffer_Release(&view)
        return 0

    # Returns how many bytes are encrypted. `more`: what follows at once is sent with them, and sends them. `keep`: all
    # are encrypted, even if the transport underneath is full.
    cdef Py_ssize_t encrypt(self, const char* data, Py_ssize_t size, bint more, bint keep) except -1:
        cdef Py_ssize_t count, piece
        cdef Py_ssize_t done = 0
        while done < size and (keep or not self.below_is_full):
            piece = min(size - done, piece_size_max)
            if more or self.below_is_full or self.socket_transport is None:
                count = self.engine.write(data + done, piece)
            else:
                count = self.encrypt_and_send(data + done, piece)
            if not more or self.engine.pending_output() >= piece_size_max:
                self.send_output()
            if count < 0:
                break
            done += count
        return done

    # In memory that is the loop's, while it lasts.
    cdef Py_ssize_t encrypt_and_send(self, const char* data, Py_ssize_t size) except -2:
        cdef SocketTransport transport = self.socket_transport
        cdef Loan loan
        cdef char* memory
        cdef Py_ssize_t count
        if transport.loop is None:  # the connection is lost
            return self.engine.write(data, size)
        memory = loan.begin(transport.loop.reactor.output_buffer())
        if memory == NULL:
            raise MemoryError
        count = self.engine.write_into(data, size, memory, output_buffer_size)
        if self.engine.encrypted_size > 0:
            transport.send_borrowed(memory, self.engine.encrypted_size)
        return count

    cdef int do_write(self, bint keep) except -1:
        cdef Py_ssize_t done, left
        while self.backlog.size > 0 and (keep or not self.below_is_full):
            chunk = self.backlog.first()
            left = PyBytes_GET_SIZE(chunk) - self.backlog.offset
            done = self.encrypt(PyBytes_AS_STRING(chunk) + self.backlog.offset, left, True, keep)
            self.backlog.consume(done)
            if done < left:
                break
        return self.process_outgoing()

    cdef int send_output(self) except -1:
        while not self.below_is_full and self._transport is not None:
            ciphertext = self.engine.collect()
            if ciphertext is None:
                return 0
            if self.socket_transport is not None:
                self.socket_transport.write(ciphertext)
            else:
                self._transport.write(ciphertext)
        return 0

    cdef int process_outgoing(self) except -1:
        self.send_output()
        return self.control_app_writing()

    # Until the handshake that start_tls() has begun is over, the application has but the transport underneath to write
    # to. After an abort() nothing is written at all.
    cdef bint takes_writes_at_once(self) noexcept:
        return self.state != DO_HANDSHAKE and self.state != UNWRAPPED

    cdef int control_app_writing(self) except -1:
        cdef size_t size = self.backlog.size + self.engine.pending_output()
        if self._app_protocol is None:
            return 0
        if self.write_flow.pauses_from(size):
            method = "pause_writing"
        elif self.takes_writes_at_once() and self.write_flow.resumes_at(size):
            method = "resume_writing"
        else:
            return 0
        try:
            getattr(self._app_protocol, method)()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self._loop.call_exception_handler(
                {
                    "message": f"protocol.{method}() failed",
                    "exception": exc,
                    "transport": self._app_transport,
                    "protocol": self,
                }
            )
        return 0

    # ---- reading

    def _resume(self):
        """Go on with what has been received: the application reads again, or has left the loop meanwhile."""
        try:
            if self.state != DO_HANDSHAKE:
                self.advance()
        except no_memory as exc:
            self.fatal_error(exc, "Fatal error on SSL protocol")

    cdef int do_read(self) except -1:
        cdef int more = 1
        try:
            while more > 0 and self.state in (WRAPPED, FLUSHING) and not self.app_reading_paused:
                more = self.read_once()
                if more == 0:
                    self.receive_end()
            if self.state in (WRAPPED, FLUSHING):
                if self.backlog.size > 0:
                    self.do_write(False)
                else:
                    self.process_outgoing()
            self.control_reading()
        except (KeyboardInterrupt, SystemExit):
            # What has not been read is here already: the transport underneath does not tell of it again.
            if not self._loop.is_closed():
                self._loop.call_soon(self._resume)
            raise
        except Exception as exc:
            self.fatal_error(exc, "Fatal error on SSL protocol")
        return 0

    # close_notify. The connection ends, and the peer is answered, also if SystemExit or KeyboardInterrupt leaves here.
    cdef int receive_end(self) except -1:
        try:
            self.call_eof_received()
        finally:
            self.start_shutdown()
        return 0

    cdef int call_eof_received(self) except -1:
        if self.app_state != MADE:
            return 0
        self.app_state = AT_END
        try:
            if self._app_protocol.eof_received():
                logger.warning("returning true from eof_received() has no effect when using ssl")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Error calling eof_received()")
        return 0

    # Bytes pile up while the application does not read.
    cdef int control_reading(self) except -1:
        cdef size_t size = self.engine.unread()
        if self._transport is None:
            return 0
        # Nothing waits for the application once the connection is on its way down.
        if self.state == SHUTDOWN:
            size = 0
        if self.read_flow.pauses_from(size):
            self._transport.pause_reading()
        elif self.read_flow.resumes_at(size):
            self._transport.resume_reading()
        return 0


# What a transport refers to when it does not need its protocol any more.
cdef TlsProtocol spent_protocol(object loop):
    cdef TlsProtocol protocol = TlsProtocol.__new__(TlsProtocol)
    protocol._loop = loop
    return protocol


cdef TlsEngine no_engine = make_no_engine()
cdef TlsProtocol unmade_protocol = spent_protocol(None)  # of a transport that is not made properly


seal_type(<PyTypeObject*>SSLTransport, False)
seal_type(<PyTypeObject*>TlsProtocol, True)
