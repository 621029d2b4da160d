"""redis-py's asyncio side talks to a Redis or Valkey of its own, on zloop and on asyncio: by TCP, on a Unix socket."""

import asyncio
import random

import pytest
from databases import running_redis
from support import LOCALHOST

redis = pytest.importorskip("redis.asyncio", reason="it comes with nox -s applications")

LARGE = random.Random("large").randbytes(4 << 20)


@pytest.fixture(scope="module")
def server():
    with running_redis() as server:
        yield server


@pytest.fixture(params=["tcp", "unix"])
def address(request, server):
    return {"unix_socket_path": server.path} if request.param == "unix" else {"host": LOCALHOST, "port": server.port}


def test_redis_commands(run, address):
    """Connections at once, a large value both ways, a pipeline, a transaction."""

    async def scenario():
        async with redis.Redis(**address) as client:
            await client.flushall()
            assert sorted(await asyncio.gather(*(client.incr("count") for _ in range(100)))) == list(range(1, 101))
            await client.set("large", LARGE)
            assert await client.get("large") == LARGE
            async with client.pipeline(transaction=False) as pipeline:
                for number in range(1000):
                    pipeline.rpush("list", number)
                assert await pipeline.execute() == list(range(1, 1001))
            async with client.pipeline(transaction=True) as pipeline:
                await pipeline.watch("count")
                pipeline.multi()
                pipeline.incrby("count", 11)
                assert await pipeline.execute() == [111]
            assert await client.lrange("list", 0, -1) == [b"%d" % number for number in range(1000)]

    run(scenario())


def test_redis_cancels(run, address):
    """A command that waits may be given up, by a timeout or a cancellation; the client goes on."""

    async def scenario():
        async with redis.Redis(**address) as client:
            await client.flushall()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.blpop(["nothing"], timeout=0), 0.02)
            task = asyncio.create_task(client.blpop(["something"], timeout=0))
            while not [one for one in await client.client_list() if one["cmd"] == "blpop"]:
                await asyncio.sleep(0.001)
            await client.rpush("something", "value")
            assert await task == (b"something", b"value")
            assert await client.ping()

    run(scenario())


def test_redis_publishes(run, address):
    """Subscribers get every message in its order; one that waits while there is none gets the next one."""

    async def scenario():
        async with redis.Redis(**address) as client, client.pubsub() as one, client.pubsub() as other:
            for subscriber in (one, other):
                await subscriber.subscribe("news")
                assert (await subscriber.get_message(timeout=10))["type"] == "subscribe"

            async def messages(subscriber):
                return [(await subscriber.get_message(timeout=10))["data"] for _ in range(200)]

            tasks = [asyncio.create_task(messages(subscriber)) for subscriber in (one, other)]
            for number in range(200):
                assert await client.publish("news", number) == 2
            assert await asyncio.gather(*tasks) == [[b"%d" % number for number in range(200)]] * 2

    run(scenario())
