"""Pipes: connect_read_pipe() and connect_write_pipe()."""

from __future__ import annotations

from asyncio.log import logger
from typing import TYPE_CHECKING, Any

from zloop.core.interface import MixinBase
from zloop.transports.pipe import make_read_pipe_transport, make_write_pipe_transport

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from zloop.core.interface import ProtocolT


class PipeMixin(MixinBase):
    """Transports of pipes, FIFOs, character devices and sockets, for one direction."""

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], ProtocolT], pipe: Any
    ) -> tuple[asyncio.ReadTransport, ProtocolT]:
        """Read from a pipe with a protocol; return (transport, protocol).

        protocol_factory() makes the protocol. `pipe` is a file object of a pipe, FIFO, character device or socket; the
        transport owns it from here on and makes it non-blocking. Raises ValueError for other files.
        """
        protocol = protocol_factory()
        return await self._connect_pipe(make_read_pipe_transport, protocol, pipe, "Read"), protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], ProtocolT], pipe: Any
    ) -> tuple[asyncio.WriteTransport, ProtocolT]:
        """Write to a pipe; return (transport, protocol). The protocol hears of flow control and of the reader's end.

        protocol_factory() makes the protocol. `pipe` is a file object of a pipe, FIFO, character device or socket; the
        transport owns it from here on and makes it non-blocking. Raises ValueError for other files.
        """
        protocol = protocol_factory()
        return await self._connect_pipe(make_write_pipe_transport, protocol, pipe, "Write"), protocol

    async def _connect_pipe(self, make_transport: Callable[..., Any], protocol: Any, pipe: Any, what: str) -> Any:
        """The transport, once the protocol's connection_made() has returned; `what` is for the debug log."""
        waiter = self.create_future()
        transport = make_transport(self, pipe, protocol, waiter)
        fd = pipe.fileno()  # the protocol may close it
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        if self.get_debug():
            logger.debug("%s pipe %r connected: (%r, %r)", what, fd, transport, protocol)
        return transport
