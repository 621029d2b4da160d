"""Stream transports: half-close, close and abort."""

import contextlib
import socket

import pytest
from support import (
    BIG,
    connection,
    descriptor_closed,
    outcome_of,
    pattern,
    receive_all,
    reset,
    several_turns,
    until,
)

# -- half-close ----------------------------------------------------------------------------------------------------


def test_write_eof_ends_the_stream_and_leaves_reading(loop, run):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            assert transport.can_write_eof() is True
            transport.write(b"x" * BIG)
            transport.write_eof()
            transport.write_eof()
            assert len(await receive_all(loop, peer)) == BIG
            assert not transport.is_closing()
            peer.send(b"answer")
            await protocol.until(lambda: protocol.received == b"answer")

    run(scenario())


def test_writing_after_write_eof(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, peer):
            transport.write(b"before")
            transport.write_eof()
            outcomes = [outcome_of(transport.write, data) for data in (b"after", b"", bytearray(b"after"))]
            outcomes += [outcome_of(transport.writelines, lines) for lines in ([b"after"], [])]
            outcomes += [outcome_of(transport.write, "text")]
            outcomes += [outcome_of(transport.write_eof)]
            return outcomes, await receive_all(loop, peer)

    outcomes, received = same_as_asyncio(scenario).returned
    assert outcomes[0][1] is outcomes[1][1] is RuntimeError
    assert received == b"before"


def test_write_eof_after_close(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, protocol, _peer):
            transport.close()
            first = outcome_of(transport.write_eof)
            await protocol.until_called("connection_lost")
            await until(lambda: descriptor_closed(transport))
            return first, outcome_of(transport.write_eof)

    assert same_as_asyncio(scenario).raised is None


def test_close_after_write_eof_waits_for_the_rest(loop, run):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.write(b"x" * BIG)
            transport.write_eof()
            transport.close()
            assert len(await receive_all(loop, peer)) == BIG
            assert await protocol.until_called("connection_lost") is None

    run(scenario())


# -- close and abort -----------------------------------------------------------------------------------------------


def test_close_sends_what_was_written(loop, run):
    content = pattern(BIG)

    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.write(content)
            transport.close()
            assert transport.is_closing()
            await several_turns()
            assert "connection_lost" not in protocol.names()
            received = await receive_all(loop, peer)
            assert await protocol.until_called("connection_lost") is None
            assert transport.get_write_buffer_size() == 0
            return received

    assert run(scenario()) == content


def test_abort_discards_what_was_written(loop, run):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            transport.write(b"x" * BIG)
            transport.abort()
            assert transport.is_closing()
            assert transport.get_write_buffer_size() == 0
            assert await protocol.until_called("connection_lost") is None
            with contextlib.suppress(ConnectionResetError):
                return len(await receive_all(loop, peer))
            return 0

    assert run(scenario()) < BIG


def test_connection_lost_comes_later_and_not_inside_close(loop, run):
    async def scenario(ending):
        async with connection(loop) as (transport, protocol, _peer):
            getattr(transport, ending)()
            inside = protocol.names()
            await protocol.until_called("connection_lost")
            return inside

    assert run(scenario("close")) == run(scenario("abort")) == ["connection_made"]


ENDINGS = {
    "close": lambda transport, peer: transport.close(),
    "abort": lambda transport, peer: transport.abort(),
    "end": lambda transport, peer: peer.shutdown(socket.SHUT_WR),
    "reset": lambda transport, peer: reset(peer),
}


TWO_ENDINGS = [
    (first, second) for first in ENDINGS for second in ENDINGS if first != "reset" or second not in ("end", "reset")
]


@pytest.mark.parametrize("pending", [False, True], ids=["idle", "writing"])
@pytest.mark.parametrize(("first", "second"), TWO_ENDINGS)
def test_connection_is_lost_exactly_once(loop, run, first, second, pending):
    async def scenario():
        async with connection(loop, narrow=True) as (transport, protocol, peer):
            if pending:
                transport.write(b"x" * BIG)
            ENDINGS[first](transport, peer)
            ENDINGS[second](transport, peer)
            await several_turns()
            transport.close()
            transport.abort()
            await protocol.until_called("connection_lost")
            transport.close()
            transport.abort()
            await several_turns()
            return protocol.names().count("connection_lost")

    assert run(scenario()) == 1


def test_writing_to_a_closed_transport_is_dropped_with_a_warning_in_the_end(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, peer):
            transport.close()
            for _ in range(10):
                transport.write(b"dropped")
            return await receive_all(loop, peer)

    outcome = same_as_asyncio(scenario)
    assert outcome.returned == b""
    assert {message for _level, message, _exception in outcome.logged} == {"socket.send() raised exception."}


@pytest.mark.zloop_only  # asyncio does the same since 3.14, and raised before
def test_lines_written_to_a_closed_transport_are_dropped_like_writes(loop, run, loop_log):
    async def scenario():
        async with connection(loop) as (transport, protocol, peer):
            transport.close()
            for _ in range(10):
                transport.writelines([b"drop", b"ped"])
            await protocol.until_called("connection_lost")
            transport.writelines([b"dropped"])
            return await receive_all(loop, peer)

    assert run(scenario()) == b""
    assert set(loop_log.take_messages()) == {"socket.send() raised exception."}


def test_writing_nothing_to_a_closed_transport_counts_for_nothing(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            transport.close()
            for _ in range(10):
                transport.write(b"")
                transport.writelines([])

    assert same_as_asyncio(scenario).logged == []


def test_writing_to_a_transport_whose_connection_is_lost(same_as_asyncio):
    async def scenario(loop):
        async with connection(loop) as (transport, protocol, _peer):
            transport.abort()
            await protocol.until_called("connection_lost")
            await until(lambda: descriptor_closed(transport))
            return [outcome_of(transport.write, b"late") for _ in range(3)]

    assert same_as_asyncio(scenario).returned[0] == ("returned", None)


def test_writing_while_the_rest_is_flushed(same_as_asyncio):
    """Up to now asyncio still takes what is written between close() and the end of the flushing."""

    async def scenario(loop):
        async with connection(loop, narrow=True) as (transport, _protocol, peer):
            transport.write(b"x" * BIG)
            transport.close()
            transport.write(b"written after close")
            return len(await receive_all(loop, peer)) - BIG

    assert same_as_asyncio(scenario).raised is None


CALLS_AFTER_THE_END = {
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "pause_reading": lambda transport: transport.pause_reading(),
    "resume_reading": lambda transport: transport.resume_reading(),
    "get_write_buffer_size": lambda transport: transport.get_write_buffer_size(),
    "get_write_buffer_limits": lambda transport: transport.get_write_buffer_limits(),
    "set_write_buffer_limits": lambda transport: transport.set_write_buffer_limits(high=10),
    "can_write_eof": lambda transport: transport.can_write_eof(),
    "is_closing": lambda transport: transport.is_closing(),
    "is_reading": lambda transport: transport.is_reading(),
    "get_protocol": lambda transport: transport.get_protocol(),
    "get_extra_info": lambda transport: transport.get_extra_info("no such key"),
    "write nothing": lambda transport: transport.write(b""),
    "write text": lambda transport: transport.write("text"),
}


@pytest.mark.parametrize("name", CALLS_AFTER_THE_END)
def test_calls_after_the_end(same_as_asyncio, name):
    async def scenario(loop):
        async with connection(loop) as (transport, _protocol, _peer):
            pass
        return outcome_of(CALLS_AFTER_THE_END[name], transport)

    assert same_as_asyncio(scenario).raised is None


def test_reset_in_the_middle_of_a_large_write(loop, run, protocol_factory):
    async def scenario():
        async with connection(loop, protocol_factory, narrow=True) as (transport, protocol, peer):
            transport.write(b"x" * BIG)
            await protocol.until_called("pause_writing")
            await loop.sock_recv(peer, 1000)
            reset(peer)
            lost = await protocol.until_called("connection_lost")
            assert transport.get_write_buffer_size() == 0
            return lost, protocol.names()

    lost, names = run(scenario())
    assert isinstance(lost, (ConnectionResetError, BrokenPipeError))
    assert names == ["connection_made", "pause_writing", "connection_lost"]


def test_reset_while_reading_is_paused_is_noticed_by_writing(loop, run):
    async def scenario():
        async with connection(loop) as (transport, protocol, peer):
            transport.pause_reading()
            reset(peer)
            while not transport.is_closing():
                transport.write(b"x")
                await several_turns(1)
            return await protocol.until_called("connection_lost")

    assert isinstance(run(scenario()), (ConnectionResetError, BrokenPipeError))
