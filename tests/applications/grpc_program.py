"""A server and clients of grpc.aio on one loop, for test_clients.py: says what was tried, in the end.

python grpc_program.py zloop|asyncio
"""

import asyncio
import random
import sys

import grpc

LARGE = random.Random("large").randbytes(2 << 20)
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
NAME = "test.Echo"


async def unary(request, context):
    if request == b"refuse":
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not here")
    if request == b"wait":
        await asyncio.sleep(600)
    return request


async def stream(requests, context):
    async for request in requests:
        yield request


async def main():
    server = grpc.aio.server(options=OPTIONS)
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(NAME, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
        await talk(channel)
    await server.stop(1)


async def talk(channel):
    call, streams = channel.unary_unary(f"/{NAME}/Unary"), channel.stream_stream(f"/{NAME}/Stream")
    answers = await asyncio.gather(*(call(b"%d" % number) for number in range(100)))
    assert answers == [b"%d" % number for number in range(100)]
    assert await call(LARGE) == LARGE

    async def requests():
        for number in range(200):
            yield b"%d" % number

    assert [answer async for answer in streams(requests())] == [b"%d" % number for number in range(200)]
    waiting = call(b"wait")
    await call(b"another")
    assert waiting.cancel()
    try:
        await waiting
        raise AssertionError("it was cancelled")
    except asyncio.CancelledError:
        assert waiting.cancelled()
    assert await status_of(call(b"wait", timeout=0.05)) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert await status_of(call(b"refuse")) is grpc.StatusCode.PERMISSION_DENIED


async def status_of(call):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "zloop":
        import zloop

        zloop.run(main())
    else:
        asyncio.run(main())
    print(f"{kind}: unary, streams, cancelled, late, refused")
