"""A state machine that drives two loops, each in a thread of its own, from other threads and from one another.

What one thread passes to a loop runs there once, and in the order of its calls, whether the loop runs meanwhile, stops
and runs again, or is closed under its callers: what has run by then is what they have passed first. Which of several
threads comes first is left to the system, so a program that fails need not fail again.
"""

import asyncio
import concurrent.futures
import gc
import socket
import sys
import threading
import time

from ends import Stream
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from loops import FAULT, KIND, new_loop
from machines import LIMIT, descriptors

LOOPS = st.integers(0, 1)
COUNTS = st.sampled_from([1, 2, 10, 200])
NESTED = {
    "run_forever": "This event loop is already running",
    "run_until_complete": "This event loop is already running",
    "other run_forever": "Cannot run the event loop while another loop is running",
    "close": "Cannot close a running event loop",
}
CLOSED = "Event loop is closed"


class Runner:
    """A loop that a thread runs, over and over until it is closed."""

    def __init__(self, debug):
        self.loop = new_loop()
        self.loop.set_debug(debug)
        self.loop.slow_callback_duration = float("inf")
        self.problems = []
        self.loop.set_exception_handler(lambda _loop, context: self.problems.append(context))
        self.runs = 0
        self.goes_on = True
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while self.goes_on:
            self.runs += 1
            self.loop.run_forever()
        self.loop.close()

    def stop(self):
        """Let the loop be run again."""
        self.loop.call_soon_threadsafe(self.loop.stop)

    def close(self):
        self.goes_on = False
        self.stop()
        self.thread.join(LIMIT)
        assert not self.thread.is_alive()

    def do(self, function, *arguments):
        """Call a function in the loop's thread; what it returns."""

        async def call():
            return function(*arguments)

        return self.result(call())

    def result(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(LIMIT)


class Threads(RuleBasedStateMachine):
    """Two loops in two threads."""

    @initialize(debug=st.booleans())
    def begin(self, debug):
        gc.freeze()
        self.descriptors = descriptors()
        self.threads = set(threading.enumerate())
        self.debug = debug
        self.runners = [Runner(debug) for _ in range(2)]
        self.problems = []

    def settle(self):
        """Wait until all that was passed to the loops has run."""
        for runner in self.runners:
            runner.do(int)
            runner.do(int)  # what the first has passed on
            assert not runner.problems, runner.problems

    def in_threads(self, functions):
        threads = [threading.Thread(target=function) for function in functions]
        for thread in threads:
            thread.start()
        return threads

    def join(self, threads):
        for thread in threads:
            thread.join(LIMIT)
            assert not thread.is_alive()

    # ---- callbacks

    @rule(index=LOOPS, count=COUNTS, producers=st.integers(1, 3), stops=st.integers(0, 2))
    def pass_callbacks(self, index, count, producers, stops):
        """From several threads at once, while the loop stops and runs again."""
        runner = self.runners[index]
        arrived = [[] for _ in range(producers)]

        def produce(to):
            for number in range(count):
                if FAULT != "loses callbacks" or number != 9:
                    runner.loop.call_soon_threadsafe(to.append, number)

        threads = self.in_threads([lambda to=to: produce(to) for to in arrived])
        for _ in range(stops):
            runner.stop()
        self.join(threads)
        self.settle()
        assert arrived == [list(range(count))] * producers

    @rule(index=LOOPS, count=COUNTS)
    def pass_on(self, index, count):
        """From one loop to the other."""
        source, target = self.runners[index], self.runners[1 - index]
        arrived = []

        def produce():
            for number in range(count):
                target.loop.call_soon_threadsafe(arrived.append, number)

        source.do(produce)
        self.settle()
        assert arrived == list(range(count))

    @rule(index=LOOPS, count=COUNTS, which=st.sampled_from(["even", "all", "none"]), elsewhere=st.booleans())
    def cancel_callbacks(self, index, count, which, elsewhere):
        """In the loop's thread, before they can run; or in another one, where a race decides."""
        runner = self.runners[index]
        ran = []

        def cancelled(number):
            return which == "all" or (which == "even" and number % 2 == 0)

        def produce():
            handles = [runner.loop.call_soon_threadsafe(ran.append, number) for number in range(count)]
            for number, handle in enumerate(handles):
                if cancelled(number):
                    handle.cancel()

        if elsewhere:
            produce()
        else:
            runner.do(produce)
        self.settle()
        expected = [number for number in range(count) if not cancelled(number)]
        assert [number for number in ran if not cancelled(number)] == expected
        assert ran == sorted(set(ran))
        if not elsewhere:
            assert ran == expected

    # ---- coroutines

    @rule(index=LOOPS, sleeps=st.integers(0, 3), nested=st.booleans())
    def run_coroutine(self, index, sleeps, nested):
        """In one loop, or in the other one for it."""
        runner, other = self.runners[index], self.runners[1 - index]

        async def work():
            for _ in range(sleeps):
                await asyncio.sleep(0)
            return asyncio.get_running_loop(), threading.current_thread()

        async def delegate():
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), other.loop))

        where = other if nested else runner
        assert runner.result(delegate() if nested else work()) == (where.loop, where.thread)

    @rule(index=LOOPS, wait=st.sampled_from([0, 0.0005]), resists=st.booleans())
    def cancel_coroutine(self, index, wait, resists):
        """From this thread: it hears of it, once."""
        runner = self.runners[index]
        heard = []

        async def work():
            try:
                await asyncio.sleep(LIMIT)
            except asyncio.CancelledError:
                heard.append(True)
                if resists:
                    return
                raise

        async def is_done():
            return not [task for task in asyncio.all_tasks() if task.get_coro().cr_code is work.__code__]

        future = asyncio.run_coroutine_threadsafe(work(), runner.loop)
        time.sleep(wait)
        assert future.cancel()
        deadline = time.monotonic() + LIMIT
        while not runner.result(is_done()) and time.monotonic() < deadline:
            pass
        assert runner.result(is_done())
        assert len(heard) <= 1
        assert future.cancelled()

    @rule(index=LOOPS, count=COUNTS)
    def finish_futures(self, index, count):
        """A loop's futures, from another thread by way of the loop."""
        runner = self.runners[index]

        async def wait():
            futures = [runner.loop.create_future() for _ in range(count)]

            def finish():
                for number, future in enumerate(futures):
                    runner.loop.call_soon_threadsafe(future.set_result, number)

            thread = threading.Thread(target=finish)
            thread.start()
            results = [await future for future in futures]
            thread.join()
            return results

        assert runner.result(wait()) == list(range(count))

    @rule(size=st.sampled_from([0, 1, 5000, 400_000]), index=LOOPS)
    def send(self, size, index):
        """Bytes from one loop to the other."""
        stream = Stream(index)
        content = stream.next(size)
        stream.written += size
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)

            async def send():
                await asyncio.get_running_loop().sock_sendall(left, content)
                left.shutdown(socket.SHUT_WR)

            async def receive():
                while data := await asyncio.get_running_loop().sock_recv(right, 65_536):
                    if problem := stream.take(data):
                        return problem
                return stream.received

            sending = asyncio.run_coroutine_threadsafe(send(), self.runners[index].loop)
            assert self.runners[1 - index].result(receive()) == size
            sending.result(LIMIT)

    # ---- running and closing

    @rule(index=LOOPS)
    def run_again(self, index):
        """A loop that stops and runs again keeps what it is passed meanwhile."""
        runner = self.runners[index]
        runs = runner.runs
        runner.stop()
        self.settle()
        assert runner.runs > runs

    @precondition(lambda _self: KIND == "zloop")  # CPython 3.13.0 takes the refusal for the end of the loop
    @rule(index=LOOPS, how=st.sampled_from(sorted(NESTED)))
    def nest(self, index, how):
        """A loop inside itself, or inside another one."""
        runner, other = self.runners[index], new_loop()

        def call():
            calls = {
                "run_forever": runner.loop.run_forever,
                "run_until_complete": lambda: runner.loop.run_until_complete(runner.loop.create_future()),
                "other run_forever": other.run_forever,
                "close": runner.loop.close,
            }
            try:
                calls[how]()
            except RuntimeError as error:
                return str(error)
            return None

        try:
            assert runner.do(call) == NESTED[how]
            assert runner.do(asyncio.get_running_loop) is runner.loop
            assert runner.loop.is_running()
        finally:
            other.close()

    @rule(index=LOOPS, callers=st.integers(1, 3))
    def close_under_callers(self, index, callers):
        """Each is told; what has run by then is what it has passed first."""
        runner = self.runners[index]
        arrived = [[] for _ in range(callers)]
        told = []

        def call(to):
            try:
                for number in range(1_000_000):
                    runner.loop.call_soon_threadsafe(to.append, number)
            except RuntimeError as error:
                told.append(str(error))

        threads = self.in_threads([lambda to=to: call(to) for to in arrived])
        runner.close()
        self.join(threads)
        assert told == [CLOSED] * callers
        for numbers in arrived:
            assert numbers == list(range(len(numbers)))
        assert not runner.problems
        self.runners[index] = Runner(self.debug)

    @rule(index=LOOPS)
    def close_under_a_coroutine(self, index):
        """What was passed to a loop that has ended is not lost unseen."""
        runner = self.runners[index]
        runner.close()

        async def work():
            pass

        coroutine = work()
        try:
            asyncio.run_coroutine_threadsafe(coroutine, runner.loop)
        except RuntimeError as error:
            assert str(error) == CLOSED  # noqa: PT017
        else:
            raise AssertionError("a loop that is closed has taken a coroutine")
        finally:
            coroutine.close()
        self.runners[index] = Runner(self.debug)

    @rule(index=LOOPS, count=st.integers(1, 3))
    def run_in_executor(self, index, count):
        runner = self.runners[index]

        async def work():
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                return await asyncio.gather(*(runner.loop.run_in_executor(pool, abs, -each) for each in range(count)))

        assert runner.result(work()) == list(range(count))

    @rule()
    def collect(self):
        gc.collect()

    # ---- the end

    def teardown(self):
        if not hasattr(self, "runners"):
            return
        failed = sys.exception() is not None
        if not failed:
            self.settle()
        for runner in self.runners:
            runner.close()
        if failed:
            return
        self.runners.clear()
        gc.collect()
        assert set(threading.enumerate()) - self.threads == set()
        assert descriptors() == self.descriptors
