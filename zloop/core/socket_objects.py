"""Functions on socket objects, for the loop, its transports and its servers."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import sys
import termios
from typing import Any

try:
    from ssl import SSLSocket
except ImportError:  # pragma: no cover: an interpreter built without OpenSSL
    SSLSocket = None  # type: ignore[assignment,misc]

# Python's own class, also if a program has replaced socket.socket by a subclass.
plain_socket = next((kind for kind in socket.socket.__mro__ if kind.__module__ == "socket"), None)

WOULD_BLOCK = (BlockingIOError, InterruptedError)

# The methods that transfer a stream's bytes, and a datagram.
STREAM_METHODS = tuple(name for name in ("recv", "recv_into", "send", "sendmsg") if hasattr(socket.SocketType, name))
DATAGRAM_METHODS = ("recvfrom", "send", "sendto")

RECEIVES_NO_MORE = getattr(select, "POLLRDHUP", 0)  # without it, POLLHUP says so of both directions

# The base class's descriptors: socket.socket's properties make enum members, which takes longer than a system call.
_family_of = socket.SocketType.family.__get__
_type_of = socket.SocketType.type.__get__


def refuse_ssl_socket(sock: object) -> None:
    """TypeError for an ssl.SSLSocket, which has a TLS state machine of its own."""
    if SSLSocket is not None and isinstance(sock, SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def inherits_methods(kind: object, names: tuple[str, ...]) -> bool:
    """Whether a class inherits these methods from Python's socket class unchanged."""
    if plain_socket is None or not (isinstance(kind, type) and issubclass(kind, plain_socket)):
        return False
    return all(getattr(kind, name) is getattr(plain_socket, name) for name in names)


def has_plain_methods(sock: object, names: tuple[str, ...]) -> bool:
    """Whether these methods of a socket object are Python's own, in place of which the engine makes system calls.

    False for an object that is no socket (a proxy, for example), for a class that overrides one of them, and for an
    object to which a program has assigned one. Functions assigned to Python's class itself do not count: tools that
    detect blocking calls do that.
    """
    return inherits_methods(type(sock), names) and not any(name in getattr(sock, "__dict__", ()) for name in names)


def accepting_socket(sock: Any) -> socket.socket | None:
    """The socket object that accept() of `sock` is bound to: itself, or the one that a proxy forwards calls to.

    None if the method is not Python's own: then connections are what that method returns.
    """
    accept = getattr(sock, "accept", None)
    real = getattr(accept, "__self__", None)
    if not has_plain_methods(real, ("accept", "_accept")):
        return None
    return real if getattr(accept, "__func__", None) is getattr(plain_socket, "accept", None) else None


def is_tcp(sock: socket.socket) -> bool:
    """Whether it may be a TCP socket, whose small writes Nagle's algorithm would hold back."""
    return _family_of(sock) in (socket.AF_INET, socket.AF_INET6) and _type_of(sock) == socket.SOCK_STREAM


def hold_socket(sock: socket.socket) -> None:
    """Keep the descriptor open while the engine uses it, even if the program closes the socket object.

    Otherwise the number could become another file's while the engine uses it. socket.makefile() uses the same count.
    """
    sock._io_refs += 1  # type: ignore[attr-defined]


def unhold_socket(sock: socket.socket) -> None:
    """Undo hold_socket(). If the socket object has been closed meanwhile, this closes the descriptor."""
    sock._decref_socketios()  # type: ignore[attr-defined]


def let_go_socket(sock: socket.socket, held: socket.socket | None = None, *, lost: bool = False) -> None:
    """Undo hold_socket() and close the socket. The descriptor is closed, unless a makefile() still uses it.

    `held` is the object that hold_socket() was given, if that is another one, to which the proxy `sock` forwards calls.
    A `lost` descriptor, which was closed without the object, is not closed: the number is another file's.
    """
    if held is None:
        held = sock
    if lost:
        held.detach()
    unhold_socket(held)
    sock.close()


def has_ended(sock: socket.socket) -> bool:
    """Whether the peer of a SOCK_SEQPACKET socket has shut down and only empty datagrams are unread.

    recv(2) returns an empty datagram for every call then.
    """
    poller = select.poll()
    poller.register(sock, RECEIVES_NO_MORE)
    unread = int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(struct.calcsize("i"))), sys.byteorder)
    return bool(poller.poll(0)) and unread == 0


def params_of(sock: socket.socket) -> tuple[int, int, int]:
    """Family, type and protocol as ints; those of its accepted connections, too."""
    return _family_of(sock), _type_of(sock), sock.proto


def wrap_descriptor(family: int, kind: int, proto: int, fd: int) -> socket.socket:
    """A socket object that owns a non-blocking descriptor. On failure the caller still owns it."""
    connection = socket.socket(family, kind, proto, fileno=fd)
    # The object's own time-out must say so, too. SOCK_NONBLOCK in the type would save the system call, but programs
    # that replace socket.socket may know plain types only.
    try:
        connection.setblocking(False)
    except BaseException:
        connection.detach()
        raise
    return connection


def closed_socket(family: int, kind: int, proto: int) -> socket.socket:
    """A closed socket object, as of a connection that is closed."""
    try:
        sock = socket.socket(family, kind, proto)
    except OSError:  # no descriptor is left: an object that never had one
        return socket.socket.__new__(socket.socket)
    sock.close()
    return sock
