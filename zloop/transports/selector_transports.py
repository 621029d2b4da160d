"""asyncio's own selector transports, for socket objects with methods of their own.

Trackers, throttles and mocks override recv(), recv_into(), send() or sendmsg() of a socket, or are no socket at all and
hand calls on to one. asyncio calls these methods. zloop's transports go past the socket object: such a one gets the
transport, and a listening one the accepting, of the running Python's asyncio, over the loop's readers and writers.
"""

from __future__ import annotations

import contextvars
import selectors
import sys
from asyncio import Protocol, Transport, selector_events
from collections.abc import Mapping
from typing import Any

LoopMethods: Any = selector_events.BaseSelectorEventLoop
SelectorTransport: Any = selector_events._SelectorTransport  # type: ignore[attr-defined]

takes_context = sys.version_info >= (3, 15)


def make_stream_transport(
    loop: Any,
    sock: Any,
    protocol: Protocol,
    waiter: Any,
    extra: dict[str, Any],
    server: Any,
    context: contextvars.Context | None,
) -> Transport:
    """A transport that calls recv(), recv_into(), send() and sendmsg() of the socket object, which it owns."""
    loop._ensure_fd_no_transport(sock)
    options = {"context": context} if takes_context else {}
    transport: Transport = selector_events._SelectorSocketTransport(  # type: ignore[attr-defined]
        loop, sock, protocol, waiter, extra, server, **options
    )
    return transport


def make_datagram_transport(loop: Any, sock: Any, protocol: Any, address: Any, waiter: Any) -> Any:
    """A transport that calls recvfrom(), send() and sendto() of the socket object, which it owns."""
    loop._ensure_fd_no_transport(sock)
    return selector_events._SelectorDatagramTransport(  # type: ignore[attr-defined]
        loop, sock, protocol, address, waiter
    )


class Selector:
    """A loop's readers and writers, as asyncio's transports, and programs, ask a selector for them."""

    def __init__(self, loop: Any) -> None:
        self._loop = loop

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """What is watched, by descriptor."""
        keys = {}
        for fileobj, fd, reader, writer in self._loop._watched_descriptors():
            events = (reader is not None and selectors.EVENT_READ) | (writer is not None and selectors.EVENT_WRITE)
            keys[fd] = selectors.SelectorKey(fileobj, fd, events, (reader, writer))
        return keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """How a descriptor, or an object with fileno(), is watched. KeyError if it is not."""
        keys = self.get_map()
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd not in keys:
            raise KeyError(f"{fileobj!r} is not registered")
        return keys[fd]
