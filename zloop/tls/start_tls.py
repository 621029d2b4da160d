"""TLS over zloop's transports: start_tls(), and the one place that makes a TLS transport.

SSLProtocol sits on a socket transport as its protocol; its other face is the transport that the application sees.
Everybody who wants TLS asks make_ssl_transport() for one.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.streams import StreamReaderProtocol
from typing import TYPE_CHECKING, Any

from zloop.core import settings
from zloop.core.diagnostics import report_failed_connection
from zloop.core.interface import MixinBase
from zloop.core.socket_objects import STREAM_METHODS, has_plain_methods
from zloop.transports.connection import make_socket_transport
from zloop.transports.selector_transports import SelectorTransport

try:
    from ssl import SSLContext
except ImportError:  # pragma: no cover: an interpreter built without OpenSSL
    SSLContext = None  # type: ignore[assignment,misc]

settings.tls_backend()  # so that a wrong name is reported by the first loop, not by the first connection

if SSLContext is not None:
    from zloop.tls.protocol import TlsProtocol
else:  # pragma: no cover: an interpreter built without OpenSSL

    class TlsProtocol:  # type: ignore[no-redef]
        """Of which there is none without OpenSSL."""


if TYPE_CHECKING:
    import socket
    import ssl


class SSLProtocol(TlsProtocol, asyncio.Protocol):
    """The protocol of the transport under a TLS connection."""


class BufferedSSLProtocol(TlsProtocol, asyncio.BufferedProtocol):
    """The protocol of asyncio's own transport under a TLS connection, which calls recv_into() of its socket object."""

    max_size = 256 * 1024  # bytes of one read; asyncio's

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._received = memoryview(bytearray(self.max_size))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to receive to."""
        return self._received

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes are there."""
        self.data_received(bytes(self._received[:nbytes]))


def make_ssl_transport(
    loop: Any,
    sock: socket.socket,
    protocol: asyncio.BaseProtocol,
    sslcontext: SSLContext | None,
    waiter: asyncio.Future[None] | None,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    extra: dict[str, Any] | None = None,
    server: Any = None,
    context: contextvars.Context | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """Tie a connected, non-blocking socket to a protocol, with TLS in between. The transport owns the socket.

    The handshake begins in the next turn; connection_made() is called and `waiter` (a future, or None) done when it is
    over. sslcontext=None is a client's default context. Time-outs are in seconds; None is asyncio's default.
    Raises ValueError for a time-out that is not positive, and for a server without a context.
    """
    loop._ensure_fd_no_transport(sock)
    kind = SSLProtocol if has_plain_methods(sock, STREAM_METHODS) else BufferedSSLProtocol
    ssl_protocol = kind(
        loop,
        protocol,
        sslcontext,
        waiter,
        server_side,
        server_hostname,
        ssl_handshake_timeout=ssl_handshake_timeout,
        ssl_shutdown_timeout=ssl_shutdown_timeout,
    )
    make_socket_transport(loop, sock, ssl_protocol, extra=extra, server=server, context=context)
    return ssl_protocol._app_transport


async def accept_tls(
    loop: Any,
    protocol_factory: Any,
    sslcontext: SSLContext,
    server: Any,
    ssl_handshake_timeout: float | None,
    ssl_shutdown_timeout: float | None,
    conn: socket.socket,
    extra: dict[str, Any],
) -> None:
    """See a connection that a server accepted through its handshake, or report in debug mode why that failed."""
    protocol = transport = waiter = None
    try:
        try:
            waiter = loop.create_future()
            protocol = protocol_factory()
            transport = make_ssl_transport(
                loop,
                conn,
                protocol,
                sslcontext,
                waiter,
                server_side=True,
                extra=extra,
                server=server,
                context=contextvars.copy_context(),  # with what the protocol factory has set
                ssl_handshake_timeout=ssl_handshake_timeout,
                ssl_shutdown_timeout=ssl_shutdown_timeout,
            )
        except BaseException:
            conn.close()
            raise
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        report_failed_connection(loop, exc, protocol, transport)
    finally:
        del waiter  # its exception's traceback holds this frame


class TlsMixin(MixinBase):
    """TLS on a connection that exists already."""

    async def start_tls(
        self,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Go on with TLS on a transport; returns the transport that the protocol has to use from now on.

        The protocol's connection_made() is not called again. What a server's StreamReader has received and nobody has
        read yet is taken for the beginning of the handshake.
        Raises TypeError for what is no SSLContext or cannot carry TLS, ssl.SSLError and OSError when the handshake
        fails; the transport is closed then.
        """
        if SSLContext is None:  # pragma: no cover: an interpreter built without OpenSSL
            raise RuntimeError("Python ssl module is not available")
        if not isinstance(sslcontext, SSLContext):
            raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
        if not getattr(transport, "_start_tls_compatible", False):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")

        waiter = self.create_future()
        kind = BufferedSSLProtocol if isinstance(transport, SelectorTransport) else SSLProtocol
        ssl_protocol = kind(
            self,
            protocol,
            sslcontext,
            waiter,
            server_side,
            server_hostname,
            ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout,
            call_connection_made=False,
        )
        transport.pause_reading()  # the new protocol gets nothing before its connection_made()
        if server_side:
            move_unread_bytes(protocol, ssl_protocol)
        ssl_protocol._take_over(transport)
        starting = resuming = None
        try:
            starting = self.call_soon(ssl_protocol.connection_made, transport)
            resuming = self.call_soon(transport.resume_reading)
            await waiter
        except BaseException:
            transport.close()
            for scheduled in (starting, resuming):
                if scheduled is not None:
                    scheduled.cancel()
            raise
        finally:
            del waiter  # its exception's traceback holds this frame
        return ssl_protocol._app_transport


def move_unread_bytes(protocol: Any, ssl_protocol: Any) -> None:
    """Bytes that came right behind the request for TLS are with the StreamReader, and belong to the handshake."""
    reader = getattr(protocol, "_stream_reader", None) if isinstance(protocol, StreamReaderProtocol) else None
    if reader is not None and reader._buffer:
        ssl_protocol._prepend(reader._buffer)
        reader._buffer.clear()
