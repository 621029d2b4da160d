"""Subprocesses: subprocess_exec() and subprocess_shell(), and how the loop learns that a child has exited.

The transport is derived from the running Python's asyncio.base_subprocess, and the child is a subprocess.Popen's. The
loop watches its children itself, without SIGCHLD, unless the program has set a child watcher (until CPython 3.13).
"""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from asyncio import base_events, base_subprocess
from asyncio.log import logger
from asyncio.unix_events import waitstatus_to_exitcode  # type: ignore[attr-defined]
from collections.abc import Callable
from types import FunctionType
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
        """Send the child a signal; nothing if it has exited, because its pid may be another process's by now."""
        if self._returncode is None:
            super().send_signal(signal)
        else:
            self._check_proc()


def documented(function: FunctionType, text: str) -> FunctionType:
    """A copy of a function, with its code, and so its file and name in frames, and with a docstring."""
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    copy.__doc__ = inspect.cleandoc(text)
    return copy


class ProcessMixin(MixinBase):
    """Child processes."""

    def __init__(self) -> None:
        super().__init__()
        self._pidfds: dict[int, Handle] = {}  # pidfd -> its reader, for each running child; the loop owns the pidfds

    # asyncio's own functions, which call _make_subprocess_transport(). Popen blocks for a moment, and tools that detect
    # blocking calls allow it in these functions, by file and name.
    if TYPE_CHECKING:  # asyncio's declare BaseEventLoop as self

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
            """Run a program."""
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
            """Run a command in a shell."""
            raise NotImplementedError

    else:
        subprocess_exec = documented(
            base_events.BaseEventLoop.subprocess_exec,
            """Run a program, without a shell; return (transport, protocol).

            protocol_factory() makes an asyncio.SubprocessProtocol. `program` and `args` are str, bytes or os.PathLike.
            stdin, stdout, stderr: subprocess.PIPE (the default), DEVNULL, STDOUT (for stderr), a descriptor or a file.
            Other keywords are subprocess.Popen's; ValueError for those that asyncio does not support, such as a text
            mode, a buffer size and shell=True. Raises what Popen raises, such as FileNotFoundError.
            """,
        )
        subprocess_shell = documented(
            base_events.BaseEventLoop.subprocess_shell,
            """Run a command line in a shell, /bin/sh; return (transport, protocol).

            `cmd` is a str or bytes. Parts of it that come from elsewhere must be quoted (shlex.quote()): the shell
            interprets them. Otherwise as subprocess_exec().
            """,
        )
    _log_subprocess = base_events.BaseEventLoop._log_subprocess  # type: ignore[attr-defined]

    @property
    def _debug(self) -> bool:
        """Debug mode, under the name that asyncio's functions use."""
        return self.get_debug()

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int, **options: Any
    ) -> SubprocessTransport:
        """Spawn a child and wait for connection_made(); options are Popen's."""
        self._check_closed()  # before there is a child

        def spawn(waiter: asyncio.Future[None]) -> SubprocessTransport:
            return SubprocessTransport(
                self, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, **options
            )

        watcher = policy_watcher()
        if watcher is None:
            return await self._watched(spawn, self._watch_child)
        with watcher as entered:
            if sys.version_info < (3, 12):  # the context manager's value is used there
                watcher = entered
            if not watcher.is_active():  # checked before there is a child to reap
                raise RuntimeError("asyncio.get_child_watcher() is not activated, subprocess support is not installed.")
            return await self._watched(
                spawn, lambda child: watcher.add_child_handler(child.get_pid(), self._on_watcher_callback, child)
            )

    async def _watched(
        self,
        spawn: Callable[[asyncio.Future[None]], SubprocessTransport],
        watch: Callable[[SubprocessTransport], None],
    ) -> SubprocessTransport:
        """Spawn a child and watch it. If this is cancelled, the child is killed and reaped."""
        waiter = self.create_future()
        transport = spawn(waiter)
        try:
            watch(transport)
        except BaseException:  # the child would not be reaped
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

    # ---- a child's exit

    def _watch_child(self, transport: SubprocessTransport) -> None:
        """Have _child_ended() called after the child's exit: by a pidfd, or else by a thread in waitid(2)."""
        pidfd = -1
        try:
            pidfd = os.pidfd_open(transport._pid)
            self._pidfds[pidfd] = self._add_reader(pidfd, self._on_pidfd_ready, pidfd, transport)
        except BaseException as exc:
            if pidfd >= 0:
                os.close(pidfd)
            if not isinstance(exc, Exception):
                raise
            # Not supported, refused by a sandbox, no descriptor left, or refused by the poller.
            name = f"zloop-waitpid-{transport._pid}"
            threading.Thread(target=self._wait_in_thread, name=name, args=(transport,), daemon=True).start()

    def _on_pidfd_ready(self, pidfd: int, transport: SubprocessTransport) -> None:
        self._close_pidfd(pidfd)
        self._child_ended(transport)

    def _close_pidfd(self, pidfd: int) -> None:
        """Close a pidfd, unless the number is another file's: the program may have closed all descriptors."""
        if self._take_back_reader(pidfd, self._pidfds.pop(pidfd)):
            os.close(pidfd)

    def _wait_in_thread(self, transport: SubprocessTransport) -> None:
        """Wait for the exit without reaping: as long as the child is a zombie, its pid is not used again."""
        if not hasattr(os, "waitid"):  # macOS, before CPython 3.13
            reap(transport)
        else:
            try:
                os.waitid(os.P_PID, transport._pid, os.WEXITED | os.WNOWAIT)
            except ChildProcessError:
                pass  # reaped elsewhere
        try:
            self.call_soon_threadsafe(self._child_ended, transport)
        except RuntimeError:  # the loop is closed
            reap(transport)

    def _child_ended(self, transport: SubprocessTransport) -> None:
        returncode = reap(transport)
        if self.get_debug():
            logger.debug("process %s exited with returncode %s", transport._pid, returncode)
        if sys.version_info >= (3, 14):
            transport._process_exited(returncode)  # at once: from here on the pid may be another process's
        else:
            self.call_soon(transport._process_exited, returncode)

    def _on_watcher_callback(self, pid: int, returncode: int, transport: SubprocessTransport) -> None:
        """Called by a policy's child watcher, possibly in another thread."""
        self.call_soon_threadsafe(transport._process_exited, returncode)

    def _close_child_watches(self) -> None:
        while self._pidfds:
            self._close_pidfd(next(iter(self._pidfds)))


def reap(transport: SubprocessTransport) -> int:
    """The return code of a child that has exited; 255 if it was reaped elsewhere."""
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
    """The child watcher that the program has set, or None; always None from CPython 3.14 on, which has none.

    The two kinds that only wait for the child are ignored, because asyncio's own loops set them by themselves.
    """
    if sys.version_info >= (3, 14):
        return None
    watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
    only_waits = type(watcher) in (asyncio.PidfdChildWatcher, asyncio.ThreadedChildWatcher)
    return None if only_waits else watcher
