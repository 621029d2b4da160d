# The reading half of a TLS connection's protocol.

import asyncio

from typing_extensions import disjoint_base

@disjoint_base
class TlsReader:
    @property
    def _app_protocol(self) -> asyncio.BaseProtocol | None: ...
