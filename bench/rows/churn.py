"""Connections that come and go: connect, one message, its echo, close."""

from __future__ import annotations

from rows.declare import server
from rows.echo import serve_protocol, serve_read, serve_sockets

COMMON = {"topic": "churn", "load": "churn --size 1024", "limit": "echo"}

server("churn-protocol", "a connection per message, Protocol", serve_protocol, **COMMON)
server("churn-streams", "a connection per message, streams", serve_read, **COMMON)
server("churn-sock", "a connection per message, sock_accept() and the like", serve_sockets, **COMMON)
server("churn-unix", "a connection per message, Protocol, unix socket", serve_protocol, family="unix", **COMMON)
