"""Children: what each echoes arrives byte for byte, and each ends with the status or the signal that it ended by."""

import asyncio
import signal
from asyncio import subprocess

import keyed

PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}


async def run(world):
    random = world.random("children")

    async def step():
        await random.choice((echo, kill, status))(random)

    await world.repeat("children", step, 0.3)


async def echo(random):
    """More than a pipe holds, through cat(1)."""
    key, count = random.getrandbits(48), random.randrange(1, 300_000)
    child = await asyncio.create_subprocess_exec("cat", **PIPES)
    output, _ = await child.communicate(keyed.stream(key, 0, count))
    assert len(output) == count, f"{len(output)} of {count} bytes came through a child"
    keyed.check(key, 0, output)
    assert child.returncode == 0, f"cat ended with {child.returncode}"


async def kill(random):
    child = await asyncio.create_subprocess_exec("cat", **PIPES)
    await asyncio.sleep(random.uniform(0, 0.01))
    number = random.choice((signal.SIGKILL, signal.SIGTERM))
    child.send_signal(number)
    output, _ = await child.communicate()
    assert (output, child.returncode) == (b"", -number), f"a killed child ended with {child.returncode}, {output!r}"


async def status(random):
    expected = random.randrange(256)
    child = await asyncio.create_subprocess_exec("sh", "-c", f"exit {expected}", stdin=subprocess.DEVNULL)
    assert await child.wait() == expected, f"a shell did not exit with {expected}: {child.returncode}"
