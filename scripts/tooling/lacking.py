"""Prints what the Python that runs it lacks for building zloop, or nothing.

Any Python 3 runs it: one that is too old is told so by its version, not by a syntax error.
"""

import importlib.util
import os
import sys
import sysconfig


def lacking() -> str:
    if sys.implementation.name != "cpython":
        return "is not CPython"
    if sys.version_info < (3, 11):  # noqa: UP036
        return "is %d.%d, and zloop needs 3.11 or later" % sys.version_info[:2]  # noqa: UP031
    if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
        return "has no venv module (on Debian: apt-get install python3-venv)"
    if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):  # noqa: PTH110, PTH118
        return "has no C headers (on Debian: apt-get install python3-dev)"
    return ""


reason = lacking()
if reason:
    print(reason)
