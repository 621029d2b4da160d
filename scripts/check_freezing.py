"""Shows that PyInstaller makes one file of a program on zloop; run by nox's session `freezing`, which installs both.

The program is built in build/freezing, without a word about zloop's modules: the hook that zloop brings names them. It
then runs where there is neither Python nor zloop to be found.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from tooling import BUILD

FOLDER = BUILD / "freezing"

PROGRAM = """
import asyncio
import mmap
import ssl
import sys
import tempfile

import zloop


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def there_and_back(opening):
    reader, writer = await opening
    payload = bytes(range(256)) * 1024
    with mmap.mmap(-1, len(payload)) as shared:
        shared[:] = payload
        writer.write(shared[:])
        writer.write(memoryview(payload))
    assert await reader.readexactly(2 * len(payload)) == 2 * payload
    writer.close()
    await writer.wait_closed()


def anonymous(side):
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


class Datagrams(asyncio.DatagramProtocol):
    def __init__(self):
        self.received = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, address):
        self.received.set_result(data)


async def main():
    loop = asyncio.get_running_loop()
    async with await asyncio.start_server(echo, "localhost", 0) as server:
        await there_and_back(asyncio.open_connection(*server.sockets[0].getsockname()[:2]))
    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=anonymous(ssl.PROTOCOL_TLS_SERVER)) as server:
        context = anonymous(ssl.PROTOCOL_TLS_CLIENT)
        await there_and_back(asyncio.open_connection(*server.sockets[0].getsockname(), ssl=context))
    with tempfile.TemporaryDirectory() as folder:
        async with await asyncio.start_unix_server(echo, folder + "/socket"):
            await there_and_back(asyncio.open_unix_connection(folder + "/socket"))
    transport, protocol = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
    transport.sendto(b"datagram", transport.get_extra_info("sockname"))
    assert await protocol.received == b"datagram"
    transport.close()
    child = await asyncio.create_subprocess_exec("/bin/cat", stdin=-1, stdout=-1)
    assert await child.communicate(b"through a child") == (b"through a child", None)
    await asyncio.to_thread(int)
    return type(loop)


assert getattr(sys, "frozen", False), "this program is not frozen"
assert zloop.run(main()) is zloop.Loop
if sys.version_info < (3, 14):
    zloop.install()
zloop.install_as_uvloop()
import uvloop  # noqa: E402

assert uvloop.Loop is zloop.Loop
from zloop.tls.direct import tls_backend  # noqa: E402

print("served, frozen;", tls_backend())
"""


def build() -> pathlib.Path:
    """The program as one file."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    source = FOLDER / "echo_program.py"
    source.write_text(PROGRAM)
    folders = ["--workpath", f"{FOLDER}/work", "--distpath", f"{FOLDER}", "--specpath", f"{FOLDER}"]
    command = [sys.executable, "-P", "-m", "PyInstaller", "--onefile", "--noconfirm", "--log-level", "WARN", *folders]
    settings = os.environ | {"PYINSTALLER_CONFIG_DIR": str(FOLDER / "cache")}
    subprocess.run([*command, str(source)], cwd=FOLDER, env=settings, stdin=subprocess.DEVNULL, check=True)
    return FOLDER / source.stem


def main() -> None:
    program = build()
    with tempfile.TemporaryDirectory() as empty:
        moved = shutil.copy(program, empty)
        result = subprocess.run(
            [moved], cwd=empty, env={"TMPDIR": empty}, stdout=subprocess.PIPE, text=True, check=True
        )
    assert result.stdout.startswith("served, frozen; "), result.stdout
    print(f"one file of {program.stat().st_size / 2**20:.1f} MiB, without a Python beside it: {result.stdout}", end="")


if __name__ == "__main__":
    main()
