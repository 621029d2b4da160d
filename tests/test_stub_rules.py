"""scripts/check_stubs.py wants a reason for each line of its list."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def check_stubs(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("check_stubs")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", []),
        ("# a comment\n\n", []),
        ("zloop.a  # a reason\nzloop.b  # another\n", []),
        ("zloop.a\n", [1]),
        ("# a comment\nzloop.a  # a reason\nzloop.b  #\nzloop.c # \n", [3, 4]),
    ],
)
def test_lines_without_reason_are_found(check_stubs, text, numbers):
    assert check_stubs.lines_without_reason(text) == numbers


def test_every_line_of_the_list_has_a_reason(check_stubs):
    assert check_stubs.lines_without_reason((FOLDER / "stubs.allow").read_text()) == []


def test_without_mypy_nothing_passes(check_stubs, monkeypatch, capsys):
    monkeypatch.setattr(check_stubs.importlib.util, "find_spec", lambda name: None)
    assert check_stubs.main() == 2
    assert "there is no mypy" in capsys.readouterr().err
