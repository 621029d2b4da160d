"""What PyInstaller cannot see in zloop: it reads Python, and most of zloop's imports are made by native modules."""

from PyInstaller.utils.hooks import collect_submodules  # type: ignore[import-untyped, import-not-found, unused-ignore]  # pragma: no cover: PyInstaller runs it

# They need packages of their own, which a program that uses them names anyway.
APART = ("zloop.__pyinstaller", "zloop.gunicorn", "zloop.pytest_plugin")  # pragma: no cover: PyInstaller runs it

# What native modules import of the standard library.
STANDARD = [  # pragma: no cover: PyInstaller runs it
    *("asyncio", "collections", "fcntl", "mmap", "os", "signal", "socket", "ssl", "stat", "sys", "threading", "types"),
    *("warnings", "weakref"),
]

hiddenimports = [  # pragma: no cover: PyInstaller runs it
    *collect_submodules("zloop", filter=lambda name: not name.startswith(APART)),
    *STANDARD,
]
