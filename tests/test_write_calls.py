"""How many system calls a write takes: as many as with asyncio, and one where the kernel takes everything.

They are counted by a library that comes before the C library (LD_PRELOAD), in a process of its own.
"""

import os
import shutil
import sys
import textwrap

import pytest
from support import TIME_LIMIT, compile_library, run_script
from tls_support import HOST, contexts_for

COUNTING_CALLS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* The program names a descriptor; the calls about it are counted. */
int counted_fd = -1, sends = 0, interests = 0;

#define COUNTING(type, name, counter, about, parameters, arguments) \
  type name parameters {                                            \
    if (about == counted_fd) ++counter;                             \
    return ((type(*) parameters)dlsym(RTLD_NEXT, #name)) arguments; \
  }

COUNTING(ssize_t, send, sends, fd, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
COUNTING(ssize_t, sendto, sends, fd,
         (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t to_size),
         (fd, data, size, flags, to, to_size))
COUNTING(ssize_t, sendmsg, sends, fd, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
COUNTING(int, sendmmsg, sends, fd, (int fd, struct mmsghdr *messages, unsigned count, int flags),
         (fd, messages, count, flags))
COUNTING(ssize_t, write, sends, fd, (int fd, const void *data, size_t size), (fd, data, size))
COUNTING(ssize_t, writev, sends, fd, (int fd, const struct iovec *vectors, int count), (fd, vectors, count))
COUNTING(int, epoll_ctl, interests, fd, (int epoll, int operation, int fd, struct epoll_event *event),
         (epoll, operation, fd, event))
"""

PRELUDE = """
import asyncio, contextlib, ctypes, os, socket, ssl, threading
library = ctypes.CDLL(None)
fd, sends, interests = (ctypes.c_int.in_dll(library, name) for name in ("counted_fd", "sends", "interests"))

@contextlib.contextmanager
def counted(thing):
    # Prints how many times something was sent by its descriptor, and how many times the poller was told of that.
    sends.value = interests.value = 0
    fd.value = thing if isinstance(thing, int) else thing.fileno()
    yield
    fd.value = -1
    print(sends.value, interests.value)

def large_pair():
    left, right = socket.socketpair()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    left.setblocking(False)
    return left, right

async def connected(loop):
    left, right = large_pair()
    transport, protocol = await loop.create_connection(asyncio.Protocol, sock=left)
    return transport, left, right

async def ended(transport, left):
    transport.abort()
    while left.fileno() != -1:
        await asyncio.sleep(0.001)
"""


@pytest.fixture(scope="module")
def counting_calls(tmp_path_factory):
    """The library that counts, as a path."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        pytest.skip("nothing counts calls")
    directory = tmp_path_factory.mktemp("preload")
    source, library = directory / "counting_calls.c", directory / "counting_calls.so"
    source.write_text(COUNTING_CALLS)
    return compile_library(compiler, source, library)


@pytest.fixture
def count(loop_kind, counting_calls, monkeypatch):
    """Run a coroutine function's body where calls are counted; the lines it printed."""
    # A sanitizer, if there is one, has to stay the first.
    monkeypatch.setenv("LD_PRELOAD", " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(counting_calls)])))

    def run(body):
        return run_script(
            loop_kind,
            f"""{PRELUDE}
async def main(loop):
{textwrap.indent(textwrap.dedent(body), "    ")}
loop = new_event_loop()
loop.run_until_complete(asyncio.wait_for(main(loop), {TIME_LIMIT}))
loop.close()
""",
        )

    return run


def test_each_write_is_one_call(count):
    assert (
        count("""
        transport, left, right = await connected(loop)
        for data in (b"x", b"x" * 100_000, bytearray(b"x"), memoryview(b"x" * 100_000)):
            with counted(left):
                transport.write(data)
        await ended(transport, left)
        right.close()
    """)
        == ["1 0"] * 4
    )


def test_writes_in_a_row_are_as_many_calls(count):
    assert count("""
        transport, left, right = await connected(loop)
        with counted(left):
            for _ in range(5):
                transport.write(b"x")
            await asyncio.sleep(0)
        await ended(transport, left)
        right.close()
    """) == ["5 0"]


def test_lines_are_one_call(count):
    assert (
        count("""
        transport, left, right = await connected(loop)
        for lines in ([b"head", b"body"], [b"x" * 20_000] * 4, [b"x", bytearray(b"y"), memoryview(b"z")]):
            with counted(left):
                transport.writelines(lines)
        await ended(transport, left)
        right.close()
    """)
        == ["1 0"] * 3
    )


def test_what_waits_leaves_by_one_call_when_there_is_room(count):
    told = count("""
        left, right = socket.socketpair()
        left.setblocking(False)
        right.setblocking(False)
        transport, protocol = await loop.create_connection(asyncio.Protocol, sock=left)
        transport.set_write_buffer_limits(1 << 30)
        with counted(left):
            while not transport.get_write_buffer_size():
                transport.write(b"x" * 100_000)
            sends.value = 0
            for _ in range(20):
                transport.write(b"y")
        with counted(left):
            while True:
                with contextlib.suppress(BlockingIOError):
                    if right.recv(1 << 20).endswith(b"y"):
                        break
                await asyncio.sleep(0)
            while transport.get_write_buffer_size():
                await asyncio.sleep(0)
        await ended(transport, left)
        right.close()
    """)
    assert told[0] == "0 1"
    assert told[1].endswith(" 1")


def test_each_datagram_is_one_call(count):
    assert (
        count("""
        receiver = socket.socket(type=socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        for whole in ({"remote_addr": receiver.getsockname()}, {"local_addr": ("127.0.0.1", 0)}):
            transport, protocol = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **whole)
            address = () if "remote_addr" in whole else (receiver.getsockname(),)
            sock = transport.get_extra_info("socket")
            with counted(sock):
                for _ in range(3):
                    transport.sendto(b"x", *address)
                await asyncio.sleep(0)
            await ended(transport, sock)
        receiver.close()
    """)
        == ["3 0"] * 2
    )


def test_each_write_to_a_pipe_is_one_call(count):
    assert (
        count("""
        read_end, write_end = os.pipe()
        pipe = os.fdopen(write_end, "wb", 0)
        transport, protocol = await loop.connect_write_pipe(asyncio.Protocol, pipe)
        for data in (b"x", bytearray(b"x"), memoryview(b"x" * 1000)):
            with counted(write_end):
                transport.write(data)
        with counted(write_end):
            transport.writelines([b"one", b"two"])
        transport.abort()
        while not pipe.closed:
            await asyncio.sleep(0.001)
        os.close(read_end)
    """)
        == ["1 0"] * 4
    )


def test_each_write_of_tls_is_one_call(count, tmp_path, monkeypatch, backend):
    monkeypatch.setenv("ZLOOP_TLS", backend)
    trusted, served = tmp_path / "trusted.pem", tmp_path / "served.pem"
    authority = contexts_for("direct").authority
    authority.cert_pem.write_to_path(trusted)
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(served)
    assert (
        count(f"""
        left, right = large_pair()
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain({str(served)!r})
        trusting = ssl.create_default_context(cafile={str(trusted)!r})
        shaken = []
        peer = threading.Thread(target=lambda: shaken.append(served.wrap_socket(right, server_side=True)))
        peer.start()
        transport, protocol = await loop.create_connection(
            asyncio.Protocol, sock=left, ssl=trusting, server_hostname={HOST!r}
        )
        peer.join()
        for data in (b"x", b"x" * 20_000, bytearray(b"x"), b"x" * 100_000):
            with counted(left):
                transport.write(data)
        for lines in ([b"head", b"body"], [b"x" * 20_000] * 4, [b"x", bytearray(b"y"), memoryview(b"z")]):
            with counted(left):
                transport.writelines(lines)
        await ended(transport, left)
        shaken[0].close()
    """)
        == ["1 0"] * 7
    )
