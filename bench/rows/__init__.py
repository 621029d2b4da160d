"""The rows of the comparison, by topic."""

from rows import bulk, churn, echo, http, rest, scheduling, threads, timers, tls  # noqa: F401  (each declares its rows)
from rows.declare import ROWS, LocalRow, Row, ServerRow

__all__ = ["ROWS", "SHORT", "LocalRow", "Row", "ServerRow"]

SHORT = frozenset(
    {
        *("bulk-in-protocol", "bulk-out-protocol", "small-writes", "sendfile"),
        *("echo-1k-protocol", "echo-1k-buffered", "echo-1k-streams", "echo-1k-sock", "echo-1k-readline"),
        *("unix-1k-protocol", "unix-1k-streams", "udp-1k-endpoint", "echo-1k-protocol-1000"),
        *("echo-10k-protocol", "echo-10k-buffered", "echo-10k-streams", "echo-10k-readline"),
        *("echo-100k-protocol", "echo-100k-buffered", "echo-100k-streams"),
        *("churn-protocol", "http-httptools", "http-uvicorn", "http-aiohttp", "websockets-1k"),
        *(row.name for row in ROWS.values() if row.topic in ("rest", "scheduling", "timers")),
        *("tls-1k-protocol", "tls-10k-protocol", "tls-10k-buffered", "tls-100k-protocol"),
        *("tls-handshake-protocol", "tls-resumed-protocol"),
    }
)
"""The names of the rows that each stand for others alike."""
