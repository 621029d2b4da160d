"""The event loop: the native half (zloop.core.loop), with mixins for what runs per connection, server or loop."""

import asyncio
import time

import zloop.transports._asyncio_base  # type: ignore[import-not-found]  # noqa: F401  # first: it refuses subinterpreters
from zloop.core import loop as native
from zloop.core.exception_handler import ExceptionHandlerMixin
from zloop.core.lifecycle import LifecycleMixin
from zloop.net.connect import ConnectMixin
from zloop.net.datagram_endpoint import DatagramMixin
from zloop.net.dns import DnsMixin
from zloop.net.sendfile import SendfileMixin
from zloop.net.servers import ServerMixin
from zloop.net.sock_methods import SocketMixin
from zloop.net.unix import UnixMixin
from zloop.system.executor import ExecutorMixin
from zloop.system.pipes import PipeMixin
from zloop.system.process import ProcessMixin
from zloop.system.signals import SignalMixin
from zloop.tls.start_tls import TlsMixin
from zloop.transports.selector_transports import Selector


@native.with_methods_of_bases
class Loop(
    SignalMixin,
    UnixMixin,
    ProcessMixin,
    LifecycleMixin,
    ExceptionHandlerMixin,
    ExecutorMixin,
    DnsMixin,
    ConnectMixin,
    ServerMixin,
    DatagramMixin,
    SocketMixin,
    PipeMixin,
    SendfileMixin,
    TlsMixin,
    native.Loop,
    asyncio.AbstractEventLoop,
):
    """An asyncio event loop on zloop's own engine.

    It belongs to the thread that runs it. Other threads may call call_soon_threadsafe() only.
    """

    @property
    def _selector(self) -> Selector:
        return Selector(self)

    _clock_resolution = time.get_clock_info("monotonic").resolution  # seconds; the name is asyncio's
