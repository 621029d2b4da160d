"""scripts/check_unwinding.py finds each kind of obstacle, at its line, in small trees that hold just that one."""

import pytest
from support import Checker

# A tree that keeps the rules. Some of it only looks like a violation.
SOUND = {
    "cpp/include/zloop/inbox.hpp": (
        "void take() {\n  try {\n    move();\n  } catch (...) {\n    if (moved) { erase(); }\n    throw;\n  }\n}\n"
        "int size() noexcept;  // the engine's tests know better\n"
        "/* catch (...) { return; } */\n"
    ),
    "cpp/src/stream.cpp": "int push() {\n  try {\n  } catch (const std::bad_alloc&) {\n    return -1;\n  }\n}\n",
    "zloop/binding/context.hpp": (
        "// noexcept is not for here: ~Context() would be\n"
        'const char* words = "noexcept";\n'
        "struct Unlocked {\n  ~Unlocked() noexcept(false);\n};\n"
        "unsigned all() { return ~mask; }\n"
    ),
    "zloop/transports/_base.cpp": "int init() { return 0; }\n",
    "zloop/engine/stream.pxd": (
        'cdef extern from "zloop/stream.hpp":\n'
        "    cdef cppclass Stream:\n"
        "        Stream() except +\n"
        "        int close() noexcept\n"
        "        void queue(void* item,\n            void (*release)(void*)) except +  # run() except +\n"
    ),
    "zloop/core/loop.pyx": (
        "cdef int run() except -1:\n    try:\n        f()\n"
        "    except ValueError:\n        return 1  # f()\n"
        "    except OSError as exc:\n        error = exc\n    return 0\n"
    ),
}

VIOLATIONS = {
    "noexcept function": ("zloop/binding/context.hpp", "\ninline int f() noexcept {}\n", 2, "is noexcept"),
    "noexcept function in a module": ("zloop/transports/_base.cpp", "int f() noexcept(true);\n", 1, "is noexcept"),
    "destructor": ("zloop/binding/context.hpp", "struct A {\n  ~A() { Py_DECREF(x); }\n};\n", 2, "destructor"),
    "defaulted destructor": ("zloop/binding/context.hpp", "struct A {\n  ~A() = default;\n};\n", 2, "destructor"),
    "catch that swallows": (
        "cpp/src/stream.cpp",
        "void f() {\n  try {\n  } catch (...) {\n    g();\n  }\n  throw;\n}\n",
        3,
        "does not rethrow",
    ),
    "catch that rethrows at times": (
        "cpp/include/zloop/inbox.hpp",
        "void f() {\n  try {\n  } catch (...) {\n    if (x) {\n      throw;\n    }\n  }\n}\n",
        3,
        "does not rethrow",
    ),
    "catch in a binding": ("zloop/binding/context.hpp", "void f() try {} catch(...) {}\n", 1, "does not rethrow"),
    "translated exception": ("zloop/engine/stream.pxd", "\n    int send(int x) except +\n", 2, "send() is called in"),
    "translated exception of another class": (
        "zloop/engine/stream.pxd",
        "cdef cppclass Stream:\n    int write() except +\ncdef cppclass Session:\n    int write() except +\n",
        4,
        "write() is called in",
    ),
    "translated exception by name": (
        "zloop/engine/stream.pxd",
        "    int dispatch(\n        int x,\n    ) nogil except +MemoryError\n",
        1,
        "dispatch() is called in",
    ),
    "return with the exception": (
        "zloop/core/loop.pyx",
        "    try:\n        f()\n    except OSError as exc:\n        # why\n        return exc\n",
        5,
        "returns from an except clause",
    ),
    "return that may need the exception": (
        "zloop/core/loop.pyx",
        "try:\n    f()\nexcept OSError:\n    return g()\n",
        4,
        "returns from an except clause",
    ),
    "return in part of a clause": (
        "zloop/core/loop.pyx",
        "try:\n    f()\nexcept OSError:\n    if x:\n        return 0\n    raise\n",
        5,
        "returns from an except clause",
    ),
    "translated exception in a module": ("zloop/core/loop.pyx", "    void run() except +*\n", 1, "run() is called in"),
}


@pytest.fixture
def checker(tmp_path, monkeypatch):
    return Checker("check_unwinding", tmp_path, monkeypatch)


def test_sound_tree_passes(checker):
    checker.plant(SOUND)
    assert checker.violations() == []


@pytest.mark.parametrize(("name", "text", "line", "reason"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_obstacle_is_found(checker, name, text, line, reason):
    checker.plant(SOUND | {name: text})
    [(path, at, why)] = checker.violations()
    assert (path, at) == (name, line)
    assert reason in why


def test_command_line(checker):
    checker.assert_command_tells(
        SOUND, {"zloop/transports/_base.cpp": "\nint f() noexcept;\n"}, "zloop/transports/_base.cpp:2: is noexcept\n"
    )
