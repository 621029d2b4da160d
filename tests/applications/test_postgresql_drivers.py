"""asyncpg and psycopg talk to a PostgreSQL of their own, on zloop and on asyncio: by TCP, by TLS, on a Unix socket."""

import asyncio
import itertools
import random
import sys

import pytest
from databases import running_postgres
from serving import Process, environment, sections
from support import LOCALHOST, until

asyncpg = pytest.importorskip("asyncpg", reason="it comes with nox -s applications")
psycopg = pytest.importorskip("psycopg", reason="it comes with nox -s applications")

LARGE = random.Random("large").randbytes(4 << 20)
ROWS = [(number, f"row {number}") for number in range(5000)]
LONG_QUERY = "SELECT pg_sleep(600)"


@pytest.fixture(scope="module")
def postgres():
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["tcp", "tls", "unix"])
def address(request, postgres):
    """How a driver reaches the server, by names that both drivers know, and the kind of connection."""
    if request.param == "tls" and not postgres.has_tls:
        pytest.skip("this PostgreSQL was built without TLS")
    host = str(postgres.folder) if request.param == "unix" else LOCALHOST
    return {"host": host, "port": postgres.port, "user": "zloop", "password": "secret"}, request.param


def for_asyncpg(address, server):
    options, kind = address
    return options | {"database": "postgres", "ssl": server.client_context if kind == "tls" else False}


def for_psycopg(address, server):
    options, kind = address
    tls = {"sslmode": "verify-full", "sslrootcert": str(server.folder / "ca.pem")} if kind == "tls" else {}
    return options | {"dbname": "postgres", "sslmode": "disable", "autocommit": True} | tls


def test_asyncpg_queries(run, postgres, address):
    """A pool's connections at once, values larger than any buffer both ways, cursors, and COPY both ways."""

    async def scenario():
        async with asyncpg.create_pool(**for_asyncpg(address, postgres), min_size=4, max_size=4) as pool:
            query = "SELECT $1::int, pg_sleep(0.002)"
            numbers = await asyncio.gather(*(pool.fetchval(query, number) for number in range(60)))
            assert numbers == list(range(60))
            assert await pool.fetchval("SELECT $1::bytea", LARGE) == LARGE
            async with pool.acquire() as connection, connection.transaction():
                encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                assert await connection.fetchval(encrypted) == (address[1] == "tls")
                await connection.execute("CREATE TEMP TABLE copied (number int, text text) ON COMMIT DROP")
                await connection.copy_records_to_table("copied", records=ROWS)
                stored = "SELECT * FROM copied ORDER BY number"
                assert [tuple(row) async for row in connection.cursor(stored, prefetch=100)] == ROWS
                pieces = []

                async def take(piece):
                    pieces.append(piece)

                await connection.copy_from_query(stored, output=take, format="csv")
                assert b"".join(pieces).decode() == "".join(f"{number},{text}\n" for number, text in ROWS)

    run(scenario())


def test_asyncpg_cancels(run, postgres, address):
    """A cancelled query ends on the server, too, and the connection goes on."""

    async def scenario():
        connection = await asyncpg.connect(**for_asyncpg(address, postgres))
        other = await asyncpg.connect(**for_asyncpg(address, postgres))
        try:
            running = "SELECT count(*) FROM pg_stat_activity WHERE query = $1 AND state = 'active'"
            task = asyncio.create_task(connection.execute(LONG_QUERY))
            while not await other.fetchval(running, LONG_QUERY):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await connection.fetchval("SELECT 1") == 1
            with pytest.raises(TimeoutError):
                await connection.execute(LONG_QUERY, timeout=0.2)
            assert await connection.fetchval("SELECT 1") == 1
            while await other.fetchval(running, LONG_QUERY):
                await asyncio.sleep(0.001)
        finally:
            await connection.close()
            await other.close()

    run(scenario())


def test_asyncpg_is_notified(run, postgres, address):
    """Notifications come to a connection that waits for nothing; its end, by the server, is told as well."""

    async def scenario():
        connection = await asyncpg.connect(**for_asyncpg(address, postgres))
        other = await asyncpg.connect(**for_asyncpg(address, postgres))
        told, ended = [], asyncio.Event()
        await connection.add_listener("news", lambda *arguments: told.append(arguments[2:]))
        connection.add_termination_listener(lambda _connection: ended.set())
        for number in range(20):
            await other.execute("SELECT pg_notify('news', $1)", str(number))
        await until(lambda: len(told) == 20)
        assert told == [("news", str(number)) for number in range(20)]
        await other.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        await ended.wait()
        assert connection.is_closed()
        await other.close()

    run(scenario())


def test_psycopg_queries(run, postgres, address):
    """Connections at once, a large value both ways, a pipeline, and COPY both ways."""

    async def scenario():
        async def count(first):
            async with await psycopg.AsyncConnection.connect(**for_psycopg(address, postgres)) as connection:
                query = "SELECT %s::int, pg_sleep(0.002)"
                return [(await (await connection.execute(query, [first + n])).fetchone())[0] for n in range(10)]

        numbers = await asyncio.gather(*map(count, range(0, 50, 10)))
        assert [*itertools.chain(*numbers)] == list(range(50))
        async with await psycopg.AsyncConnection.connect(**for_psycopg(address, postgres)) as connection:
            assert await (await connection.execute("SELECT %b::bytea", [LARGE])).fetchone() == (LARGE,)
            async with connection.pipeline():
                cursors = [await connection.execute("SELECT %s::int", [number]) for number in range(200)]
                assert [(await cursor.fetchone())[0] for cursor in cursors] == list(range(200))
            await connection.execute("CREATE TEMP TABLE copied (number int, text text)")
            cursor = connection.cursor()
            async with cursor.copy("COPY copied FROM STDIN") as copy:
                for row in ROWS:
                    await copy.write_row(row)
            async with cursor.copy("COPY copied TO STDOUT") as copy:
                copy.set_types(["int4", "text"])
                assert [row async for row in copy.rows()] == ROWS

    run(scenario())


def test_psycopg_cancels_and_is_notified(run, postgres, address):
    """A cancelled query ends on the server, too, and the connection goes on: it is told of notifications."""

    async def scenario():
        connect = psycopg.AsyncConnection.connect
        async with (
            await connect(**for_psycopg(address, postgres)) as connection,
            await connect(**for_psycopg(address, postgres)) as other,
        ):

            async def active():
                query = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
                return (await (await other.execute(query, [LONG_QUERY])).fetchone())[0]

            task = asyncio.create_task(connection.execute(LONG_QUERY))
            while not await active():
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not await active()
            await connection.execute("LISTEN news")
            for number in range(20):
                await other.execute("SELECT pg_notify('news', %s)", [str(number)])
            told = [notice.payload async for notice in connection.notifies(stop_after=20, timeout=10)]
            assert told == [str(number) for number in range(20)]

    run(scenario())


def test_program_on_the_page(postgres, tmp_path):
    """The example in docs/clients.md."""
    [files] = [section.files for section in sections("clients.md") if section.files]
    (tmp_path / "query.py").write_text(files["query.py"])
    url = f"postgresql://zloop:secret@{LOCALHOST}:{postgres.port}/postgres"
    with Process([sys.executable, "query.py"], tmp_path, env=environment(DATABASE_URL=url)) as program:
        assert program.process.wait(30) == 0, program.log()
        assert program.log() == "zloop.loop: 4950\n"
