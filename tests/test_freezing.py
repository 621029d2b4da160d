"""What packagers rely on: PyInstaller's hook names what native modules import, and the distribution can be renamed."""

import ast
import importlib.metadata
import pathlib
import re
import runpy
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).parents[1]
HOOK = ROOT / "zloop/__pyinstaller/hook-zloop.py"


def imports_of_native_modules():
    """The top-level modules that the Cython modules import as Python does."""
    for path in ROOT.glob("zloop/**/*.pyx"):
        for line in path.read_text().splitlines():
            if found := re.match(r"\s*(?:from (\w+)[\w.]* import |import (\w+))", line):
                yield found[1] or found[2]


@pytest.mark.zloop_only
def test_the_hook_names_what_native_modules_import(monkeypatch):
    imported = set(imports_of_native_modules()) - {"zloop"}
    assert {"asyncio", "socket", "mmap"} <= imported
    hooks = types.SimpleNamespace(collect_submodules=lambda package, **options: filter(options["filter"], [package]))
    monkeypatch.setitem(sys.modules, "PyInstaller", types.ModuleType("PyInstaller"))
    monkeypatch.setitem(sys.modules, "PyInstaller.utils", types.ModuleType("PyInstaller.utils"))
    monkeypatch.setitem(sys.modules, "PyInstaller.utils.hooks", hooks)
    hidden = runpy.run_path(str(HOOK))["hiddenimports"]
    assert {name.removeprefix("_") for name in imported} <= set(hidden)
    assert "zloop" in hidden


@pytest.mark.zloop_only
def test_pyinstaller_finds_the_hook():
    from zloop.__pyinstaller import get_hook_dirs

    [folder] = get_hook_dirs()
    assert (pathlib.Path(folder) / "hook-zloop.py").exists()
    entries = importlib.metadata.entry_points(group="pyinstaller40", name="hook-dirs")
    assert "zloop.__pyinstaller:get_hook_dirs" in {entry.value for entry in entries}


def test_the_name_of_the_distribution_stands_in_one_place():
    """Nothing asks for the metadata of a distribution called zloop, which may have another name."""
    folders = ("zloop", "scripts", "tests", "bench", "bench_uvloop")
    programs = [ROOT / "noxfile.py", *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]
    assert len(programs) > 50
    asking = []
    for path in programs:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and [getattr(each, "value", None) for each in node.args[:1]] == ["zloop"]:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                asking += [str(path)] * (name in {"version", "distribution", "metadata", "requires", "files"})
    assert asking == []
