"""The applications and worker classes that test_gunicorn.py has gunicorn run in processes of their own."""

import asyncio
import json
import os
from typing import ClassVar

import zloop


def answer():
    """Who answers: the process, and the module that its loop's class is from."""
    return json.dumps({"pid": os.getpid(), "loop": type(asyncio.get_running_loop()).__module__}).encode()


if os.environ["GUNICORN_WORKER"] == "uvicorn":
    from zloop.gunicorn import UvicornWorker

    class ZloopWorker(UvicornWorker):
        CONFIG_KWARGS: ClassVar = {**UvicornWorker.CONFIG_KWARGS, "http": "h11", "lifespan": "off"}

    class AsyncioWorker(UvicornWorker):
        CONFIG_KWARGS: ClassVar = {"loop": "asyncio", "http": "h11", "lifespan": "off"}

    async def app(scope, receive, send):
        """ASGI: the answer, behind as many bytes as the request had."""
        assert scope["type"] == "http"
        size, more = 0, True
        while more:
            message = await receive()
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = answer()
        headers = [(b"content-length", b"%d" % len(body)), (b"x-received", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

else:
    from aiohttp import GunicornWebWorker, web
    from gunicorn.workers.base import Worker

    class ZloopWorker(GunicornWebWorker):
        new_loop = staticmethod(zloop.new_event_loop)

        def init_process(self):
            self.loop = self.new_loop()
            asyncio.set_event_loop(self.loop)
            Worker.init_process(self)

    class AsyncioWorker(ZloopWorker):
        new_loop = staticmethod(asyncio.SelectorEventLoop)

    async def respond(request):
        size = len(await request.read())
        return web.Response(body=answer(), headers={"x-received": str(size)})

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/", respond)
