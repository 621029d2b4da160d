"""The rows of the comparison, by topic."""

from rows import bulk, churn, echo, http, rest, scheduling, timers, tls  # noqa: F401  (each declares its rows)
from rows.declare import ROWS, LocalRow, Row, ServerRow

__all__ = ["ROWS", "LocalRow", "Row", "ServerRow"]
