# The transport of a connected stream socket.

from typing import Any

from typing_extensions import disjoint_base

from zloop.transports.lazy_socket import LazySocketTransport

@disjoint_base
class SocketTransport(LazySocketTransport):
    _sendfile_compatible: Any
    _start_tls_compatible: bool
