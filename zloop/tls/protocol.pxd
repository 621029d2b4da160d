# TLS between a transport and an application's protocol.
from zloop.binding.transport_base cimport AsyncioBase
from zloop.engine.flow_control cimport FlowControl
from zloop.tls.backlog cimport Backlog
from zloop.tls.reader cimport TlsReader
from zloop.transports.stream_socket cimport SocketTransport


cdef enum TlsState:
    UNWRAPPED
    DO_HANDSHAKE
    WRAPPED
    FLUSHING
    SHUTDOWN


cdef enum AppState:
    NOT_MADE
    MADE
    AT_END
    LOST


cdef class SSLTransport(AsyncioBase):
    cdef object __weakref__
    cdef dict __dict__            # programs set attributes, and replace methods, on transports
    cdef TlsProtocol ssl_protocol
    cdef public bint _closed      # close() or abort() was called, or the connection is lost

    cdef int owner_only(self) except -1


cdef class TlsProtocol(TlsReader):
    cdef readonly object _loop
    cdef readonly object _sslcontext
    cdef readonly object _transport      # the one underneath; None before connection_made() and after connection_lost()
    cdef SocketTransport socket_transport  # the same, if it is one; else None
    cdef readonly SSLTransport _app_transport  # None once the connection is lost
    cdef dict extra                      # what get_extra_info() answers by itself
    cdef object waiter                   # a future, done when the handshake is over; None then, or if there is none

    cdef TlsState state
    cdef AppState app_state
    cdef bint at_end                     # the transport underneath has said that nothing follows
    cdef int conn_lost                   # connection_lost() was called, and the writes since
    cdef object handshake_timeout        # seconds
    cdef object shutdown_timeout         # seconds
    cdef object handshake_timer          # TimerHandle, or None
    cdef object shutdown_timer           # TimerHandle, or None
    cdef object handshake_began          # loop.time() in debug mode, else None

    cdef Backlog backlog                 # written, and not encrypted yet
    cdef bint below_is_full              # the transport underneath has called pause_writing() last
    cdef FlowControl write_flow          # of the application, by what it has written

    cdef bint app_reading_paused         # the application has called pause_reading() last
    cdef FlowControl read_flow           # of the transport underneath, by what is not decrypted

    cdef int advance(self) except -1
    cdef int wake_waiter(self, object exception) except -1
    cdef int report_loss(self, object exception) except -1
    cdef int do_handshake(self) except -1
    cdef int handshake_done(self, object exception) except -1
    cdef int handshake_failed(self, object exception) except -1
    cdef int do_flush(self) except -1
    cdef int do_shutdown(self) except -1
    cdef int shutdown_done(self, object exception) except -1
    cdef int arm_shutdown_timer(self) except -1
    cdef int start_shutdown(self) except -1
    cdef int abort(self, object exception) except -1
    cdef int write_data(self, object data) except -1
    cdef int accept(self, object data, bint more) except -1
    cdef bint refuses_writes(self) except -1
    cdef Py_ssize_t encrypt(self, const char* data, Py_ssize_t size, bint more, bint keep) except -1
    cdef Py_ssize_t encrypt_and_send(self, const char* data, Py_ssize_t size) except -2
    cdef int do_write(self, bint keep) except -1
    cdef int send_output(self) except -1
    cdef int process_outgoing(self) except -1
    cdef int do_read(self) except -1
    cdef int receive_end(self) except -1
    cdef int call_eof_received(self) except -1
    cdef int fatal_error(self, object exception, str message) except -1
    cdef bint takes_writes_at_once(self) noexcept
    cdef int control_app_writing(self) except -1
    cdef int control_reading(self) except -1
