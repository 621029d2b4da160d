"""The interface that the loop's mixins share, for type checkers; at run time the class is `object`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures
    import socket
    import ssl
    from collections.abc import Callable
    from typing import TypeAlias, TypeVar

    from zloop.core import loop as native
    from zloop.net.dns import AddressInfo

    ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)
    ProtocolFactory: TypeAlias = Callable[[], asyncio.BaseProtocol]
    TlsContext: TypeAlias = ssl.SSLContext | bool | None

    class MixinBase(native.Loop, asyncio.AbstractEventLoop):
        """The native half of the loop, and the mixins' methods that other mixins call."""

        _default_executor: concurrent.futures.ThreadPoolExecutor | None
        _executor_shutdown_called: bool

        def _close_signals(self) -> None: ...
        def _close_child_watches(self) -> None: ...

        async def _ensure_resolved(
            self, address: Any, *, family: int = 0, type: int = ..., proto: int = 0, flags: int = 0, loop: Any
        ) -> list[AddressInfo]: ...

        async def _create_connection_transport(
            self,
            sock: socket.socket,
            protocol_factory: Any,
            ssl: Any,
            server_hostname: str | None,
            *,
            server_side: bool = False,
            ssl_handshake_timeout: float | None = None,
            ssl_shutdown_timeout: float | None = None,
        ) -> tuple[Any, Any]: ...

        async def _make_server(
            self,
            sockets: list[socket.socket],
            protocol_factory: Any,
            ssl: Any,
            backlog: int,
            ssl_handshake_timeout: float | None,
            ssl_shutdown_timeout: float | None,
            start_serving: bool,
        ) -> asyncio.Server: ...

        def _stop_serving(self, sock: socket.socket) -> None: ...
else:
    MixinBase = object
