"""Runs cython; or copies what it has generated from the same sources before, since that is the same for every Python.

Called as cython is, with --output-file. What is generated is kept in build/cython, by a hash of all that it depends on.
"""

import hashlib
import importlib.metadata
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "cython"
PLACEHOLDER = "@OUTPUT@"
"""Stands for the generated file's path in what is kept of its list of dependencies."""


def main(arguments: list[str]) -> int:
    cython = shutil.which("cython")
    if cython is None:
        sys.exit("error: cython is not on PATH")
    if "--output-file" not in arguments:
        return subprocess.run([cython, *arguments], check=False).returncode
    place = arguments.index("--output-file") + 1
    output = pathlib.Path(arguments[place])
    dependencies = output.with_name(f"{output.name}.dep")
    kept = CACHE / key([*arguments[:place], *arguments[place + 1 :]])
    if not kept.exists():
        status = subprocess.run([cython, *arguments], check=False).returncode
        if status == 0:
            keep(kept, output, dependencies)
        return status
    shutil.copyfile(kept / "source", output)
    dependencies.write_text((kept / "dependencies").read_text().replace(PLACEHOLDER, str(output)))
    return 0


def key(arguments: list[str]) -> str:
    """A hash of Cython's version, its arguments, and the contents of every file that it may read."""
    total = hashlib.sha256("\0".join([importlib.metadata.version("cython"), *arguments]).encode())
    sources = [pathlib.Path(argument) for argument in arguments if argument.endswith(".pyx")]
    for path in [*sources, *sorted((ROOT / "zloop").rglob("*.pxd"))]:
        total.update(f"\0{path.relative_to(ROOT)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def keep(kept: pathlib.Path, output: pathlib.Path, dependencies: pathlib.Path) -> None:
    """Store what was generated, whole or not at all: builds for several Pythons run beside one another."""
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = pathlib.Path(tempfile.mkdtemp(dir=CACHE))
    shutil.copyfile(output, folder / "source")
    (folder / "dependencies").write_text(dependencies.read_text().replace(str(output), PLACEHOLDER))
    try:
        folder.rename(kept)
    except OSError:  # another build was faster
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
