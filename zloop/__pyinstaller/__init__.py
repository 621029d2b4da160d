"""PyInstaller's hook for zloop, which it finds by the entry point pyinstaller40."""

import os


def get_hook_dirs() -> list[str]:
    """The folder of the hook."""
    return [os.path.dirname(__file__)]
