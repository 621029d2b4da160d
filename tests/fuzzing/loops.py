"""The loops that are driven, and the certificates that their TLS connections have."""

import asyncio
import functools
import os
import ssl

import trustme


class LastComesFirst(asyncio.SelectorEventLoop):
    """Runs some callbacks before those that were scheduled earlier."""

    def call_soon(self, callback, *arguments, context=None):
        handle = super().call_soon(callback, *arguments, context=context)
        if arguments == (7,):
            self._ready.rotate()
        return handle


KIND = os.environ.get("FUZZ_LOOP", "zloop")
"""zloop; asyncio, to show that no more is asked for; or, to show that it is found, LastComesFirst."""

FAULT = os.environ.get("FUZZ_FAULT")
"""What a machine does wrong itself, to show that it is found: loses bytes, leaks descriptors, doubles datagrams,
loses callbacks, leaves readers."""


def new_loop():
    """A loop of the kind that is driven."""
    if KIND == "zloop":
        import zloop

        return zloop.new_event_loop()
    return {"asyncio": asyncio.SelectorEventLoop, "LastComesFirst": LastComesFirst}[KIND]()


class Contexts:
    """A server's context, and a client's that trusts it."""

    def __init__(self):
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("tls.example").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


contexts = functools.cache(Contexts)
