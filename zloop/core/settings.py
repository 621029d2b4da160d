"""Settings from environment variables."""

import os

TLS_BACKENDS = ("direct", "portable")


def tls_backend() -> str:
    """The TLS backend that ZLOOP_TLS names, one of TLS_BACKENDS; ValueError for another name."""
    backend = os.environ.get("ZLOOP_TLS") or TLS_BACKENDS[0]
    if backend not in TLS_BACKENDS:
        raise ValueError(
            f"ZLOOP_TLS is {backend!r} in the environment; it may be 'direct' (straight to OpenSSL where that is safe: "
            "as without it) or 'portable' (through the ssl module)"
        )
    return backend


def adaptive_polling() -> bool:
    """Whether turns may skip polls (adaptive_polling.hpp): not with ZLOOP_ADAPTIVE_POLLING=0. ValueError for others."""
    value = os.environ.get("ZLOOP_ADAPTIVE_POLLING") or "1"
    if value not in ("0", "1"):
        raise ValueError(
            f"ZLOOP_ADAPTIVE_POLLING is {value!r} in the environment; it may be '1' (a turn that has callbacks to run "
            "may skip its poll: as without it) or '0' (every turn polls)"
        )
    return value == "1"
