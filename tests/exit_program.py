"""A process that ends while loops in daemon threads are inside of Python code.

    exit_program.py MODULE KINDS STATES [TLS...]

MODULE has new_event_loop(). Each of KINDS in each of STATES, both joined by commas, is a loop in a thread of its own:

* blocked: the code of that kind is in a call that gave up the interpreter's lock, and returns while all is torn down
* spinning: it runs on and on
* waiting: it has returned long ago, and the loop waits; something for it to do comes while all is torn down

TLS are the files of a server's certificate and key, for the kinds that need them.
"""

import asyncio
import importlib
import itertools
import os
import socket
import ssl
import sys
import tempfile
import threading
import time
import types

LOCALHOST = "127.0.0.1"
LIMIT = 20  # seconds

KINDS = {}
wake, waker = os.pipe() if __name__ == "__main__" else (-1, -1)
kept = []  # whatever has to live as long as the process


class TornDown:
    """The last thing that the interpreter takes apart: lets the threads go on, and goes on when they have ended."""

    # Nothing global is left by then.
    def __del__(
        self,
        linux=sys.platform == "linux",
        ends_threads=sys.version_info < (3, 14),
        write=os.write,
        waker=waker,
        listdir=os.listdir,
        sleep=time.sleep,
        leave=os._exit,
        limit=LIMIT,
    ):
        write(waker, bytes(1000))  # for every one of them
        if not linux or not ends_threads:
            sleep(0.05)  # a thread that wants the interpreter stops for ever
            return
        for _ in range(limit * 1000):
            if len(listdir("/proc/self/task")) == 1:
                return
            sleep(0.001)
        leave(3)


def kind(function):
    KINDS[function.__name__] = function
    return function


def of_protocol(base, name, result=None):
    """A factory of protocols that hold in the method `name`."""

    def factory(hold):
        def method(self, *args):
            hold()
            return result

        return type("Holding", (base,), {name: method})()

    return factory


class Buffered(asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        return bytearray(100)


class Releasing:
    """Holds when it goes."""

    def __init__(self, hold):
        self.hold = hold

    def __del__(self):
        self.hold()


def pair(type=socket.SOCK_STREAM):
    ends = socket.socketpair(socket.AF_UNIX, type)
    for end in ends:
        end.setblocking(False)
    kept.append(ends)
    return ends


# ---- handles


@kind
async def call_soon(loop, hold):
    loop.call_soon(hold)


@kind
async def call_soon_threadsafe(loop, hold):
    loop.call_soon_threadsafe(hold)


@kind
async def timer(loop, hold):
    loop.call_later(0.001, hold)


@kind
async def task_step(loop, hold):
    await asyncio.sleep(0)
    hold()


@kind
async def done_callback(loop, hold):
    future = loop.create_future()
    future.add_done_callback(lambda _future: hold())
    future.set_result(None)


@kind
async def reader(loop, hold):
    left, right = pair()
    right.send(b"x")
    loop.add_reader(left, lambda: (loop.remove_reader(left), hold()))


@kind
async def writer(loop, hold):
    left, _ = pair()
    loop.add_writer(left, lambda: (loop.remove_writer(left), hold()))


@kind
async def exception_handler(loop, hold):
    loop.set_exception_handler(lambda _loop, _context: hold())
    loop.call_soon(lambda: 1 / 0)


@kind
async def argument_of_a_callback_released(loop, hold):
    loop.call_soon(lambda _argument: None, Releasing(hold))


@kind
async def argument_of_a_timer_released(loop, hold):
    loop.call_later(1000, print, Releasing(hold)).cancel()


@kind
async def timers_released_by_close(loop, hold):
    other = new_event_loop()
    other.call_later(1000, print, Releasing(hold))
    other.close()


@kind
async def callbacks_released_by_close(loop, hold):
    other = new_event_loop()
    other.call_soon(print, Releasing(hold))
    other.close()


# ---- stream transports


async def connect(loop, protocol):
    left, right = pair()
    transport, _ = await loop.create_connection(lambda: protocol, sock=left)
    return transport, right


async def in_connection_made(loop, hold):
    await connect(loop, of_protocol(asyncio.Protocol, "connection_made")(hold))


async def in_data_received(loop, hold):
    _, peer = await connect(loop, of_protocol(asyncio.Protocol, "data_received")(hold))
    peer.send(b"x")


async def in_get_buffer(loop, hold):
    _, peer = await connect(loop, of_protocol(Buffered, "get_buffer", bytearray(100))(hold))
    peer.send(b"x")


async def in_buffer_updated(loop, hold):
    _, peer = await connect(loop, of_protocol(Buffered, "buffer_updated")(hold))
    peer.send(b"x")


async def in_eof_received(loop, hold):
    _, peer = await connect(loop, of_protocol(asyncio.Protocol, "eof_received")(hold))
    peer.shutdown(socket.SHUT_WR)


async def in_connection_lost(loop, hold):
    transport, _ = await connect(loop, of_protocol(asyncio.Protocol, "connection_lost")(hold))
    transport.abort()


async def in_connection_lost_of_a_failed_write(loop, hold):
    transport, peer = await connect(loop, of_protocol(asyncio.Protocol, "connection_lost")(hold))
    transport.pause_reading()
    transport.write(bytes(1 << 22))
    peer.close()


async def in_pause_writing(loop, hold):
    transport, _ = await connect(loop, of_protocol(asyncio.Protocol, "pause_writing")(hold))
    transport.write(bytes(1 << 22))


async def in_resume_writing(loop, hold):
    transport, peer = await connect(loop, of_protocol(asyncio.Protocol, "resume_writing")(hold))
    transport.write(bytes(1 << 22))
    loop.add_reader(peer, peer.recv, 1 << 20)


for function in (
    in_connection_made,
    in_data_received,
    in_get_buffer,
    in_buffer_updated,
    in_eof_received,
    in_connection_lost,
    in_connection_lost_of_a_failed_write,
    in_pause_writing,
    in_resume_writing,
):
    KINDS[function.__name__.replace("in_", "stream_", 1)] = function


async def serve(loop, factory):
    server = await loop.create_server(factory, LOCALHOST, 0)
    kept.append(socket.create_connection(server.sockets[0].getsockname()))


@kind
async def protocol_factory_of_a_server(loop, hold):
    await serve(loop, lambda: (hold(), asyncio.Protocol())[1])


@kind
async def connection_made_of_a_server(loop, hold):
    await serve(loop, lambda: of_protocol(asyncio.Protocol, "connection_made")(hold))


# ---- datagram endpoints


async def endpoint(loop, protocol):
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, local_addr=(LOCALHOST, 0))
    return transport


@kind
async def datagram_connection_made(loop, hold):
    await endpoint(loop, of_protocol(asyncio.DatagramProtocol, "connection_made")(hold))


@kind
async def datagram_received(loop, hold):
    transport = await endpoint(loop, of_protocol(asyncio.DatagramProtocol, "datagram_received")(hold))
    transport.sendto(b"x", transport.get_extra_info("sockname"))


@kind
async def datagram_error_received(loop, hold):
    with socket.socket(type=socket.SOCK_DGRAM) as refusing:
        refusing.bind((LOCALHOST, 0))
        address = refusing.getsockname()
    protocol = of_protocol(asyncio.DatagramProtocol, "error_received")(hold)
    transport, _ = await loop.create_datagram_endpoint(lambda: protocol, remote_addr=address)
    transport.sendto(b"x")


@kind
async def datagram_connection_lost(loop, hold):
    transport = await endpoint(loop, of_protocol(asyncio.DatagramProtocol, "connection_lost")(hold))
    transport.abort()


async def full_endpoint(loop, name, hold, connected=True):
    """An endpoint that has something queued, the peer that does not read it, and the peer's address."""
    own, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    peer.setblocking(False)
    kept.append(peer)
    with tempfile.TemporaryDirectory() as folder:
        peer.bind(path := f"{folder}/peer")
        if connected:
            own.connect(path)
        own.setblocking(False)
        protocol = of_protocol(asyncio.DatagramProtocol, name)(hold)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=own)
        transport.set_write_buffer_limits(1000, 500)
        while transport.get_write_buffer_size() <= 1000:
            transport.sendto(b"x" * 1000, None if connected else path)
            await asyncio.sleep(0)
    return transport, peer, path


@kind
async def datagram_pause_writing(loop, hold):
    await full_endpoint(loop, "pause_writing", hold)


@kind
async def datagram_resume_writing(loop, hold):
    _, peer, _ = await full_endpoint(loop, "resume_writing", hold)
    loop.add_reader(peer, peer.recv, 1000)


@kind
async def address_of_a_datagram_released(loop, hold):
    class Path(str):
        __slots__ = ()

        def __del__(self):
            hold()

    transport, _, path = await full_endpoint(loop, "error_received", hold, connected=False)
    transport.sendto(b"x", Path(path))
    transport.abort()


# ---- pipes


def opened(fd, mode):
    return open(fd, mode, buffering=0)  # the transport closes it


@kind
async def pipe_data_received(loop, hold):
    out, into = os.pipe()
    os.write(into, b"x")
    kept.append(into)
    protocol = of_protocol(asyncio.Protocol, "data_received")(hold)
    await loop.connect_read_pipe(lambda: protocol, opened(out, "rb"))


@kind
async def read_pipe_connection_lost(loop, hold):
    out, into = os.pipe()
    os.close(into)
    protocol = of_protocol(asyncio.Protocol, "connection_lost")(hold)
    await loop.connect_read_pipe(lambda: protocol, opened(out, "rb"))


@kind
async def pipe_resume_writing(loop, hold):
    out, into = os.pipe()
    protocol = of_protocol(asyncio.Protocol, "resume_writing")(hold)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, opened(into, "wb"))
    transport.write(bytes(1 << 20))
    loop.add_reader(out, os.read, out, 1 << 16)


@kind
async def write_pipe_connection_lost(loop, hold):
    out, into = os.pipe()
    protocol = of_protocol(asyncio.Protocol, "connection_lost")(hold)
    await loop.connect_write_pipe(lambda: protocol, opened(into, "wb"))
    os.close(out)


# ---- sockets


def holding_socket(method, hold, result, argument=socket.SOCK_STREAM):
    """A socket of a class of its own, whose method would block at first, and holds when the loop tries again."""
    tries = []

    def try_again(self, *args):
        tries.append(args)
        if len(tries) == 1:
            raise BlockingIOError
        hold()
        return result

    left, right = pair(argument)
    own = type("Socket", (socket.socket,), {method: try_again})(fileno=left.detach())
    own.setblocking(False)
    kept.append(own)
    return own, right


@kind
async def sock_recv(loop, hold):
    own, peer = holding_socket("recv", hold, b"x")
    peer.send(b"x")
    await loop.sock_recv(own, 1)


@kind
async def sock_recv_into(loop, hold):
    own, peer = holding_socket("recv_into", hold, 1)
    peer.send(b"x")
    await loop.sock_recv_into(own, bytearray(1))


@kind
async def sock_recvfrom(loop, hold):
    own, peer = holding_socket("recvfrom", hold, (b"x", None), socket.SOCK_DGRAM)
    peer.send(b"x")
    await loop.sock_recvfrom(own, 1)


@kind
async def sock_sendall(loop, hold):
    own, _ = holding_socket("send", hold, 1)
    await loop.sock_sendall(own, b"x")


@kind
async def sock_connect(loop, hold):
    class Socket(socket.socket):
        def connect(self, address):
            raise BlockingIOError

        def getsockopt(self, *args):
            hold()
            return 0

    own = Socket()
    own.setblocking(False)
    kept.append(own)
    await loop.sock_connect(own, (LOCALHOST, 1))


@kind
async def sock_accept(loop, hold):
    class Listener(socket.socket):
        def accept(self):
            accepted = super().accept()
            hold()
            return accepted

    listener = Listener()
    listener.setblocking(False)
    listener.bind((LOCALHOST, 0))
    listener.listen()
    kept.append(listener)
    loop.call_soon(lambda: kept.append(socket.create_connection(listener.getsockname())))
    kept.append(await loop.sock_accept(listener))


@kind
async def task_that_received(loop, hold):
    left, right = pair()
    loop.call_soon(right.send, b"x")
    await loop.sock_recv(left, 1)
    hold()


# ---- child processes


@kind
async def process_exited(loop, hold):
    protocol = of_protocol(asyncio.SubprocessProtocol, "process_exited")(hold)
    transport, _ = await loop.subprocess_exec(lambda: protocol, "true")
    kept.append(transport)


# ---- TLS


def tls_contexts(server_name=None):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*sys.argv[4:6])
    if server_name is not None:
        server.sni_callback = server_name
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    return server, client


async def tls_connect(loop, accepted, server_name=None):
    """The client's transport to a server with the protocol `accepted`."""
    server_side, client_side = tls_contexts(server_name)
    server = await loop.create_server(lambda: accepted, LOCALHOST, 0, ssl=server_side)
    transport, _ = await loop.create_connection(
        asyncio.Protocol, *server.sockets[0].getsockname(), ssl=client_side, server_hostname="example.org"
    )
    kept.append(server)
    return transport


@kind
async def tls_connection_made(loop, hold):
    await tls_connect(loop, of_protocol(asyncio.Protocol, "connection_made")(hold))


@kind
async def tls_server_name(loop, hold):
    await tls_connect(loop, asyncio.Protocol(), lambda *_args: hold())


@kind
async def tls_data_received(loop, hold):
    transport = await tls_connect(loop, of_protocol(asyncio.Protocol, "data_received")(hold))
    transport.write(b"x")


@kind
async def tls_get_buffer(loop, hold):
    transport = await tls_connect(loop, of_protocol(Buffered, "get_buffer", bytearray(100))(hold))
    transport.write(b"x")


@kind
async def tls_buffer_updated(loop, hold):
    transport = await tls_connect(loop, of_protocol(Buffered, "buffer_updated")(hold))
    transport.write(b"x")


@kind
async def tls_eof_received(loop, hold):
    transport = await tls_connect(loop, of_protocol(asyncio.Protocol, "eof_received")(hold))
    transport.close()


@kind
async def tls_connection_lost(loop, hold):
    transport = await tls_connect(loop, of_protocol(asyncio.Protocol, "connection_lost")(hold))
    transport.abort()


@kind
async def tls_resume_writing(loop, hold):
    class Writing(asyncio.Protocol):
        def connection_made(self, transport):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport.set_write_buffer_limits(1 << 16)
            transport.write(bytes(1 << 20))  # the transport below is full
            transport.write(bytes(1 << 20))  # this one, too

        def resume_writing(self):
            hold()

    await tls_connect(loop, Writing())


# ---- the process


def run(function, state, begun):
    def hold():
        if state == "waiting":
            return
        begun.set()
        if state == "blocked":
            os.read(wake, 1)
        while state == "spinning":
            pass

    async def main():
        await function(loop, hold)
        if state == "waiting":
            loop.add_reader(wake, os.read, wake, 1)
            loop.call_later(0.01, begun.set)
        await loop.create_future()

    loop = new_event_loop()
    kept.append(loop)
    loop.run_until_complete(main())


def program(names, states):
    sys.modules["torn_down"] = types.ModuleType("torn_down")
    sys.modules["torn_down"].value = TornDown()
    sys.setswitchinterval(0.0005)  # among the spinning
    for state, name in itertools.product(states.split(","), names.split(",")):
        begun = threading.Event()
        threading.Thread(target=run, args=(KINDS[name], state, begun), daemon=True).start()
        if not begun.wait(LIMIT):
            print(f"{name} has not begun to be {state}", flush=True)
            os._exit(2)


if __name__ == "__main__":
    new_event_loop = importlib.import_module(sys.argv[1]).new_event_loop
    program(*sys.argv[2:4])
