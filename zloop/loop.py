"""The event loop: the native half (zloop._loop) and, as mixins, what runs per connection, per server or per loop."""

import asyncio
import time

from zloop import _loop
from zloop.connect import ConnectMixin
from zloop.datagram import DatagramMixin
from zloop.dns import DnsMixin
from zloop.exception_handler import ExceptionHandlerMixin
from zloop.executor import ExecutorMixin
from zloop.lifecycle import LifecycleMixin
from zloop.pipes import PipeMixin
from zloop.process import ProcessMixin
from zloop.selector_transports import Selector
from zloop.sendfile import SendfileMixin
from zloop.servers import ServerMixin
from zloop.signals import SignalMixin
from zloop.socket_methods import SocketMixin
from zloop.tls import TlsMixin
from zloop.unix import UnixMixin


@_loop.with_native_methods
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
    _loop.Loop,
    asyncio.AbstractEventLoop,
):
    """An asyncio event loop on zloop's own engine.

    It belongs to the thread that runs it; of its methods only call_soon_threadsafe() may be called from others.
    """

    @property
    def _selector(self) -> Selector:
        return Selector(self)

    _clock_resolution = time.get_clock_info("monotonic").resolution  # seconds; asyncio's loops tell it by this name
