"""Subinterpreters are refused plainly, and leave the main interpreter's loops alone."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.zloop_only

# Runs CODE in subinterpreters of one kind: before the main interpreter has loaded zloop, and beside an open loop there.
PROGRAM = '''
import asyncio
import sys

CODE = """
try:
    import zloop
    zloop.new_event_loop()
except ImportError as exc:
    print(exc, flush=True)
"""


def legacy_or_own(is_own):
    if sys.version_info >= (3, 13):
        import _interpreters as interpreters

        interpreter = interpreters.create("isolated" if is_own else "legacy")
        failure = interpreters.exec(interpreter, CODE)
    else:
        import _xxsubinterpreters as interpreters

        interpreter = interpreters.create(isolated=is_own)
        failure = interpreters.run_string(interpreter, CODE)
    assert failure is None, failure
    interpreters.destroy(interpreter)


def public():
    from concurrent import interpreters

    interpreter = interpreters.create()
    interpreter.exec(CODE)
    interpreter.close()


def of_the_c_api():
    import _testcapi

    assert _testcapi.run_in_subinterp(CODE) == 0


run = {
    "own": lambda: legacy_or_own(True),
    "legacy": lambda: legacy_or_own(False),
    "public": public,
    "c": of_the_c_api,
}[sys.argv[1]]


async def main():
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    return "zloop runs"


run()
import zloop

loop = zloop.new_event_loop()
for _ in range(2):
    print(loop.run_until_complete(main()), flush=True)
    run()
print(loop.run_until_complete(main()), flush=True)
loop.close()
'''

REFUSED = "zloop does not run in a subinterpreter; use asyncio's own loop there"


def run_program(program, kind):
    """Run a program, and return its lines; it has ended well."""
    command = [sys.executable, "-P", "-X", "faulthandler", "-c", program, kind]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def from_version(version, kind):
    mark = pytest.mark.skipif(sys.version_info < version, reason="this Python has none of these")
    return pytest.param(kind, marks=mark)


@pytest.mark.parametrize("kind", [from_version((3, 12), "own"), "legacy", from_version((3, 14), "public"), "c"])
def test_a_subinterpreter_is_refused(kind):
    if kind == "c":
        pytest.importorskip("_testcapi", reason="this Python comes without its own tests")
    assert run_program(PROGRAM, kind) == [REFUSED, "zloop runs"] * 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 the native modules ask, with the first loop")
def test_the_import_of_the_package_is_what_is_refused():
    program = PROGRAM.replace("    zloop.new_event_loop()\n", "").replace("run()\nimport zloop", "run(); sys.exit()")
    assert run_program(program, "legacy") == [REFUSED]
