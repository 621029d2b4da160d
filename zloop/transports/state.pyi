# What the transports and acceptors of a loop share.

from socket import socket

from zloop.core.loop import Loop
from zloop.transports.acceptor import Acceptor

def acceptor_of(loop: Loop, sock: socket) -> Acceptor | None: ...
