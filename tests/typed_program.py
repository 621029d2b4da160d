"""What a program that names its loop's type may write: for mypy, which has nothing to say against it."""

from __future__ import annotations

import asyncio

import zloop


async def use(loop: zloop.Loop) -> str:
    child, protocol = await loop.subprocess_shell(asyncio.SubprocessProtocol, "true")
    other, _ = await loop.subprocess_exec(asyncio.SubprocessProtocol, "true", stdin=None)
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    timer: asyncio.TimerHandle = loop.call_later(1, print, "later")
    timer.cancel()
    for each in (child, other, transport, server):
        each.close()
    return f"{type(protocol).__name__}, {child.get_returncode()}, {other.get_returncode()}, {loop.time():.1f}"


loop: asyncio.AbstractEventLoop = zloop.new_event_loop()
loop.close()
typed_loop = zloop.new_event_loop()
typed_loop.run_until_complete(use(typed_loop))
typed_loop.close()


async def answer() -> int:
    return 42


number: int = zloop.run(answer(), debug=False) + zloop.run(answer(), loop_factory=zloop.Loop)
zloop.install_as_uvloop()
