#!/usr/bin/env python3
"""Checks that a tag and the tree agree on what is released, and prints the changelog's section of it.

    python scripts/check_release.py v0.2.0 [ROOT] > notes.md

* The tag is "v" and the `__version__` of zloop/__init__.py, which has the form X.Y.Z, X.Y.ZaN, X.Y.ZbN or X.Y.ZrcN.
* CHANGELOG.md has a section of that version with the day of the release, it is the first after Unreleased, and it is
  not empty; nothing is listed as unreleased.
* README.md names no wheel of another version.

Prints what does not hold, a line each, on standard error; the exit status is 1 then, and 2 where ROOT is no such tree.
"""

import re
import sys
from datetime import date
from pathlib import Path
from typing import NamedTuple

VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")


class Section(NamedTuple):
    """A part of the changelog: `## [name]`, or `## [name] - day`."""

    name: str
    day: str
    text: str


def sections(changelog: str) -> list[Section]:
    parts = re.split(r"^## \[(.+?)\](?: - (\S+))?[^\n]*\n", changelog, flags=re.MULTILINE)[1:]
    return [
        Section(name, day or "", text.strip())
        for name, day, text in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def has_entries(section: Section) -> bool:
    return re.search(r"^- ", section.text, re.MULTILINE) is not None


def disagreements(tag: str, version: str, listed: list[Section], readme: str) -> list[str]:
    """What does not hold, in words."""
    found = []
    if not VERSION.fullmatch(version):
        found.append(f"zloop.__version__ is {version}, which no release is called")
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, and zloop.__version__ {version}: it should be v{version}")
    if not listed or listed[0].name != "Unreleased":
        found.append("CHANGELOG.md does not begin with what is Unreleased")
    elif has_entries(listed[0]):
        found.append("CHANGELOG.md lists what is Unreleased: that belongs under the version")
    if len(listed) < 2 or listed[1].name != version:
        found.append(f"CHANGELOG.md has no section [{version}] after Unreleased")
    else:
        if not is_day(listed[1].day):
            found.append(f"CHANGELOG.md gives {listed[1].day or 'no day'} as the day of {version}, not YYYY-MM-DD")
        if not has_entries(listed[1]):
            found.append(f"CHANGELOG.md lists nothing under {version}")
    wheels = sorted(set(re.findall(r"zloop-([\w.]+)-cp\d+-", readme)) - {version})
    found += [f"README.md names a wheel of {wheel}" for wheel in wheels]
    return found


def main(tag: str, root: Path) -> int:
    try:
        [version] = re.findall(r'^__version__ = "(.+)"$', (root / "zloop/__init__.py").read_text(), re.MULTILINE)
        listed = sections((root / "CHANGELOG.md").read_text())
        readme = (root / "README.md").read_text()
    except (OSError, ValueError) as error:
        print(f"{root}: {error}", file=sys.stderr)
        return 2
    found = disagreements(tag, version, listed, readme)
    for reason in found:
        print(reason, file=sys.stderr)
    if found:
        return 1
    print(listed[1].text)
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(f"usage: {sys.argv[0]} TAG [ROOT]")
    sys.exit(main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parents[1]).resolve()))
