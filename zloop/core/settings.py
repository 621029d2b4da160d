"""What the environment asks of zloop."""

import os

TLS_WAYS = ("direct", "portable")


def tls_way() -> str:
    """The way that ZLOOP_TLS asks TLS to take, one of TLS_WAYS; ValueError for what it does not know."""
    way = os.environ.get("ZLOOP_TLS") or TLS_WAYS[0]
    if way not in TLS_WAYS:
        raise ValueError(
            f"ZLOOP_TLS is {way!r} in the environment; it may be 'direct' (straight to OpenSSL where that is safe: "
            "as without it) or 'portable' (through the ssl module)"
        )
    return way
