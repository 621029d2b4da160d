"""The FastAPI application that test_uvicorn.py has uvicorn serve in a process of its own.

Uploads and downloads go by names that the client makes up, so that it can ask on another connection how far one got.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import logging
import random
import threading

from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

BLOCK_SIZE = 1 << 16
"""Bytes in each block of a download."""

PARTY = 4
"""Requests that /together waits for before it answers any."""

log = logging.getLogger("uvicorn.error")
gathering = threading.Barrier(PARTY)
transfers = {}


@dataclasses.dataclass
class Transfer:
    """How many bytes of an upload or download have passed, and whether it is "running", "complete" or "cut off"."""

    size: int = 0
    state: str = "running"


def block(number):
    """One block of a download; no two are alike."""
    return random.Random(number).randbytes(BLOCK_SIZE)


@contextlib.contextmanager
def transfer(name):
    """Keep a Transfer by that name; it is cut off unless the block comes to its end."""
    transfers[name] = running = Transfer()
    try:
        yield running
        running.state = "complete"
    finally:
        if running.state == "running":
            running.state = "cut off"


@contextlib.asynccontextmanager
async def lifespan(_app):
    log.info("The application starts on %s.", loop_module())
    yield
    log.info("The application ends on %s.", loop_module())


app = FastAPI(lifespan=lifespan)


def loop_module():
    return type(asyncio.get_running_loop()).__module__


@app.get("/loop")
async def get_loop():
    """The module that the running loop's class is from."""
    return loop_module()


@app.get("/client")
async def get_client(request: Request):
    """The port that the client's end of the connection has: each connection has its own."""
    return request.client.port


@app.get("/number/{number}")
async def get_number(number: int):
    return number


@app.get("/together")
def get_together():
    """Runs in a thread, and answers once as many of these requests as make a party are in theirs."""
    return gathering.wait()


@app.get("/transfers/{name}")
async def get_transfer(name: str):
    """The transfer of that name, or null where there is none yet."""
    return transfers.get(name)


@app.get("/download/{name}")
async def get_download(name: str, blocks: int):
    async def body():
        with transfer(name) as running:
            for number in range(blocks):
                running.size += BLOCK_SIZE
                yield block(number)
                await asyncio.sleep(0)  # a turn in which to learn that the client is gone

    return StreamingResponse(body(), media_type="application/octet-stream")


@app.post("/upload/{name}")
async def post_upload(name: str, request: Request):
    """The SHA-256 of the request's body, or null to a client that is gone."""
    digest = hashlib.sha256()
    with contextlib.suppress(ClientDisconnect), transfer(name) as running:
        async for chunk in request.stream():
            running.size += len(chunk)
            digest.update(chunk)
        return digest.hexdigest()


@app.post("/form")
async def post_form(file: UploadFile):
    """The name and the SHA-256 of a form's file, which FastAPI spools to a disk and reads in threads."""
    digest = hashlib.sha256()
    while chunk := await file.read(BLOCK_SIZE):
        digest.update(chunk)
    return file.filename, digest.hexdigest()
