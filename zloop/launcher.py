"""``python -m zloop``: runs an unchanged program on zloop, as ``python`` would run it.

Code that makes a loop without naming zloop (asyncio.run(), asyncio.Runner, asyncio.new_event_loop(), a policy, a server
that names asyncio's loop) calls asyncio.SelectorEventLoop in the end, with policies or without. The launcher replaces
that class by one that makes zloop's loops. A call with a selector, and subclasses, still get asyncio's loop, because
they rely on its internals. Only the launcher does this: for a program that imports zloop, asyncio stays as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import builtins
import io
import itertools
import os
import pkgutil
import runpy
import subprocess
import sys
import textwrap
import types
from importlib.machinery import BuiltinImporter, SourceFileLoader
from typing import Any

import zloop

USAGE = """python -m zloop [--as-uvloop] (script.py | -m module | -c code | -) [argument ...]
       python -m zloop --check"""
DESCRIPTION = "Runs a program on zloop, unchanged, as python would run it; or checks that zloop works here."

CANNOT_OPEN = 2  # the interpreter's exit status where there is no such script


def main(arguments: list[str]) -> None:
    """Run the program that the command line names; return when it ends, or raise the exception that ended it."""
    own = list(itertools.takewhile(lambda argument: argument.startswith("--") or argument == "-h", arguments))
    parser = argparse.ArgumentParser(prog="python -m zloop", usage=USAGE, description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--as-uvloop", action="store_true", help="have `import uvloop` find uvloop's names over zloop")
    parser.add_argument("--check", action="store_true", help="print what zloop finds here, and test it for a moment")
    parser.add_argument("--version", action="version", version=f"zloop {zloop.__version__}")
    options = parser.parse_args(own)
    program = arguments[len(own) :]
    if options.check:
        from zloop.check import check  # noqa: PLC0415  # of no use to a program

        sys.exit(check())
    if not program:
        parser.error("what is to be run?")
    how, what, rest = split(program)
    if what is None or how not in {"", "-", "-c", "-m"}:
        parser.error(f"{' '.join(program)}: a script, -m module, -c code or - is expected")
    if options.as_uvloop:
        zloop.install_as_uvloop()
    replace_default_loop()
    have_children_inherit(["-m", "zloop", *own])
    {"": run_file, "-": run_input, "-c": run_code, "-m": run_module}[how](what, rest)


def split(program: list[str]) -> tuple[str, str | None, list[str]]:
    """Split a command line into the kind of program ("" for a script), the program (or None) and its arguments."""
    first, *rest = program
    if first == "-" or not first.startswith("-"):
        return "-" if first == "-" else "", first, rest
    if len(first) > len("-m"):
        return first[:2], first[2:], rest
    return first, rest[0] if rest else None, rest[1:]


def replace_default_loop() -> None:
    """Make zloop asyncio's default loop in this process."""
    default: Any = asyncio.SelectorEventLoop

    def new(cls: Any, selector: Any = None, *args: Any, **options: Any) -> Any:
        if cls is default and selector is None:
            return zloop.new_event_loop()
        return object.__new__(cls)

    default.__new__ = staticmethod(new)


def have_children_inherit(launcher: list[str]) -> None:
    """Make children that multiprocessing spawns start in the same way as this process.

    It runs ``python -c`` with the interpreter's options, which it asks for here, as some that start a program again do.
    Forked children need nothing.
    """
    options_of_interpreter: Any = getattr(subprocess, "_args_from_interpreter_flags", None)
    if options_of_interpreter is not None:
        name = options_of_interpreter.__name__
        setattr(subprocess, name, lambda: [*options_of_interpreter(), *launcher])


# ---- programs, as the interpreter's main() runs them


def run_file(path: str, arguments: list[str]) -> None:
    """Run a script, or a folder or an archive with a __main__ module."""
    sys.argv = [path, *arguments]
    full_path = os.path.join(os.getcwd(), path)
    if pkgutil.get_importer(full_path) is not None:
        if sys.flags.safe_path:  # that is how its module is found
            sys.path.insert(0, full_path)
        set_first_path(full_path)
        new_main()
        run(lambda: runpy._run_module_as_main("__main__", alter_argv=False))  # type: ignore[attr-defined]
        return
    try:
        with io.open_code(full_path) as file:
            source = file.read()
    except OSError as exc:
        print(f"{sys.executable}: can't open file {full_path!r}: [Errno {exc.errno}] {exc.strerror}", file=sys.stderr)
        sys.exit(CANNOT_OPEN)
    set_first_path(os.path.dirname(os.path.realpath(path)))
    names = new_main_of(full_path, SourceFileLoader("__main__", full_path))
    compiled = pkgutil.read_code(io.BytesIO(source))  # None for source text
    run(lambda: exec(compiled or compile(source, full_path, "exec", dont_inherit=True), names))


def run_code(source: str, arguments: list[str]) -> None:
    """Run the source text after -c."""
    sys.argv = ["-c", *arguments]
    set_first_path("")
    if sys.version_info >= (3, 14):
        source = textwrap.dedent(source)
    if sys.version_info >= (3, 13):  # whose tracebacks quote it
        import linecache  # noqa: PLC0415  # not needed before

        linecache.cache["<string>"] = (len(source), None, source.splitlines(keepends=True), "<string>")
    names = new_main(__loader__=BuiltinImporter)
    run(lambda: exec(compile(source, "<string>", "exec", dont_inherit=True), names))


def run_input(_dash: str, arguments: list[str]) -> None:
    """Run the source text from the standard input."""
    sys.argv = ["-", *arguments]
    set_first_path("")
    names = new_main_of("<stdin>", BuiltinImporter)
    run(lambda: exec(compile(sys.stdin.buffer.read(), "<stdin>", "exec", dont_inherit=True), names))


def run_module(name: str, arguments: list[str]) -> None:
    """Run a module that the import system finds; sys.path begins with the working directory, as for -m."""
    sys.argv = ["-m", *arguments]
    new_main()
    run(lambda: runpy._run_module_as_main(name))  # type: ignore[attr-defined]


def set_first_path(path: str) -> None:
    """Put the program's folder first in sys.path, in place of that of ``python -m``, except with -P or -I."""
    if not sys.flags.safe_path:
        sys.path[0] = path


def new_main(**more: Any) -> dict[str, Any]:
    """Make a new __main__ module, with the names that the interpreter gives it and `more`; its names."""
    module = types.ModuleType("__main__")
    names = vars(module)
    names.update(more, __builtins__=builtins)
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    sys.modules["__main__"] = module
    return names


def new_main_of(file: str, loader: object) -> dict[str, Any]:
    """new_main() for a program that is read from a file."""
    if sys.version_info < (3, 15):
        return new_main(__file__=file, __loader__=loader, __cached__=None)
    return new_main(__file__=file, __loader__=loader)  # pragma: no cover: CPython 3.15


def run(program: Any) -> None:
    """Run the program. A traceback that the interpreter shows begins with the program's own first frame."""
    try:
        program()
    except SystemExit:
        raise
    except BaseException as exc:
        begin_traceback_after(exc, depth=2)  # run() and the lambda
        raise


def begin_traceback_after(exc: BaseException, depth: int) -> None:
    """Have sys.excepthook, whichever it is then, show the traceback without its first `depth` frames."""
    traceback = exc.__traceback__
    for _ in range(depth):
        traceback = traceback and traceback.tb_next
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], shown: BaseException, whole: types.TracebackType | None) -> None:
        sys.excepthook = hook
        hook(kind, shown.with_traceback(traceback), traceback)

    sys.excepthook = excepthook
