"""What the loop, its transports and its servers need of a socket object."""

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
except ImportError:  # an interpreter built without OpenSSL
    SSLSocket = None  # type: ignore[assignment,misc]

# Python's own class, whatever a program may have put in its place before or since: what that does, its methods know.
plain_socket = next((kind for kind in socket.socket.__mro__ if kind.__module__ == "socket"), None)

WOULD_BLOCK = (BlockingIOError, InterruptedError)

# The methods by which a stream's bytes go, and a datagram.
STREAM_METHODS = tuple(name for name in ("recv", "recv_into", "send", "sendmsg") if hasattr(socket.SocketType, name))
DATAGRAM_METHODS = ("recvfrom", "send", "sendto")

RECEIVES_NO_MORE = getattr(select, "POLLRDHUP", 0)  # or both directions have ended, which poll() tells unasked

# Past socket.socket's properties, which make members of enumerations of them: that takes longer than the system calls.
_family_of = socket.SocketType.family.__get__
_type_of = socket.SocketType.type.__get__


def refuse_ssl_socket(sock: object) -> None:
    """TypeError for an ssl.SSLSocket, whose own state machine a loop cannot follow."""
    if SSLSocket is not None and isinstance(sock, SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


def inherits_methods(kind: object, names: tuple[str, ...]) -> bool:
    """Whether a class has its methods of these names from Python's socket class."""
    if plain_socket is None or not (isinstance(kind, type) and issubclass(kind, plain_socket)):
        return False
    return all(getattr(kind, name) is getattr(plain_socket, name) for name in names)


def has_plain_methods(sock: object, names: tuple[str, ...]) -> bool:
    """Whether a socket object's methods of these names are those of Python's class, whose work the engine does.

    They are not in an object that is no socket, whatever it hands its calls on to, in one of a class that overrides
    them, and in one that has been given others. What is put into Python's class itself makes no difference: those who
    do that look for calls that block.
    """
    return inherits_methods(type(sock), names) and not any(name in getattr(sock, "__dict__", ()) for name in names)


def accepting_socket(sock: Any) -> socket.socket | None:
    """The socket object that accept() of `sock` belongs to: itself, or the one that it hands its calls on to.

    None if that method is not the one of Python's class: connections are what it returns then.
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
    """Keep the descriptor open while the engine uses it, even if somebody else closes the socket object.

    Otherwise its number could become another file's under the engine's hands. socket.makefile() uses the same count.
    """
    sock._io_refs += 1  # type: ignore[attr-defined]


def unhold_socket(sock: socket.socket) -> None:
    """End hold_socket(). If somebody has closed the socket object meanwhile, this is when the descriptor goes."""
    sock._decref_socketios()  # type: ignore[attr-defined]


def let_go_socket(sock: socket.socket, held: socket.socket | None = None, *, lost: bool = False) -> None:
    """End hold_socket() and close the socket: the descriptor goes now, unless a makefile() still uses it.

    `held` is what was held if that is another object, which `sock` hands its calls on to. A descriptor that is lost,
    as somebody closed it past the object, is left to whoever has its number by now.
    """
    if held is None:
        held = sock
    if lost:
        held.detach()
    unhold_socket(held)
    sock.close()


def has_ended(sock: socket.socket) -> bool:
    """Whether the peer of a SOCK_SEQPACKET socket sends no more, and nothing but empty datagrams is left of it.

    The kernel answers every call with an empty one then.
    """
    poller = select.poll()
    poller.register(sock, RECEIVES_NO_MORE)
    unread = int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(struct.calcsize("i"))), sys.byteorder)
    return bool(poller.poll(0)) and unread == 0


def params_of(sock: socket.socket) -> tuple[int, int, int]:
    """Family, type and protocol, as plain numbers: what its accepted connections have, too."""
    return _family_of(sock), _type_of(sock), sock.proto


def wrap_descriptor(family: int, kind: int, proto: int, fd: int) -> socket.socket:
    """The socket object of a descriptor that does not block, and that it owns if it is returned."""
    connection = socket.socket(family, kind, proto, fileno=fd)
    # The object has to know. SOCK_NONBLOCK in its type would spare the system call; but whoever replaces socket.socket,
    # as proxies do, may know plain types only.
    try:
        connection.setblocking(False)
    except BaseException:
        connection.detach()
        raise
    return connection


def closed_socket(family: int, kind: int, proto: int) -> socket.socket:
    """An object like that of a connection that is closed already."""
    try:
        sock = socket.socket(family, kind, proto)
    except OSError:  # no descriptor is to be had, not even for a moment: an object that never had one must do
        return socket.socket.__new__(socket.socket)
    sock.close()
    return sock
