"""The loops that are driven, and the certificates that their TLS connections have."""

import asyncio
import functools
import os
import ssl

import trustme


class LosesBytes(asyncio.SelectorEventLoop):
    """Drops the last byte of some writes."""

    def _make_socket_transport(self, *arguments, **options):
        transport = super()._make_socket_transport(*arguments, **options)
        plain = transport.write
        transport.write = lambda data: plain(data[:-1] if len(data) == 5000 else data)
        return transport


class LastComesFirst(asyncio.SelectorEventLoop):
    """Runs some callbacks before those that were scheduled earlier."""

    def call_soon(self, callback, *arguments, context=None):
        handle = super().call_soon(callback, *arguments, context=context)
        if arguments == (7,):
            self._ready.rotate()
        return handle


class LeaksDescriptors(asyncio.SelectorEventLoop):
    """Leaves a descriptor open when a connection is closed."""

    def _make_socket_transport(self, sock, *arguments, **options):
        os.dup(sock.fileno())
        return super()._make_socket_transport(sock, *arguments, **options)


KIND = os.environ.get("FUZZ_LOOP", "zloop")
"""zloop; or asyncio, to show that no more is asked for; or one of the sick loops."""


def new_loop():
    """A loop of the kind that is driven."""
    if KIND == "zloop":
        import zloop

        return zloop.new_event_loop()
    return {"asyncio": asyncio.SelectorEventLoop, **{sick.__name__: sick for sick in SICK}}[KIND]()


SICK = (LosesBytes, LastComesFirst, LeaksDescriptors)


class Contexts:
    """A server's context, and a client's that trusts it."""

    def __init__(self):
        authority = trustme.CA()
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("tls.example").configure_cert(self.server)
        self.client = ssl.create_default_context()
        authority.configure_trust(self.client)


contexts = functools.cache(Contexts)
