"""scripts/check_release.py lets a tag through only where the version and the changelog say the same."""

import pytest
from support import Checker

CHANGELOG = """# Changelog

The form is [one](https://form.example).

## [Unreleased]

## [0.2.0] - 2027-01-31

### Added

- A thing
  in two lines.

### Fixed

- Another.

## [0.1.0] - 2026-12-01

- The first.
"""
NOTES = "### Added\n\n- A thing\n  in two lines.\n\n### Fixed\n\n- Another.\n"


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run the script on a tree of three files, with some text replaced; its status and what it wrote."""
    checker = Checker("check_release", tmp_path, monkeypatch)

    def run(tag="v0.2.0", replace="", by=""):
        files = {
            "zloop/__init__.py": '"""zloop."""\n\n__version__ = "0.2.0"\n',
            "CHANGELOG.md": CHANGELOG,
            "README.md": "pip install zloop-0.2.0-cp313-cp313-linux_x86_64.whl\n",
        }
        checker.plant({name: text.replace(replace, by) if replace else text for name, text in files.items()})
        return checker.module.main(tag, tmp_path), *capsys.readouterr()

    return run


def test_release_that_agrees_prints_its_section(check):
    assert check() == (0, NOTES, "")


def test_last_section_is_printed_to_the_end(check):
    assert check("v0.2.0", CHANGELOG[CHANGELOG.index("\n## [0.1.0]") :], "") == (0, NOTES, "")


@pytest.mark.parametrize(
    ("replace", "by", "reason"),
    [
        ('"0.2.0"', '"0.2.0rc1"', "the tag is v0.2.0, and zloop.__version__ 0.2.0rc1: it should be v0.2.0rc1"),
        ('"0.2.0"', '"0.2.0.dev0"', "zloop.__version__ is 0.2.0.dev0, which no release is called"),
        (" - 2027-01-31", "", "CHANGELOG.md gives no day as the day of 0.2.0, not YYYY-MM-DD"),
        ("2027-01-31", "2027-02-31", "CHANGELOG.md gives 2027-02-31 as the day of 0.2.0, not YYYY-MM-DD"),
        ("2027-01-31", "20270131", "CHANGELOG.md gives 20270131 as the day of 0.2.0, not YYYY-MM-DD"),
        ("[Unreleased]\n", "[Unreleased]\n\n- A third.\n", "CHANGELOG.md lists what is Unreleased"),
        ("## [Unreleased]\n", "", "CHANGELOG.md does not begin with what is Unreleased"),
        ("[0.2.0]", "[0.1.9]", "CHANGELOG.md has no section [0.2.0] after Unreleased"),
        ("- A", "A", "CHANGELOG.md lists nothing under 0.2.0"),
        ("zloop-0.2.0-cp313", "zloop-0.1.0-cp313", "README.md names a wheel of 0.1.0"),
    ],
    ids=lambda value: value.strip()[:20],
)
def test_disagreement_is_named(check, replace, by, reason):
    status, out, err = check("v0.2.0", replace, by)
    assert (status, out) == (1, "")
    assert reason in err


def test_tag_of_another_version_is_refused(check):
    assert check("v0.2.1")[0] == 1
    assert check("0.2.0")[0] == 1


def test_tree_that_has_no_version_is_no_tree(check):
    assert check("v0.2.0", "__version__", "version")[0] == 2


def test_command_takes_a_tag_and_looks_at_the_tree_that_it_is_in(tmp_path, monkeypatch):
    checker = Checker("check_release", tmp_path, monkeypatch)
    checker.tree = "v0.0.0"
    status, out, err = checker.command()
    assert (status, out) == (1, "")
    assert "the tag is v0.0.0, and zloop.__version__" in err
    assert "README.md names a wheel" not in err
    assert "does not begin" not in err
