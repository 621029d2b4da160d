"""Every command line in docs/servers.md starts a server that runs on zloop, serves, and shuts down in good order."""

import importlib.util
import os
import random
import shlex
import signal
import smtplib
import time

import pytest
from serving import LISTENING, Server, sections
from support import LOCALHOST, TIME_LIMIT

SECTIONS = [section for section in sections("servers.md") if section.title]
COMMANDS = [
    pytest.param(section, command, id=f"{section.title}-{number}")
    for section in SECTIONS
    for number, command in enumerate(section.commands)
]

BODY = random.Random("body").randbytes(3 << 20)

SANIC_SETTLES = 0.5
"""Seconds that sanic's parent process has to learn that its workers are up, for which it looks ten times a second. A
signal before that has it wait for ever, on asyncio, too, and nothing tells when."""


def require_packages(command):
    for word in shlex.split(command):
        package = word.partition(".")[0]
        if word in LISTENING and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: it comes with nox -s applications")


def check_requests(client):
    """A connection that is kept serves one request after another, and others beside it are served, too."""
    with client.connect() as connection:
        answers = [client.ask(connection, body) for body in (b"", b"x", BODY, b"y" * 100_000)]
        assert [answer.body for answer in answers] == [b"", b"x", BODY, b"y" * 100_000]
        answers += client.ask_together(6, BODY[:1_000_000])
    assert {answer.loop for answer in answers} == {"zloop.loop"}
    assert all(answer.body == BODY[:1_000_000] for answer in answers[4:])


def check_reloading(server):
    """A change to the program starts it anew. uvicorn takes what it sees at its first look for unchanged."""
    [first] = server.processes(1)
    path = server.folder / "app.py"
    path.write_text(path.read_text() + "# changed\n")

    def is_seen():
        os.utime(path, (path.stat().st_mtime + 10,) * 2)
        return "detected changes" in server.log()

    server.eventually(is_seen, "a change to be seen")
    [second] = server.processes(1, but=[first])
    assert second != first
    assert server.client.ask_once(BODY).loop == "zloop.loop"


@pytest.mark.parametrize(("section", "command"), [case for case in COMMANDS if case.values[0].title != "aiosmtpd"])
def test_server_serves(section, command, tmp_path):
    """Requests, also large ones and several at a time, on every worker; then it ends, and has not complained."""
    require_packages(command)
    with Server(section, command, tmp_path) as server:
        server.wait_until_ready()
        if "--workers" in server.words:
            server.processes(int(server.words[server.words.index("--workers") + 1]))
        check_requests(server.client)
        if "--reload" in server.words:
            check_reloading(server)
        if "sanic" in server.words:
            time.sleep(SANIC_SETTLES)
        assert server.stop() == server.exit_status(), server.log()
        assert server.own_complaints() == []


@pytest.mark.parametrize(("section", "command"), [case for case in COMMANDS if case.values[0].title == "aiosmtpd"])
def test_mail_server_takes_mail(section, command, tmp_path):
    require_packages("aiosmtpd")
    lines = b"".join(b"%07d %s\r\n" % (number, b"x" * 60) for number in range(40_000))
    with Server(section, command, tmp_path) as server:

        def connect():
            try:
                return smtplib.SMTP(LOCALHOST, server.port, timeout=TIME_LIMIT)
            except ConnectionError:
                return None

        with server.eventually(connect, "it to listen") as client:
            client.ehlo()
            for body in (b"short\r\n", lines):
                client.mail("from@example.org")
                client.rcpt("to@example.org")
                code, text = client.data(body)
                assert (code, text) == (250, b"zloop.loop took %d bytes" % len(body))
        number = signal.SIGINT if "aiosmtpd" in server.words else signal.SIGTERM
        assert server.stop(number) == 0, server.log()
        assert server.own_complaints() == []


def test_page_is_whole():
    """Each server that the page is to have has its section, with a line."""
    titles = {section.title for section in SECTIONS if section.commands}
    assert titles == {"uvicorn", "gunicorn", "hypercorn", "granian", "sanic", "aiohttp", "tornado", "aiosmtpd"}
