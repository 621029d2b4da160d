"""What a transport keeps of the memory that write() and writelines() were passed."""

import array
import asyncio
import contextlib
import mmap
import sys

import pytest
from support import (
    Recorder,
    connection,
    pattern,
    receive_all,
    receive_exactly,
    several_turns,
    socket_pair,
)

BIG = 1 << 20
"""Many more bytes than the buffers of both ends of a narrow connection hold."""


@pytest.mark.zloop_only  # asyncio counts items, not bytes
@pytest.mark.parametrize("method", ["write", "writelines"])
def test_items_wider_than_a_byte(loop, run, method):
    numbers = array.array("I", range(BIG // 4))

    async def scenario():
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            view = memoryview(numbers)
            transport.write(view) if method == "write" else transport.writelines([view])
            transport.close()
            return await receive_all(loop, peer)

    assert run(scenario()) == numbers.tobytes()


@pytest.mark.zloop_only  # asyncio keeps a view, and sends what it shows then
@pytest.mark.parametrize("method", ["write", "writelines"])
@pytest.mark.parametrize("queued", [False, True], ids=["idle", "queued"])
def test_accepted_bytes_do_not_change_with_their_buffer(loop, run, method, queued):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            buffer = bytearray(b"a" * BIG if not queued else b"a" * 100)
            if queued:
                transport.write(b"a" * BIG)
            transport.write(buffer) if method == "write" else transport.writelines([buffer])
            total = len(buffer) + queued * BIG
            buffer[:] = b"b" * len(buffer)
            buffer.clear()  # a BufferError if anybody still held a view
            return set(await receive_exactly(loop, peer, total))

    assert run(scenario()) == {ord("a")}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python classes can export buffers since 3.12")
@pytest.mark.parametrize("action", ["write", "close", "abort", "set_protocol"])
def test_exporter_that_calls_the_transport_back(loop, run, action):
    """Letting go of a buffer runs the exporter's code: it may do anything to the transport."""

    class Exporter:
        def __buffer__(self, _flags):
            return memoryview(b"exported")

        def __release_buffer__(self, view):
            view.release()
            if released:
                return
            released.append(True)
            if action == "write":
                protocol.transport.write(b" released")
            elif action == "set_protocol":
                protocol.transport.set_protocol(protocol)
            else:
                getattr(protocol.transport, action)()

    released = []
    protocol = Recorder()

    async def scenario():
        async with connection(loop, lambda: protocol) as (transport, _protocol, peer):
            transport.write(memoryview(Exporter()))
            transport.write(memoryview(Exporter()))
            await several_turns()
            if action in ("write", "set_protocol"):
                transport.close()
            with contextlib.suppress(ConnectionResetError):
                await receive_all(loop, peer)
            await protocol.until_called("connection_lost")

    run(scenario())
    assert released
    assert protocol.names().count("connection_lost") == 1


@pytest.fixture
def mapping():
    """BIG bytes of anonymous mapped memory. It can be closed only when nobody looks at it any more."""
    with mmap.mmap(-1, BIG) as mapped:
        mapped.write(pattern(BIG))
        yield mapped


async def until_closable(mapping):
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(BufferError):
                mapping.close()
                return
            await asyncio.sleep(0)


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_mapped_memory_is_kept_and_not_copied(loop, loop_kind, run, method, mapping):
    if sys.version_info < (3, 12) and (loop_kind == "asyncio" or method == "writelines"):
        pytest.skip("before CPython 3.12 asyncio copies what has to wait, and writelines() joins")

    async def scenario():
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            with memoryview(mapping) as view:
                transport.write(view) if method == "write" else transport.writelines([view])
            with pytest.raises(BufferError):  # its caller's view is released, and another one is there
                mapping.close()
            received = await receive_exactly(loop, peer, BIG)
            await until_closable(mapping)
            return received

    assert run(scenario()) == pattern(BIG)


@pytest.mark.parametrize("action", ["abort", "close and reset"])
def test_mapped_memory_is_given_back_with_the_connection(loop, run, action, mapping):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.write(memoryview(mapping)[1:])
            if action == "abort":
                transport.abort()
            else:
                transport.close()
                peer.close()
            await protocol.until_called("connection_lost")
            await until_closable(mapping)

    run(scenario())
    assert mapping.closed


@pytest.mark.zloop_only  # asyncio's transports for pipes copy everything that waits
def test_mapped_memory_written_to_a_pipe_is_kept(loop, run, mapping):
    async def scenario():
        with socket_pair() as (left, right):
            transport, protocol = await loop.connect_write_pipe(Recorder, left)
            transport.write(memoryview(mapping))
            transport.close()
            with pytest.raises(BufferError):
                mapping.close()
            received = await receive_all(loop, right)
            await protocol.until_called("connection_lost")
            await until_closable(mapping)
            return received

    assert run(scenario()) == pattern(BIG)
