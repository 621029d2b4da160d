"""Other threads: what each schedules on the loop runs once and in order; jobs of the executor return what they do."""

import asyncio
import functools
import threading
import time

PRODUCERS = 3
JOBS = 20


async def run(world):
    await asyncio.gather(produce(world), employ(world))


async def produce(world):
    """Threads that call call_soon_threadsafe() while the loop runs; each ends, and others take their place."""
    random = world.random("producers")

    async def step():
        done = asyncio.Event()
        received = {number: [] for number in range(PRODUCERS)}
        counts = [random.randrange(1, 400) for _ in received]
        finished = []

        def receive(producer, number):
            if "forgets a callback" in world.faults and number == counts[producer] // 2:
                return
            received[producer].append(number)

        def finish(producer):
            finished.append(producer)
            if len(finished) == PRODUCERS:
                done.set()

        def work(producer):
            for number in range(counts[producer]):
                world.loop.call_soon_threadsafe(receive, producer, number)
                if number % 50 == 0:
                    time.sleep(0.0005)
            world.loop.call_soon_threadsafe(finish, producer)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(PRODUCERS)]
        for thread in threads:
            thread.start()
        await done.wait()
        for thread in threads:
            await world.loop.run_in_executor(None, thread.join)
        for producer, count in enumerate(counts):
            assert received[producer] == list(range(count)), f"thread {producer}: callbacks lost or out of order"

    await world.repeat("rounds of threads", step, 0.1)


async def employ(world):
    random = world.random("executor")

    def job(value, seconds):
        time.sleep(seconds)
        if value % 7 == 0:
            raise ValueError(value)
        return value * value

    async def step():
        values = [random.randrange(10_000) for _ in range(JOBS)]
        calls = [
            world.loop.run_in_executor(None, functools.partial(job, value, random.uniform(0, 0.002)))
            for value in values
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for value, result in zip(values, results, strict=True):
            failed = isinstance(result, ValueError) and result.args == (value,)
            assert failed if value % 7 == 0 else result == value * value, f"a job for {value} returned {result!r}"

    await world.repeat("batches of jobs", step, 0.1)
