"""Subprocesses: subprocess_exec() and subprocess_shell(), and how the loop learns that a child has ended.

What a subprocess transport does is the running Python's own asyncio.base_subprocess; the child is a subprocess.Popen's.
Unless the program has set a child watcher, as it can until CPython 3.13, the loop watches its children itself, and
takes no SIGCHLD.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from asyncio import base_events, base_subprocess
from asyncio.log import logger
from asyncio.unix_events import waitstatus_to_exitcode  # type: ignore[attr-defined]
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zloop.core.interface import MixinBase

if TYPE_CHECKING:
    from typing import IO, Literal

    from zloop.core.handles import Handle
    from zloop.core.interface import ProtocolT


class SubprocessTransport(base_subprocess.BaseSubprocessTransport):
    """A child process and the transports of its pipes."""

    _pid: int
    _proc: subprocess.Popen[bytes] | None
    _returncode: int | None

    def _start(self, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **kwargs: Any) -> None:
        self._proc = subprocess.Popen(
            args, shell=shell, stdin=stdin, stdout=stdout, stderr=stderr, bufsize=bufsize, **kwargs
        )

    def send_signal(self, signal: int) -> None:
        """Send the child a signal. Does nothing when it has ended: its number may be a stranger's by now."""
        if self._returncode is None:
            super().send_signal(signal)
        else:
            self._check_proc()


class ProcessMixin(MixinBase):
    """Child processes."""

    def __init__(self) -> None:
        super().__init__()
        self._pidfds: dict[int, Handle] = {}  # of children that still run, ours, with what reads each

    # asyncio's own, over what follows below. Popen blocks for a moment, and tools that look for blocking calls know the
    # functions in which it may by their file and name.
    if TYPE_CHECKING:  # that of asyncio's takes no other class's loop

        async def subprocess_exec(
            self,
            protocol_factory: Callable[[], ProtocolT],
            program: Any,
            *args: Any,
            stdin: int | IO[Any] | None = subprocess.PIPE,
            stdout: int | IO[Any] | None = subprocess.PIPE,
            stderr: int | IO[Any] | None = subprocess.PIPE,
            universal_newlines: Literal[False] = False,
            shell: Literal[False] = False,
            bufsize: Literal[0] = 0,
            encoding: None = None,
            errors: None = None,
            text: Literal[False] | None = None,
            **options: Any,
        ) -> tuple[asyncio.SubprocessTransport, ProtocolT]:
            """Run a program; returns (transport, protocol)."""
            raise NotImplementedError

        async def subprocess_shell(
            self,
            protocol_factory: Callable[[], ProtocolT],
            cmd: bytes | str,
            *,
            stdin: int | IO[Any] | None = subprocess.PIPE,
            stdout: int | IO[Any] | None = subprocess.PIPE,
            stderr: int | IO[Any] | None = subprocess.PIPE,
            universal_newlines: Literal[False] = False,
            shell: Literal[True] = True,
            bufsize: Literal[0] = 0,
            encoding: None = None,
            errors: None = None,
            text: Literal[False] | None = None,
            **options: Any,
        ) -> tuple[asyncio.SubprocessTransport, ProtocolT]:
            """Run a command by the shell; returns (transport, protocol)."""
            raise NotImplementedError

    else:
        subprocess_exec = base_events.BaseEventLoop.subprocess_exec
        subprocess_shell = base_events.BaseEventLoop.subprocess_shell
    _log_subprocess = base_events.BaseEventLoop._log_subprocess  # type: ignore[attr-defined]

    @property
    def _debug(self) -> bool:
        """Debug mode, by the name under which asyncio's functions ask for it."""
        return self.get_debug()

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **options: Any
    ) -> SubprocessTransport:
        """Spawn a child and wait until the protocol knows; options are Popen's."""
        self._check_closed()  # before there is a child

        def spawn(waiter: asyncio.Future[None]) -> SubprocessTransport:
            return SubprocessTransport(
                self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, **options
            )

        watcher = policy_watcher()
        if watcher is None:
            return await self._watched(spawn, self._watch_child)
        with watcher as entered:
            if sys.version_info < (3, 12):  # of then: what the context manager gives is used
                watcher = entered
            if not watcher.is_active():  # before there is a child that nobody would wait for
                raise RuntimeError("asyncio.get_child_watcher() is not activated, subprocess support is not installed.")
            return await self._watched(
                spawn, lambda child: watcher.add_child_handler(child.get_pid(), self._on_watcher_callback, child)
            )

    async def _watched(
        self,
        spawn: Callable[[asyncio.Future[None]], SubprocessTransport],
        watch: Callable[[SubprocessTransport], None],
    ) -> SubprocessTransport:
        """Spawn a child and have it watched. Whoever cancels this finds the child killed and gone."""
        waiter = self.create_future()
        transport = spawn(waiter)
        try:
            watch(transport)
        except BaseException:  # nobody would wait for the child
            transport.close()
            reap(transport)
            raise
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    # ---- a child's end

    def _watch_child(self, transport: SubprocessTransport) -> None:
        """Have _child_ended() called when the child has: by a pidfd, or else by a thread that waits for it."""
        pidfd = -1
        try:
            pidfd = os.pidfd_open(transport._pid)
            self._pidfds[pidfd] = self._add_reader(pidfd, self._on_pidfd_ready, pidfd, transport)
        except BaseException as exc:
            if pidfd >= 0:
                os.close(pidfd)
            if not isinstance(exc, Exception):
                raise
            # Not this system's, refused by a sandbox, no descriptor is left, or the loop will not have it.
            name = f"zloop-waitpid-{transport._pid}"
            threading.Thread(target=self._wait_in_thread, name=name, args=(transport,), daemon=True).start()

    def _on_pidfd_ready(self, pidfd: int, transport: SubprocessTransport) -> None:
        self._close_pidfd(pidfd)
        self._child_ended(transport)

    def _close_pidfd(self, pidfd: int) -> None:
        """Unless the number is another file's: somebody may have closed all descriptors, this one among them."""
        if self._take_back_reader(pidfd, self._pidfds.pop(pidfd)):
            os.close(pidfd)

    def _wait_in_thread(self, transport: SubprocessTransport) -> None:
        """The child stays a zombie until the loop reaps it: until the transport knows, nobody else gets its number."""
        if not hasattr(os, "waitid"):  # macOS, before CPython 3.13
            reap(transport)
        else:
            try:
                os.waitid(os.P_PID, transport._pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass  # somebody else has reaped it
        try:
            self.call_soon_threadsafe(self._child_ended, transport)
        except RuntimeError:  # the loop is closed
            reap(transport)

    def _child_ended(self, transport: SubprocessTransport) -> None:
        returncode = reap(transport)
        if self.get_debug():
            logger.debug("process %s exited with returncode %s", transport._pid, returncode)
        if sys.version_info >= (3, 14):
            transport._process_exited(returncode)  # at once: from here on its pid may be another process's
        else:
            self.call_soon(transport._process_exited, returncode)

    def _on_watcher_callback(self, pid: int, returncode: int, transport: SubprocessTransport) -> None:
        """Called by a policy's child watcher, perhaps in another thread."""
        self.call_soon_threadsafe(transport._process_exited, returncode)

    def _close_child_watches(self) -> None:
        while self._pidfds:
            self._close_pidfd(next(iter(self._pidfds)))


def reap(transport: SubprocessTransport) -> int:
    """The return code of a child that has ended; 255 if somebody else has taken it."""
    process = transport._proc
    assert process is not None
    if process.returncode is None:
        try:
            _, status = os.waitpid(process.pid, 0)
        except ChildProcessError:
            logger.warning("child process pid %d exit status already read:  will report returncode 255", process.pid)
            process.returncode = 255
        else:
            process.returncode = waitstatus_to_exitcode(status)
    return process.returncode


def policy_watcher() -> Any:
    """The child watcher that the program has set; None for most, and always from CPython 3.14, which has none.

    asyncio's own loops set one by themselves, of the kinds that only wait: this loop can do that better.
    """
    if sys.version_info >= (3, 14):
        return None
    watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
    only_waits = type(watcher) in (asyncio.PidfdChildWatcher, asyncio.ThreadedChildWatcher)
    return None if only_waits else watcher
