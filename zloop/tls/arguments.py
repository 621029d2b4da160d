"""What a TLS connection is asked for, checked and completed."""

from __future__ import annotations

import ssl


def positive(seconds: float | None, default: float, name: str) -> float:
    """A time-out, in seconds; None is the default. ValueError if it is not positive."""
    if seconds is None:
        return default
    if seconds <= 0:
        raise ValueError(f"{name} should be a positive number, got {seconds}")
    return seconds


def default_context(server_side: bool, server_hostname: str | None) -> ssl.SSLContext:
    """A client's, where the program names none. ValueError for a server, which needs a certificate."""
    if server_side:
        raise ValueError("Server side SSL needs a valid SSLContext")
    context = ssl.create_default_context()
    if not server_hostname:
        context.check_hostname = False
    return context
