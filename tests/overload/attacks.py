"""The attackers: `attacks.py NAME` attacks the ports in $OVERLOAD_PORTS until its standard input ends.

Prints a line once the attack is under way. $OVERLOAD_SCALE makes it smaller.
"""

import contextlib
import json
import os
import random
import resource
import select
import socket
import ssl
import sys
import time

LOCALHOST = "127.0.0.1"
LOAD = bytes(1000)
CHUNK = bytes(65_536)
CARELESS_TOTAL = 200 << 20
"""What one peer makes a server queue that goes on writing."""


class Attack:
    """What an attacker has: ports, a scale, sockets."""

    def __init__(self):
        self.ports = json.loads(os.environ["OVERLOAD_PORTS"])
        self.scale = float(os.environ.get("OVERLOAD_SCALE", "1"))
        self.random = random.Random(1)
        self.sockets = []

    def scaled(self, count):
        return max(1, int(self.scale * count))

    def connect(self, name):
        sock = socket.create_connection((LOCALHOST, self.ports[name]))
        sock.setblocking(False)
        return sock

    def connect_many(self, name, count):
        self.sockets += [self.connect(name) for _ in range(count)]

    def goes_on(self):
        """Whether nobody has told it to end."""
        return not select.select([sys.stdin], [], [], 0)[0]

    def prepare(self):
        """What comes before the measurement."""

    def go_on(self):
        """A few milliseconds of the attack."""
        time.sleep(0.01)


class Nothing(Attack):
    """No attack, to compare with."""


class IdleConnections(Attack):
    """10,000 connections that say nothing, and twenty that are busy."""

    def prepare(self):
        self.connect_many("echo", self.scaled(10_000))
        self.busy = select.epoll()
        self.callers = {}
        for _ in range(20):
            caller = self.connect("echo")
            self.callers[caller.fileno()] = caller
            self.busy.register(caller, select.EPOLLIN)
            caller.send(LOAD)

    def go_on(self):
        for descriptor, _ in self.busy.poll(0.01):
            caller = self.callers[descriptor]
            if caller.recv(len(LOAD)):
                caller.send(LOAD)


class NeverReading(Attack):
    """Fifty peers that send and never read, to a server that heeds its water marks."""

    name, count = "echo", 50

    def prepare(self):
        self.connect_many(self.name, self.count)
        self.left = CARELESS_TOTAL

    def go_on(self):
        sent = 0
        for sock in self.sockets:
            with contextlib.suppress(BlockingIOError):
                sent += sock.send(CHUNK)
        self.left -= sent
        if not sent:
            time.sleep(0.002)


class NeverReadingCareless(NeverReading):
    """One peer that sends 200 MiB and never reads, to a server that goes on writing all the same."""

    name, count = "careless", 1

    def prepare(self):
        super().prepare()
        self.left = self.scaled(CARELESS_TOTAL)

    def go_on(self):
        if self.left > 0:
            super().go_on()
        else:
            time.sleep(0.01)


class Datagrams(Attack):
    """Datagrams of 1,000 bytes, as fast as one process sends them."""

    def prepare(self):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((LOCALHOST, self.ports["datagrams"]))
        self.sockets.append(sock)

    def go_on(self):
        for _ in range(200):
            with contextlib.suppress(ConnectionRefusedError):
                self.sockets[0].send(LOAD)


def client_hello():
    """The first flight of a TLS client."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="overload.example")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


class Handshakes(Attack):
    """TLS handshakes, each given up after the server's answer; a hundred at a time."""

    def prepare(self):
        self.hello = client_hello()
        self.under_way = []

    def go_on(self):
        while len(self.under_way) < self.scaled(100):
            sock = self.connect("tls")
            sock.send(self.hello)
            self.under_way.append(sock)
        answered, _, _ = select.select(self.under_way, [], [], 0.01)
        for sock in answered:
            self.under_way.remove(sock)
            sock.close()


class Slowloris(Attack):
    """2,000 connections, half of them of TLS, that say a byte each now and then."""

    def prepare(self):
        self.hello = client_hello()
        half = self.scaled(1000)
        self.connect_many("echo", half)
        self.connect_many("tls", half)
        self.said = [0] * len(self.sockets)

    def go_on(self):
        for index in self.random.choices(range(len(self.sockets)), k=20):
            position = self.said[index] = (self.said[index] + 1) % (len(self.hello) - 1)
            with contextlib.suppress(OSError):  # the server may have ended it, or the peer has not read its echo
                self.sockets[index].send(self.hello[position : position + 1])
        time.sleep(0.004)


class Connections(Attack):
    """More connections than the server may have descriptors. Once told to end, they end."""

    def prepare(self):
        self.connect_many("echo", 300)


ATTACKS = {
    "nothing": Nothing,
    "idle connections and load": IdleConnections,
    "never-reading peers": NeverReading,
    "a never-reading peer of a careless server": NeverReadingCareless,
    "datagram flood": Datagrams,
    "handshake flood": Handshakes,
    "slowloris": Slowloris,
    "descriptor limit": Connections,
}


def main():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attack = ATTACKS[sys.argv[1]]()
    attack.prepare()
    print("under way", flush=True)
    while attack.goes_on():
        attack.go_on()


if __name__ == "__main__":
    main()
