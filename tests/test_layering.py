"""scripts/check_layering.py finds each kind of violation, at its line, in small trees that hold just that one."""

import pytest
from support import Checker

# A tree that keeps the rules. Some of it only looks like a violation.
SOUND = {
    "cpp/CMakeLists.txt": "# needs no Python\nadd_library(zloop_engine src/clock.cpp)\n",
    "cpp/include/zloop/clock.hpp": "#pragma once\n#include <cstdint>\nlong monotonic_ns();  // for PyLong_FromLong\n",
    "cpp/include/zloop/timer.hpp": '#pragma once\n#include "zloop/clock.hpp"\n/* not\n   "Python.h" */\n',
    "cpp/src/clock.cpp": '#include "zloop/clock.hpp"\nconst char* name = "PyObject";\nint one = 1\'000\'000;\n',
    "cpp/tests/clock_test.cpp": '#include <catch2/catch.hpp>\n#include "support/helper.hpp"\n',
    "cpp/tests/support/helper.hpp": "#pragma once\n",
    "zloop/engine/__init__.pxd": "# Declarations only.\n",
    "zloop/engine/clock.pxd": (
        "from libc.stdint cimport int64_t\n"
        'cdef extern from "zloop/clock.hpp" namespace "zloop" nogil:\n'
        "    int64_t monotonic_ns() noexcept\n"
        "    cdef cppclass Clock:  # a comment: with a colon\n"
        "        ctypedef void (*Tick)(void* owner) noexcept\n"
        "        int read(\n            int64_t* now,\n            int flags=*,\n        ) except -1\n"
    ),
    "zloop/engine/timer.pxd": 'from zloop.engine.clock cimport Clock\ncdef extern from "zloop/timer.hpp":\n    int x\n',
    "zloop/engine/socket.pxd": 'cdef extern from "<sys/socket.h>" nogil:\n    ctypedef unsigned int socklen_t\n',
    "zloop/binding/gc.hpp": '#pragma once\n#include <Python.h>\n#include "zloop/clock.hpp"\n',
    "zloop/binding/gc.pxd": (
        "from cpython.object cimport PyObject\n"
        'cdef extern from "Python.h":\n    ctypedef int (*visitproc)(PyObject*, void*)\n'
        'cdef extern from "binding/gc.hpp":\n    void install(visitproc visit)\n'
    ),
    "zloop/transports/base.cpp": '#include "binding/gc.hpp"\n',
    "zloop/core/handles.pyx": "from zloop.core.words import say\n",
    "zloop/core/loop.pxd": "from zloop.core.handles cimport (\n    Handle,\n    TimerHandle,\n)\n",
    "zloop/core/loop.pyx": (
        '"""The loop. An open ( bracket, and a line that is none:\n'
        "from zloop.transports.stream cimport Transport\n"
        '"""\n'
        "from zloop.engine.clock cimport monotonic_ns\n"
        "from zloop.core import words\n"
    ),
    "zloop/transports/stream.pyx": "from zloop.core.loop cimport Loop\nfrom zloop.binding.gc cimport install\n",
    "zloop/__init__.py": "from zloop.loop import Loop\n",
    "zloop/core/words.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from zloop.loop import Loop\n"
        "def say():\n    import zloop.loop\n"
    ),
    "zloop/loop.py": "from zloop.core import loop, words\nfrom zloop.net.connect import Connect\n",
    "zloop/net/connect.py": "from zloop.transports.stream import Transport\nfrom ..tls.start_tls import accept\n",
    "zloop/system/pipes.py": "from zloop.transports.stream import Transport\n",
    "zloop/tls/start_tls.py": "def run():\n    import zloop.net.connect\n",
}


@pytest.fixture
def checker(tmp_path, monkeypatch):
    return Checker("check_layering", tmp_path, monkeypatch)


def test_sound_tree_passes(checker):
    checker.plant(SOUND)
    assert checker.violations() == []


VIOLATIONS = {
    "engine includes Python": ("cpp/src/clock.cpp", "\n#include <Python.h>\n", 2, "includes Python.h"),
    "engine includes Python by a path": ("cpp/src/clock.cpp", '#include "python3.11/Python.h"\n', 1, "Python.h"),
    "engine header names Python's API": ("cpp/include/zloop/clock.hpp", "/*\n*/\nPyObject* x;\n", 3, "PyObject"),
    "engine calls Python's API": ("cpp/src/clock.cpp", "int x = f(); Py_DECREF(o);\n", 1, "Py_DECREF"),
    "engine test names Python's private API": ("cpp/tests/clock_test.cpp", "_PyTime_t x;\n", 1, "_PyTime_t"),
    "engine includes a binding": ("cpp/src/clock.cpp", '#include "binding/gc.hpp"\n', 1, "not the engine's"),
    "engine includes the package": ("cpp/src/clock.cpp", '#include "../../zloop/binding/gc.hpp"\n', 1, "engine's"),
    "engine includes its tests": (
        "cpp/src/clock.cpp",
        '#include "../tests/support/helper.hpp"\n',
        1,
        "not the engine's",
    ),
    "engine includes what is not there": ("cpp/src/clock.cpp", "#include <zloop/other.hpp>\n", 1, "not the engine's"),
    "engine's build looks for Python": ("cpp/CMakeLists.txt", "\nfind_package(Python)\n", 2, "without Python"),
    "binding includes a generated header": ("zloop/binding/gc.hpp", '#include "_loop.h"\n', 1, "no layer below"),
    "C++ module includes the engine's source": (
        "zloop/transports/base.cpp",
        '\n#include "src/clock.cpp"\n',
        2,
        "no layer below",
    ),
    "function in a declaration file": (
        "zloop/engine/clock.pxd",
        "\ncdef inline int f(): return 1\n",
        2,
        "is no declaration: cdef inline",
    ),
    "def in a declaration file": ("zloop/binding/gc.pxd", "def f(): pass\n", 1, "def f"),
    "class in a declaration file": ("zloop/binding/gc.pxd", "cdef class Loop:\n    cdef int x\n", 1, "cdef class"),
    "import in a declaration file": ("zloop/engine/clock.pxd", "import sys\n", 1, "import sys"),
    "body in an extern block": (
        "zloop/engine/clock.pxd",
        'cdef extern from "zloop/clock.hpp":\n    int f()\n    inline int g():\n',
        3,
        "inline int g",
    ),
    "block in an extern block": (
        "zloop/engine/clock.pxd",
        'cdef extern from "zloop/clock.hpp":\n    int f():\n        g()\n',
        2,
        "int f():",
    ),
    "assignment in an extern block": (
        "zloop/engine/clock.pxd",
        'cdef extern from "zloop/clock.hpp":\n    int limit = max(1, 2)\n',
        2,
        "limit",
    ),
    "C++ in a declaration file": (
        "zloop/engine/clock.pxd",
        'cdef extern from *:\n    """\n    int x;\n    """\n',
        1,
        "C++",
    ),
    "module among the declarations": ("zloop/engine/clock.pyx", "\n", 1, "only declarations"),
    "second .pxd for a header": (
        "zloop/engine/timer.pxd",
        'cdef extern from "zloop/clock.hpp":\n    int x\n',
        1,
        "clock.hpp",
    ),
    ".pxd without a header": ("zloop/engine/poller.pxd", "\n", 1, "zloop/poller.hpp"),
    "engine's .pxd cimports a module": (
        "zloop/engine/clock.pxd",
        "from zloop.core.loop cimport Loop\n",
        1,
        "zloop.core.loop",
    ),
    "engine's .pxd cimports a binding": ("zloop/engine/clock.pxd", "from zloop.binding cimport gc\n", 1, "binding.gc"),
    "engine's .pxd cimports it relatively": (
        "zloop/engine/clock.pxd",
        "from ..binding.gc cimport x\n",
        1,
        "binding.gc",
    ),
    "engine's .pxd cimports cpython": ("zloop/engine/clock.pxd", "from cpython.ref cimport PyObject\n", 1, "cpython"),
    "binding's .pxd cimports a module": ("zloop/binding/gc.pxd", "\ncimport zloop.core.loop\n", 2, "zloop.core.loop"),
    "core cimports a transport": (
        "zloop/core/loop.pyx",
        "from zloop.transports.stream cimport Transport\n",
        1,
        "imports zloop.transports.stream: core/",
    ),
    "core's .pxd cimports a transport": (
        "zloop/core/loop.pxd",
        "from zloop.core.handles cimport (\n  Handle\n)\nfrom zloop.transports cimport stream\n",
        4,
        "zloop.transports.stream",
    ),
    "core imports a transport at run time": (
        "zloop/core/handles.pyx",
        "\n    import zloop.transports.stream\n",
        2,
        "zloop.transports.stream",
    ),
    "core imports a transport in Python": (
        "zloop/core/words.py",
        "try:\n    from ..transports import selector\nexcept ImportError:\n    pass\n",
        2,
        "zloop.transports",
    ),
    "system uses connections": ("zloop/system/pipes.py", "import zloop.net.connect\n", 1, "system/ knows nothing"),
    "TLS uses connections": ("zloop/tls/start_tls.py", "from ..net.connect import x\n", 1, "tls/ knows nothing"),
    "core imports the public loop": (
        "zloop/core/handles.pyx",
        "from zloop.loop import Loop\n",
        1,
        "imports zloop.loop",
    ),
    "transport imports the package itself": (
        "zloop/transports/stream.pyx",
        "from zloop import Loop\n",
        1,
        "imports zloop: transports/",
    ),
    ".pyx takes an engine header itself": (
        "zloop/transports/stream.pyx",
        'cdef extern from "zloop/clock.hpp":\n    int x\n',
        1,
        "clock.hpp",
    ),
    ".pyx has C++ in it": ("zloop/transports/stream.pyx", '\ncdef extern from *:\n    """int x;"""\n', 2, "*"),
    "Python goes past the modules": ("zloop/loop.py", "import zloop.engine.clock\n", 1, "past the Cython modules"),
}


@pytest.mark.parametrize(("name", "text", "line", "reason"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_violation_is_found(checker, name, text, line, reason):
    checker.plant(SOUND | {name: text})
    [(path, at, why)] = checker.violations()
    assert (path, at) == (name, line)
    assert reason in why


def test_each_step_of_a_circle_is_a_violation(checker):
    checker.plant(SOUND | {"zloop/core/words.py": "from zloop.core import loop\n"})
    handles, loop, words = (f"imports zloop.core.{name}" for name in ("handles", "loop", "words"))
    assert checker.violations() == [
        ("zloop/core/handles.pyx", 1, f"{words}, which {loop}, which {handles}"),
        ("zloop/core/loop.pxd", 1, f"{handles}, which {words}, which {loop}"),
        ("zloop/core/loop.pyx", 5, f"{words}, which {loop}"),
        ("zloop/core/words.py", 1, f"{loop}, which {words}"),
    ]


def test_command_line(checker):
    told = "zloop/loop.py:2: imports zloop.engine, past the Cython modules\n"
    checker.assert_command_tells(SOUND, {"zloop/loop.py": "\nimport zloop.engine\n"}, told)
