"""Processes made from and around a running loop: os.fork(), multiprocessing's three ways, process pools.

Everything runs in a process of its own, from a file, which multiprocessing can import.
"""

import subprocess
import sys
import textwrap

import pytest
from support import NEW_EVENT_LOOP, TIME_LIMIT

METHODS = ["fork", "spawn", "forkserver"]

PRELUDE = """
import asyncio, multiprocessing, os, signal, socket, subprocess, sys, time, warnings
from concurrent.futures import ProcessPoolExecutor

def fork(action):
    # The child's status is that of action(); -1 for an exception.
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = action() or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return pid

def use_everything(loop):
    # One of each thing that a loop can do.
    async def use():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.send(b"data")
            assert await loop.sock_recv(left, 4) == b"data"
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert await process.communicate(b"data") == (b"data", None)
        signalled = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, signalled.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await signalled.wait()
        loop.remove_signal_handler(signal.SIGUSR1)
        await asyncio.sleep(0.001)
        return True
    return loop.run_until_complete(asyncio.wait_for(use(), 10))

def run_own_loop(_argument=None):
    loop = new_event_loop()
    try:
        return use_everything(loop)
    finally:
        loop.close()

def send_greeting(connection):
    connection.send("hello")
    connection.close()

def pid_and(number):
    return os.getpid(), number
"""


@pytest.fixture
def script(loop_kind, tmp_path):
    """Run a file with `loop` made and closed around a piece of source; the lines it printed."""

    def run(source):
        file = tmp_path / "program.py"
        file.write_text(f"""{NEW_EVENT_LOOP[loop_kind]}
{PRELUDE}
def main(loop):
{textwrap.indent(textwrap.dedent(source), "    ")}

if __name__ == "__main__":
    loop = new_event_loop()
    main(loop)
    loop.close()
""")
        command = [sys.executable, "-W", "error::ResourceWarning", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
        assert done.stderr == ""
        assert done.returncode == 0
        return done.stdout.splitlines()

    return run


def test_forked_child_makes_its_own_loop(script):
    """From inside a callback of the running loop, which then goes on as if nothing had been."""
    assert script("""
        async def use():
            child = fork(lambda: print("child", run_own_loop()))
            assert os.waitpid(child, 0)[1] == 0
        loop.run_until_complete(use())
        print("parent", use_everything(loop))
    """) == ["child True", "parent True"]


def test_parent_goes_on_beside_its_child(script):
    """Both loops run at the same time; what the parent waited for when it forked still comes."""
    assert script("""
        left, right = socket.socketpair()
        left.setblocking(False)
        async def use():
            receiving = loop.create_task(loop.sock_recv(left, 4))
            timer = loop.create_task(asyncio.sleep(0.02))
            await asyncio.sleep(0)
            child = fork(lambda: run_own_loop() and None)
            process = await asyncio.create_subprocess_exec("true")
            right.send(b"data")
            print(await receiving, await process.wait(), await timer)
            assert os.waitpid(child, 0)[1] == 0
        loop.run_until_complete(asyncio.wait_for(use(), 10))
        left.close()
        right.close()
    """) == ["b'data' 0 None"]


@pytest.mark.zloop_only  # asyncio's child takes descriptors out of the parent's poll set
def test_child_that_leaves_by_the_interpreters_own_way(script):
    """It finalizes everything, the inherited loop and its transports too, and takes nothing from the parent."""
    assert script("""
        def fork_and_leave(forked):
            pid = os.fork()
            if pid == 0:
                warnings.simplefilter("ignore")  # of all that it does not close
                sys.exit(0)
            forked.set_result(pid)
        async def use():
            server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            forked = loop.create_future()
            loop.call_soon(fork_and_leave, forked)
            await loop.run_in_executor(None, os.waitpid, await forked, 0)
            print(await reader.read())
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
        loop.run_until_complete(use())
    """)[-1:] == ["b''"]


@pytest.mark.zloop_only  # asyncio's child shares the parent's epoll
def test_child_goes_on_with_the_loop_it_inherited(script):
    assert script("""
        left, right = socket.socketpair()
        loop.add_reader(left, lambda: (print("read", left.recv(4)), loop.stop()))
        def go_on():
            right.send(b"one!")
            loop.run_forever()
            print("child", use_everything(loop))
            loop.close()
        assert os.waitpid(fork(go_on), 0)[1] == 0
        right.send(b"two!")
        loop.run_forever()
        loop.remove_reader(left)
        print("parent", use_everything(loop))
        left.close()
        right.close()
    """) == ["read b'one!'", "child True", "read b'two!'", "parent True"]


def test_child_that_ran_the_loop_leaves_by_the_interpreters_own_way(script):
    """The pipe that signals come by is made anew: the parent reads the other one."""
    assert script("""
        loop.run_until_complete(asyncio.sleep(0.001))
        child = os.fork()
        if not child:
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
            print("child", flush=True)
            sys.exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        loop.run_until_complete(asyncio.sleep(0.001))
        print("parent")
    """) == ["child", "parent"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before 3.12 a child's signals are written to the parent's loop")
def test_signal_in_the_child_is_not_the_parents(script):
    assert script("""
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "signal")
        async def use():
            def get_signal():
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0)
            assert os.waitpid(fork(get_signal), 0)[1] == 0
            await asyncio.sleep(0.01)
            print(seen)
            os.kill(os.getpid(), signal.SIGUSR1)
            while not seen:
                await asyncio.sleep(0.001)
            print(seen)
        loop.run_until_complete(use())
    """) == ["[]", "['signal']"]


@pytest.mark.parametrize("method", METHODS)
def test_process_pool(script, method):
    """Results come back, a child can run a loop, and the loop goes on meanwhile."""
    assert script(f"""
        async def use():
            with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("{method}")) as pool:
                answers = await asyncio.gather(*[loop.run_in_executor(pool, pid_and, number) for number in range(4)])
                assert os.getpid() not in {{pid for pid, _number in answers}}
                print([number for _pid, number in answers], await loop.run_in_executor(pool, run_own_loop))
        loop.run_until_complete(use())
        print("parent", use_everything(loop))
    """) == ["[0, 1, 2, 3] True", "parent True"]


@pytest.mark.parametrize("method", METHODS)
def test_process_started_while_the_loop_runs(script, method):
    """Its pipe is watched by the loop; so is its end, by its sentinel."""
    assert script(f"""
        context = multiprocessing.get_context("{method}")
        async def use():
            ours, theirs = context.Pipe()
            process = context.Process(target=send_greeting, args=(theirs,))
            process.start()
            theirs.close()
            readable, ended = asyncio.Event(), asyncio.Event()
            loop.add_reader(ours, readable.set)
            loop.add_reader(process.sentinel, ended.set)
            await readable.wait()
            print(ours.recv())
            await ended.wait()
            loop.remove_reader(ours)
            loop.remove_reader(process.sentinel)
            process.join()
            print(process.exitcode)
            ours.close()
            process.close()
        loop.run_until_complete(asyncio.wait_for(use(), 10))
    """) == ["hello", "0"]


@pytest.mark.parametrize("method", METHODS)
def test_process_made_before_the_loop_runs(script, method):
    assert script(f"""
        process = multiprocessing.get_context("{method}").Process(target=run_own_loop)
        process.start()
        print("parent", use_everything(loop))
        process.join()
        print(process.exitcode)
    """) == ["parent True", "0"]
