"""Which acceptors of this process take connections from the same socket.

Several loops may be given one listening socket, or duplicates of it: they take from one queue of connections. Each
acceptor learns whether it has company, as cpp/include/zloop/listener.hpp wants to know. One that goes may leave a
connection that the kernel has told no other of, so those that stay look again.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zloop.transports.acceptor import Acceptor

Queue = tuple[int, int]
"""The identity of a socket: device and inode."""

lock = threading.RLock()
"""Held while the table is changed, and while loops of several threads count the users of one socket object."""

_acceptors: dict[Queue, dict[int, weakref.ref[Acceptor]]] = {}
"""Of each queue, by their ids."""


def _renew_lock() -> None:
    """In the child of a fork, in which the thread that held it may not exist."""
    global lock  # noqa: PLW0603  # each process has its own
    lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)


def join(acceptor: Acceptor, fd: int) -> Queue:
    """The acceptor begins to take from the queue of this descriptor, which is returned. OSError if it is not open."""
    status = os.fstat(fd)
    queue = status.st_dev, status.st_ino
    with lock:
        _acceptors.setdefault(queue, {})[id(acceptor)] = weakref.ref(acceptor)
        others = [other for other in _tell_all(queue) if other is not acceptor]
    if len(others) == 1:  # it was alone before
        others[0]._line_up_soon()
    return queue


def leave(acceptor: Acceptor, queue: Queue) -> None:
    """It does not take from there any more."""
    with lock:
        _acceptors[queue].pop(id(acceptor), None)
        others = _tell_all(queue)
    for other in others:
        other._line_up_soon()


def _tell_all(queue: Queue) -> list[Acceptor]:
    """Tell the queue's acceptors whether there are several; return them. Those that were dropped are forgotten."""
    members = _acceptors[queue]
    living = [acceptor for ref in members.values() if (acceptor := ref()) is not None]
    for key in [key for key, ref in members.items() if ref() is None]:
        del members[key]
    if not members:
        del _acceptors[queue]
    for acceptor in living:
        acceptor._set_shared(len(living) > 1)
    return living
