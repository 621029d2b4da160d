"""The documents name what is there."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[1]


def test_tests_that_hold_the_differences_are_there():
    rows = [row for row in (ROOT / "docs/differences.md").read_text().splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.search(r"`(test_\w+\.py)::(\w+)` \|$", row)
        assert named, row
        assert f"def {named[2]}(" in (ROOT / "tests" / named[1]).read_text(), row
