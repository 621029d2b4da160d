"""Signals: add_signal_handler(), and a loop that wakes up for every signal.

The interpreter's C handler writes each signal's number to the wake-up descriptor (signal.set_wakeup_fd()), so handlers
set with signal.signal() keep working beside the loop's. The loop owns that descriptor while it has handlers and, in the
main thread, from the first turn that blocks until the run ends; then the previous descriptor is restored.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from asyncio import coroutines
from collections.abc import Callable
from typing import Any, TypeVarTuple

from zloop.core.diagnostics import is_coroutine_function
from zloop.core.interface import MixinBase
from zloop.core.scheduler import note_signal

Ts = TypeVarTuple("Ts")

READ_SIZE = 4096  # bytes, one for each signal; the rest is read in the next turn


class SignalMixin(MixinBase):
    """Signals that wake the loop, and handlers that run as its callbacks."""

    def __init__(self) -> None:
        super().__init__()
        self._signal_handlers: dict[int, Any] = {}  # number -> Handle
        self._signal_pipe: tuple[int, int] | None = None  # (read end, write end), owned; created when first used
        self._signal_pipe_process = 0  # the pid of the process that made it
        self._previous_wakeup_fd: int | None = None  # None while the loop does not own the wake-up descriptor

    def add_signal_handler(self, sig: int, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Call callback(*args) in the loop after the signal `sig` (an int) has arrived.

        The callback replaces an earlier one of the same signal; unlike a handler of signal.signal() it may use the
        loop. Raises ValueError if `sig` is no signal's number, RuntimeError for a signal that cannot be caught (SIGKILL
        and SIGSTOP, signal(7)), in other threads than the main one, and if the loop is closed; TypeError for a
        coroutine function and for a `sig` that is no int.
        """
        if coroutines.iscoroutine(callback) or is_coroutine_function(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        check_signal(sig)
        self._check_closed()
        try:
            self._take_wakeup_fd()
        except (ValueError, OSError) as exc:  # not the main thread
            raise RuntimeError(str(exc)) from exc
        handle = self._make_handle(callback, args)
        previous = self._signal_handlers.get(sig)
        self._signal_handlers[sig] = handle
        try:
            signal.signal(sig, note_signal)
            signal.siginterrupt(sig, False)
        except OSError as exc:
            if previous is not None:
                self._signal_handlers[sig] = previous
            else:
                del self._signal_handlers[sig]
            self._give_wakeup_fd_back()
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the loop's handler and restore the signal's default; return whether there was a handler.

        For SIGINT the default is signal.default_int_handler, which raises KeyboardInterrupt. Raises ValueError and
        TypeError as add_signal_handler() does.
        """
        check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        try:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise RuntimeError(f"sig {sig} cannot be caught") from exc
            raise
        finally:
            self._give_wakeup_fd_back()
        return True

    def _check_signal(self, sig: object) -> None:
        check_signal(sig)

    # ---- called by the native half, which owns the wake-up descriptor

    def _signals_begin(self) -> None:
        """Take the wake-up descriptor: at once if there are handlers, else before the first turn that blocks."""
        if in_main_thread():
            try:
                self._take_wakeup_fd()
            except ValueError:
                pass  # signals belong to another thread, which was not the one that imported `threading`
            except OSError:
                pass  # no descriptor is left for the pipe; a signal during the poll still interrupts it (EINTR)

    def _read_signals(self) -> None:
        assert self._signal_pipe is not None
        try:
            numbers = os.read(self._signal_pipe[0], READ_SIZE)
        except BlockingIOError:
            return
        for number in numbers:
            handle = self._signal_handlers.get(number)
            if handle is None:
                continue  # a handler of signal.signal()
            if handle.cancelled():
                self.remove_signal_handler(number)
            else:
                self._add_callback(handle)

    def _close_signals(self) -> None:
        if sys.is_finalizing():
            if self._signal_handlers:
                warnings.warn(
                    f"Closing the loop {self!r} on interpreter shutdown stage, skipping signal handlers removal",
                    ResourceWarning,
                    source=self,
                )
                self._signal_handlers.clear()
        else:
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        self._give_wakeup_fd_back()
        if self._signal_pipe is not None:
            self._close_signal_pipe()


def in_main_thread() -> bool:
    """Avoids threading.current_thread(), which creates an object for each thread that it does not know."""
    return threading.get_ident() == threading.main_thread().ident


def check_signal(sig: object) -> None:
    """TypeError if it is no int, ValueError if it is no signal's number."""
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")
