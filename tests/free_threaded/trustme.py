"""trustme's classes, for a Python that its dependencies do not support: another one makes the certificates.

``nox -s free-threaded-3.13t`` puts this folder in front, and names that Python and where its trustme is.
"""

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

SCRIPT = """
import sys
python, folder, *names = sys.argv
sys.path.insert(0, folder)
import trustme
given = sys.stdin.buffer.read()
if names:
    leaf = trustme.CA.from_pem(*given.split(b"\\0")).issue_cert(*names)
    pems = [leaf.private_key_pem, *leaf.cert_chain_pems]
else:
    authority = trustme.CA()
    pems = [authority.cert_pem, authority.private_key_pem]
sys.stdout.buffer.write(b"\\0".join(pem.bytes() for pem in pems))
"""


def ask(given, *names):
    python, folder = os.environ["ZLOOP_TRUSTME"].split(os.pathsep)
    command = [python, "-I", "-c", SCRIPT, folder, *names]
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout.split(b"\0")


class Blob:
    def __init__(self, data):
        self._data = data

    def bytes(self):
        return self._data

    def write_to_path(self, path, append=False):
        with open(path, "ab" if append else "wb") as file:
            file.write(self._data)


class CA:
    def __init__(self):
        self.cert_pem, self.private_key_pem = map(Blob, ask(b""))

    def issue_cert(self, *names):
        return LeafCert(*ask(b"\0".join([self.cert_pem.bytes(), self.private_key_pem.bytes()]), *names))

    def configure_trust(self, context):
        context.load_verify_locations(cadata=self.cert_pem.bytes().decode("ascii"))


class LeafCert:
    def __init__(self, key, *chain):
        self.private_key_pem = Blob(key)
        self.cert_chain_pems = [Blob(each) for each in chain]
        self.private_key_and_cert_chain_pem = Blob(b"".join([key, *chain]))

    def configure_cert(self, context):
        with contextlib.ExitStack() as stack:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "chain.pem")
            self.private_key_and_cert_chain_pem.write_to_path(path)
            context.load_cert_chain(path)
