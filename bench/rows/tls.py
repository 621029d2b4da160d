"""TLS: echo through connections that stay, also at a rate of requests that is given, and handshakes."""

from __future__ import annotations

from rows.declare import KIB, server
from rows.echo import SIZES, serve_buffered, serve_protocol, serve_read

COMMON = {"topic": "tls", "limit": "echo", "tls": True}
WAYS = {
    "protocol": ("Protocol", serve_protocol),
    "buffered": ("BufferedProtocol", serve_buffered),
    "streams": ("streams, read()", serve_read),
}

for label, size in SIZES.items():
    for way, (what, serve) in WAYS.items():
        load = f"echo --tls new --size {size}"
        server(f"tls-{label}-{way}", f"TLS, {what}, {size // KIB} KiB", serve, load=load, **COMMON)
# Every loop is asked the same, and what tells them apart is how long the last of sixteen connections waits.
RATE = 2000
rated_load = f"echo --tls new --size {SIZES['100k']} --rate {RATE}"
server("tls-100k-rate", f"TLS, Protocol, 100 KiB, {RATE:,} requests/s", serve_protocol, load=rated_load, **COMMON)
for way, (what, serve) in WAYS.items():
    load = "churn --tls {} --size 64"
    server(f"tls-handshake-{way}", f"a TLS handshake, {what}", serve, load=load.format("new"), **COMMON)
    server(f"tls-resumed-{way}", f"a resumed TLS handshake, {what}", serve, load=load.format("resumed"), **COMMON)
