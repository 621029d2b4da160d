"""What the loop, its transports and its servers need of a socket object."""

from __future__ import annotations

import os
import socket

try:
    from ssl import SSLSocket
except ImportError:  # an interpreter built without OpenSSL
    SSLSocket = None  # type: ignore[assignment,misc]

# Python's own class, whatever a program may have put in its place before or since: what that does, its methods know.
plain_socket = next((kind for kind in socket.socket.__mro__ if kind.__module__ == "socket"), None)

WOULD_BLOCK = (BlockingIOError, InterruptedError)

# Past socket.socket's properties, which make members of enumerations of them: that takes longer than the system calls.
_family_of = socket.SocketType.family.__get__
_type_of = socket.SocketType.type.__get__


def refuse_ssl_socket(sock: object) -> None:
    """TypeError for an ssl.SSLSocket, whose own state machine a loop cannot follow."""
    if SSLSocket is not None and isinstance(sock, SSLSocket):
        raise TypeError("Socket cannot be of type SSLSocket")


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


def let_go_socket(sock: socket.socket) -> None:
    """End hold_socket() and close the socket: the descriptor goes now, unless a makefile() still uses it."""
    sock._io_refs -= 1  # type: ignore[attr-defined]
    sock.close()


def kind_of(sock: socket.socket) -> tuple[int, int, int]:
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


def wrap_accepted(listener: socket.socket, fd: int) -> socket.socket:
    """The socket object for a connection that the listener has accepted, and that does not block.

    It owns the descriptor, which is closed if there is no object to be had.
    """
    try:
        return wrap_descriptor(*kind_of(listener), fd)
    except BaseException:
        os.close(fd)
        raise


def closed_socket(family: int, kind: int, proto: int) -> socket.socket:
    """An object like that of a connection that is closed already."""
    try:
        sock = socket.socket(family, kind, proto)
    except OSError:  # no descriptor is to be had, not even for a moment: an object that never had one must do
        return socket.socket.__new__(socket.socket)
    sock.close()
    return sock
