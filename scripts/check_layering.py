#!/usr/bin/env python3
"""Checks that zloop's layers depend on one another in one direction only.

    python scripts/check_layering.py [ROOT]

    zloop/*.py                  the public face
      -> zloop/net/             per connection or server     -> tls/, transports/, core/
      -> zloop/system/          processes, signals, pipes    -> transports/, core/
      -> zloop/tls/             TLS over a transport         -> transports/, core/
      -> zloop/transports/      a descriptor and a protocol  -> core/
      -> zloop/core/            a loop without sockets
           -> zloop/binding/      C++ that knows Python, and a .pxd of declarations for each header
           -> zloop/engine/*.pxd  the engine's declarations
                -> cpp/           the engine, which knows no Python

A folder may use those below it, never one above, and within a folder no two modules need one another. Only Cython
modules use engine/ and binding/. Prints FILE:LINE: REASON for each violation; the exit status is 1 if there is any, and
2 if ROOT does not hold the layers.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from checking import Violation, line_of, run

# The folders of the package, and which of the others each may use. Those in zloop/ itself may use all.
FOLDERS = {
    "core": set[str](),
    "transports": {"core"},
    "tls": {"core", "transports"},
    "system": {"core", "transports"},
    "net": {"core", "transports", "tls"},
}

CXX_SUFFIXES = {".hpp", ".cpp", ".h", ".cc"}
CXX_NOISE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|(?P<string>"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*')""", re.DOTALL
)
INCLUDE = re.compile(r"^[ \t]*#[ \t]*include[ \t]*(?P<quote>[<\"])(?P<header>[^>\"]+)", re.MULTILINE)
PYTHON_API = re.compile(r"\b_?Py(?:[A-Z]\w*|_\w+)")
PYTHON_HEADER = re.compile(r"(?:^|/)(?:Python|pythread|structmember|datetime|frameobject)\.h$|^(?:c?python|internal)/")

CYTHON_STRING = r"""(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
CYTHON_NOISE = re.compile(rf"""\"\"\".*?\"\"\"|'''.*?'''|{CYTHON_STRING}|#[^\n]*""", re.DOTALL)
CYTHON_IMPORT = re.compile(r"(?:from\s+(?P<module>[\w.]+)\s+)?(?P<verb>c?import)\s+(?P<names>.+)")
EXTERN = re.compile(r"cdef\s+extern\s+from\s+(?P<header>\*|[\"'][^\"']+[\"'])")
DECLARATION_BLOCK = re.compile(r"(?:(?:cdef|ctypedef)\s+)?(?:packed\s+)?(?:cppclass|struct|union|enum|class)\b.*:$")
STATEMENT = re.compile(r"(?:def|cpdef|if|elif|else|for|while|try|except|with|return|raise|assert|del|import|inline)\b")


class Import(NamedTuple):
    """A module of the package that a line names; `cimport` tells a compile-time import from one at run time."""

    line: int
    module: str
    cimport: bool


class LogicalLine(NamedTuple):
    """A line of Cython without comments and docstrings, whole if brackets continue it; `number` is where it begins."""

    number: int
    indented: bool
    code: str


# ---- reading


def blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n") or " "


def without_comments(text: str, noise: re.Pattern[str]) -> str:
    return noise.sub(lambda match: match[0] if match["string"] else blank(match), text)


def without_comments_and_strings(text: str, noise: re.Pattern[str]) -> str:
    return noise.sub(blank, text)


def logical_lines(text: str) -> Iterator[LogicalLine]:
    number, code = 0, ""
    for this, line in enumerate(without_comments(text, CYTHON_NOISE).splitlines(), 1):
        if not code:
            number = this
        code = f"{code} {line.strip()}" if code else line.rstrip()
        bare = re.sub(CYTHON_STRING, "", code)
        if code.endswith("\\") or sum(map(bare.count, "([{")) > sum(map(bare.count, ")]}")):
            code = code.removesuffix("\\")
            continue
        if code.strip():
            yield LogicalLine(number, code[0].isspace(), code.strip())
        code = ""


def absolute(name: str, package: str) -> str:
    """The full name of a module that may be named relative to a package."""
    relative = name.lstrip(".")
    for _ in range(len(name) - len(relative) - 1):
        package = package.rpartition(".")[0]
    return name if relative == name else f"{package}.{relative}".rstrip(".")


def named_modules(module: str, names: list[str], root: Path) -> Iterator[str]:
    """What `from module import names` loads: those names that are modules, or else the module that they come from."""
    folder = root.joinpath(*module.split("."))
    for name in names:
        yield f"{module}.{name}" if any(folder.glob(f"{name}.p*")) else module


def cython_imports(path: Path, root: Path) -> Iterator[Import]:
    package = ".".join(path.relative_to(root).parent.parts)
    for line in logical_lines(path.read_text()):
        match = CYTHON_IMPORT.fullmatch(line.code)
        if match is None:
            continue
        names = [name.split()[0] for name in match["names"].strip("() ").rstrip(", ").split(",")]
        is_cimport = match["verb"] == "cimport"
        module = match["module"] and absolute(match["module"], package)
        for found in named_modules(module, names, root) if module else names:
            if found.partition(".")[0] == "zloop":
                yield Import(line.number, found, is_cimport)


def python_imports(path: Path, root: Path) -> Iterator[Import]:
    """Those that run when the module is loaded: neither a function's nor the type checker's."""
    pending: list[ast.stmt] = ast.parse(path.read_text(), str(path)).body
    while pending:
        statement = pending.pop()
        found: list[str] = []
        if isinstance(statement, ast.Import):
            found = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            package = ".".join(path.relative_to(root).parent.parts)
            module = absolute("." * statement.level + (statement.module or ""), package)
            found = list(named_modules(module, [alias.name for alias in statement.names], root))
        elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            pending += statement.orelse
        elif not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            pending += [child for child in ast.walk(statement) if isinstance(child, ast.Import | ast.ImportFrom)]
        for module in found:
            if module.partition(".")[0] == "zloop":
                yield Import(statement.lineno, module, cimport=False)


# ---- the engine: cpp/


def check_engine(root: Path) -> Iterator[Violation]:
    for path in sorted(root.glob("cpp/**/*")):
        if path.suffix in CXX_SUFFIXES:
            yield from check_engine_source(path, root)
        elif path.name == "CMakeLists.txt" or path.suffix == ".cmake":
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(r"python|cython", line.partition("#")[0], re.IGNORECASE):
                    yield Violation(path, number, "the engine is built without Python")


def check_engine_source(path: Path, root: Path) -> Iterator[Violation]:
    text = path.read_text()
    includes = without_comments(text, CXX_NOISE)
    for match in INCLUDE.finditer(includes):
        header, line = match["header"], line_of(includes, match.start())
        if PYTHON_HEADER.search(header):
            yield Violation(path, line, f"includes {header}: the engine knows no Python")
        elif (match["quote"] == '"' or header.startswith("zloop/")) and not is_of_engine(header, path, root / "cpp"):
            yield Violation(path, line, f"includes {header}, which is not the engine's")
    code = without_comments_and_strings(text, CXX_NOISE)
    for match in PYTHON_API.finditer(code):
        yield Violation(path, line_of(code, match.start()), f"names {match[0]}: the engine knows no Python")


def is_of_engine(header: str, includer: Path, engine: Path) -> bool:
    """True if the header is found in the engine; its tests' headers are for tests alone."""
    is_test = includer.is_relative_to(engine / "tests")
    homes = [engine / "include", engine / "src", *([engine / "tests"] if is_test else [])]
    found = [folder / header for folder in (includer.parent, *homes) if (folder / header).is_file()]
    return any(path.resolve().is_relative_to(home.resolve()) for path in found for home in homes)


# ---- C++ that knows Python: zloop/binding/*.hpp, zloop/*/*.cpp


def check_binding_sources(root: Path) -> Iterator[Violation]:
    for path in sorted([*root.glob("zloop/binding/*.hpp"), *root.glob("zloop/**/*.cpp")]):
        text = without_comments(path.read_text(), CXX_NOISE)
        for match in INCLUDE.finditer(text):
            header = match["header"]
            is_below = (root / "cpp/include" / header).is_file() or header.startswith("binding/")
            if match["quote"] == '"' and not is_below:
                yield Violation(path, line_of(text, match.start()), f"includes {header}, which is of no layer below")


# ---- declarations: zloop/engine/*.pxd, zloop/binding/*.pxd

# The only declarations that need no header of the engine: of the system's.
SYSTEM_EXTERN = re.compile(r'^cdef extern from "<', re.MULTILINE)


def check_declarations(root: Path) -> Iterator[Violation]:
    for path in sorted(root.glob("zloop/engine/*.pxd")):
        is_of_the_system = SYSTEM_EXTERN.search(path.read_text()) is not None
        has_header = (root / "cpp/include/zloop" / f"{path.stem}.hpp").is_file()
        if path.stem != "__init__" and not has_header and not is_of_the_system:
            yield Violation(path, 1, f"has no header of its name, cpp/include/zloop/{path.stem}.hpp")
        yield from check_declaration_file(path, f"zloop/{path.stem}.hpp")
        yield from check_declaration_cimports(path, root, {"engine"})
    for path in sorted(root.glob("zloop/binding/*.pxd")):
        yield from check_declaration_file(path, f"binding/{path.stem}.hpp")
        yield from check_declaration_cimports(path, root, {"engine", "binding"})
    for path in sorted([*root.glob("zloop/engine/*.pyx"), *root.glob("zloop/binding/*.pyx")]):
        yield Violation(path, 1, "only declarations live here")


def check_declaration_file(path: Path, own_header: str) -> Iterator[Violation]:
    """Nothing but cimports, type names and what `own_header`, or the system, declares."""
    for line in logical_lines(path.read_text()):
        if extern := EXTERN.match(line.code):
            header = extern["header"].strip("\"'")
            if header.endswith(".hpp") and header != own_header:
                yield Violation(path, line.number, f"declares {header}, which has a .pxd of its own name")
            elif header == "*":
                yield Violation(path, line.number, "has C++ in it: that belongs into a header")
        elif line.indented:
            outside_brackets = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", line.code))
            is_block = line.code.endswith(":") and not DECLARATION_BLOCK.fullmatch(line.code)
            if is_block or STATEMENT.match(line.code) or "=" in outside_brackets or line.code.startswith(('"', "'")):
                yield Violation(path, line.number, f"is no declaration: {line.code}")
        elif not re.match(r"ctypedef\b|(from\s+[\w.]+\s+)?cimport\b", line.code):
            yield Violation(path, line.number, f"is no declaration: {line.code}")


def check_declaration_cimports(path: Path, root: Path, layers: set[str]) -> Iterator[Violation]:
    for found in cython_imports(path, root):
        if found.module.split(".")[1] not in layers:
            yield Violation(path, found.line, f"cimports {found.module}, which is of a layer above")
    for line in logical_lines(path.read_text()):
        if "binding" not in layers and re.match(r"(from\s+)?(cimport\s+)?cpython\b", line.code):
            yield Violation(path, line.number, "cimports cpython: the engine knows no Python")


# ---- the package's modules: zloop/**/*.py, *.pyx, *.pxd


def modules_of(root: Path) -> Iterator[Path]:
    declarations = {root / "zloop/engine", root / "zloop/binding"}
    for path in sorted(root.glob("zloop/**/*")):
        if path.suffix in {".py", ".pyx", ".pxd"} and path.parent not in declarations:
            yield path


def module_name(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    return python_imports(path, root) if path.suffix == ".py" else cython_imports(path, root)


def folder_of(module: str, root: Path) -> str:
    """The folder in zloop/ that a module is in; empty for zloop/ itself."""
    parts = module.split(".")[1:]
    return parts[0] if parts and (root / "zloop" / parts[0]).is_dir() else ""


def check_extern_blocks(root: Path) -> Iterator[Violation]:
    for path in modules_of(root):
        if path.suffix == ".py":
            continue
        for line in logical_lines(path.read_text()):
            if (extern := EXTERN.match(line.code)) and re.search(r"\.hpp|\*", extern["header"]):
                reason = f"declares {extern['header']} itself: that is for a .pxd of its name"
                yield Violation(path, line.number, reason)


def check_directions(root: Path) -> Iterator[Violation]:
    for path in modules_of(root):
        own = folder_of(module_name(path, root), root)
        for found in imports_of(path, root):
            folder = folder_of(found.module, root)
            if folder in ("engine", "binding"):
                if path.suffix == ".py":
                    yield Violation(path, found.line, f"imports {found.module}, past the Cython modules")
            elif own and folder not in {own, *FOLDERS.get(own, ())}:
                yield Violation(path, found.line, f"imports {found.module}: {own}/ knows nothing of that layer")


def check_circles(root: Path) -> Iterator[Violation]:
    """Of modules of a folder in which each needs the next one while it is loaded, or compiled."""
    needs: dict[str, set[str]] = {}
    places: list[tuple[Path, Import]] = []
    for path in modules_of(root):
        name = module_name(path, root)
        for found in imports_of(path, root):
            if found.module != name and folder_of(found.module, root) == folder_of(name, root):
                needs.setdefault(name, set()).add(found.module)
                places.append((path, found))
    for path, found in places:
        if way := way_between(found.module, module_name(path, root), needs):
            yield Violation(path, found.line, f"imports {', which imports '.join(way)}")


def way_between(start: str, end: str, needs: dict[str, set[str]]) -> list[str]:
    """The modules from `start` to `end`, each of which needs the next; empty if there is no such way."""
    ways = [[start]]
    seen = {start}
    for way in ways:
        if way[-1] == end:
            return way
        new = sorted(needs.get(way[-1], set()) - seen)
        seen.update(new)
        ways += [[*way, module] for module in new]
    return []


CHECKS = (
    check_engine,
    check_binding_sources,
    check_declarations,
    check_extern_blocks,
    check_directions,
    check_circles,
)
NEEDED = ("cpp/include/zloop/*.hpp", "zloop/engine/*.pxd", *(f"zloop/{folder}/*.py*" for folder in FOLDERS))

if __name__ == "__main__":
    sys.exit(run(CHECKS, NEEDED))
