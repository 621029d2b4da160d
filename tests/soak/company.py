"""What the loops of one soak know of each other: each runs in a thread of its own, and may call the others'."""

import asyncio
import collections
import contextlib
import socket
import threading


class Company:
    """The loops that are there, and what passes between their threads."""

    def __init__(self, count):
        self.count = count
        self.timers = collections.deque()  # handles, for other threads to cancel
        self.transports = collections.deque()  # for other threads to drop
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        self.listening.setblocking(False)
        self._loops = {}
        self._lock = threading.Lock()
        self._ready = threading.Barrier(count)
        self._done = 0

    def close(self):
        self.listening.close()
        self.timers.clear()
        self.transports.clear()

    def neighbour_of(self, world):
        """The number of the world that it talks to: the next one."""
        return (world.number + 1) % self.count

    def call(self, number, function, *arguments):
        """Have a neighbour's loop call a function."""
        with self._lock:
            self._loops[number].call_soon_threadsafe(function, *arguments)

    def submit(self, number, coroutine):
        """Have it run a coroutine; the concurrent.futures.Future of its result."""
        with self._lock:
            return asyncio.run_coroutine_threadsafe(coroutine, self._loops[number])

    @contextlib.asynccontextmanager
    async def membership(self, world):
        """While all are there, they may call each other; nobody leaves before the others are done."""
        with self._lock:
            self._loops[world.number] = world.loop
        await world.loop.run_in_executor(None, self._ready.wait, world.patience)
        try:
            yield
        finally:
            with self._lock:
                self._done += 1
            deadline = world.loop.time() + 4 * world.patience
            while self._done < self.count and world.loop.time() < deadline:
                await asyncio.sleep(0.01)
            with self._lock:
                del self._loops[world.number]
