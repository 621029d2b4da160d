# The transport of a connected stream socket.

from typing import Any, final

from zloop.transports.lazy_socket import LazySocketTransport

@final
class SocketTransport(LazySocketTransport):
    _sendfile_compatible: Any
    _start_tls_compatible: bool
    _empty_waiter: Any
