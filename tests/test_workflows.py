"""The public workflows run what is there."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))

if not WORKFLOWS:
    pytest.skip("the sources are not all there", allow_module_level=True)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_commits(path):
    used = re.findall(r"uses: (?!\./)(.*)", path.read_text())
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", action)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_commands_and_files_are_there(path):
    folders = r"(?:\.github/workflows|bench|bench_uvloop|docs|scripts|tests)"
    named = set(re.findall(rf"(?<![\w./])(?:\./)?{folders}/[\w./]+", path.read_text()))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
