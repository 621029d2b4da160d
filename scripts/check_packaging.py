"""Shows that zloop can be packaged and installed; run by nox's session `packaging`, in whose environment `build` is.

An sdist is made and, out of that, a wheel; the wheel is installed in a clean virtual environment, and the source,
editable, in another. Each installed zloop has to run a coroutine.
"""

import io
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

from elftools.elf.elffile import ELFFile
from tooling import BUILD, ROOT

DIST = BUILD / "dist"
SDIST_HAS = ("pyproject.toml", "CMakeLists.txt", "LICENSE", "README.md", "CHANGELOG.md", "noxfile.py")
SDIST_FOLDERS = ("cpp/", "cmake/", "zloop/", "tests/", "scripts/", "bench/", "bench_uvloop/", "docs/")
SDIST_HAS_NOT = (".git/", ".ci", "build/", "dist/")
WHEEL_HAS = {"zloop/__init__.py", "zloop/py.typed", "zloop/core/loop.pyi", "zloop/__pyinstaller/hook-zloop.py"}

PROGRAM = """
import asyncio
import importlib.metadata
import pathlib
import sys
import zloop

async def main():
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    return asyncio.get_running_loop()

loop = zloop.run(main())
assert isinstance(loop, zloop.Loop), loop
assert pathlib.Path(zloop.__file__).is_relative_to(sys.argv[1]), zloop.__file__
# Whatever its name is; an editable one has no files by which to find it.
plugins = importlib.metadata.entry_points(group="pytest11")
[distribution] = [plugin.dist for plugin in plugins if plugin.value == "zloop.pytest_plugin"]
assert distribution.version == zloop.__version__, distribution.version
"""


def run(*command: str | pathlib.Path, cwd: pathlib.Path = ROOT) -> None:
    subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, check=True)


def clean_environment(name: str) -> pathlib.Path:
    """The interpreter of a new, empty virtual environment."""
    folder = BUILD / "venv" / name
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


def run_coroutine(python: pathlib.Path, home: pathlib.Path) -> None:
    """Run a coroutine on the zloop of an interpreter, and make sure that it is the one in that place."""
    run(python, "-I", "-W", "error", "-c", PROGRAM, home, cwd=pathlib.Path("/"))


def check_sdist(path: pathlib.Path) -> None:
    """It has all that a build and a test run need, and nothing that was built."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
    missing = [name for name in SDIST_HAS if name not in names]
    missing += [start for start in SDIST_FOLDERS if not any(name.startswith(start) for name in names)]
    stray = sorted(name for name in names if name.startswith(SDIST_HAS_NOT) or "__pycache__" in name)
    assert not missing, f"the sdist lacks {missing}"
    assert not stray, f"the sdist has {stray}"


def check_wheel(path: pathlib.Path) -> None:
    """It has what an import needs, the names of functions, and no sources of what is compiled."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        libraries = {name: archive.read(name) for name in names if name.endswith(".so")}
    stray = [name for name in names if not re.fullmatch(r"zloop/(.*\.(py|pyi|so)|py\.typed)", name)]
    assert not stray, f"the wheel has {stray}"
    assert set(names) >= WHEEL_HAS, f"the wheel has only {names}"
    assert libraries, f"the wheel has only {names}"
    for name, data in libraries.items():
        if data.startswith(b"\x7fELF"):
            check_library(name, ELFFile(io.BytesIO(data)))


def check_library(name: str, library: ELFFile) -> None:
    """It is hardened, and debuggers and profilers find the names of functions in it."""
    assert library.get_section_by_name(".symtab"), f"debuggers and profilers find no names of functions in {name}"
    segments = {segment["p_type"]: segment for segment in library.iter_segments()}
    executable = 1
    assert not segments["PT_GNU_STACK"]["p_flags"] & executable, f"{name} has an executable stack"
    assert "PT_GNU_RELRO" in segments, f"{name} has no part that becomes read-only"
    flags = {tag["d_tag"]: tag["d_val"] for tag in segments["PT_DYNAMIC"].iter_tags()}
    bind_now = 8
    assert flags.get("DT_FLAGS", 0) & bind_now, f"{name} leaves addresses of functions writable"
    assert not flags.keys() & {"DT_RPATH", "DT_RUNPATH", "DT_TEXTREL"}, f"{name} has {sorted(flags)}"


def main() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, ROOT)
    [sdist], [wheel] = (list(DIST.glob(pattern)) for pattern in ("*.tar.gz", "*.whl"))
    check_sdist(sdist)
    check_wheel(wheel)
    python = clean_environment("packaging-wheel")
    run(python, "-m", "pip", "install", wheel)
    run_coroutine(python, python.parents[1])
    python = clean_environment("packaging-editable")
    run(python, "-m", "pip", "install", "--editable", ROOT)
    run_coroutine(python, ROOT / "zloop")


if __name__ == "__main__":
    main()
