"""scripts/check_tests.py finds tests that assert nothing, assertions that cannot fail, and what is too long."""

import pytest
from support import Checker

SOUND = {
    "tests/test_sound.py": (
        "import pytest\n"
        "import support\n\n"
        "def indirectly(value):\n    directly(value)\n\n"
        "def directly(value):\n    assert value\n\n"
        "def not_a_test():\n    pass\n\n"
        "def test_statement(run):\n    async def scenario():\n        assert await run()\n    run(scenario())\n\n"
        "async def test_helper():\n    indirectly(1)\n\n"
        "def test_raises():\n    with pytest.raises(ValueError):\n        int('')\n\n"
        "def test_comparison_with_asyncio(same_as_asyncio):\n    same_as_asyncio(len)\n\n"
        "def test_silence(loop):\n    with support.assert_silent(loop):\n        pass\n\n"
        "def test_same_twice(thing):\n    assert thing.next == thing.next\n    assert f() == f()\n\n"
        "class TestThings:\n    def test_method(self):\n        assert self.value\n"
    ),
    "tests/support.py": "def test_like():\n    pass\n",  # of no test file
}

LONG_TEST = "def test_long(values):\n" + "    values.sort()\n" * 59

VIOLATIONS = {
    "nothing": ("def test_nothing():\n    f()\n", 1, "test_nothing() asserts nothing"),
    "coroutine": ("\n\nasync def test_nothing():\n    await f()\n", 3, "test_nothing() asserts nothing"),
    "method": ("class TestIt:\n    def test_it(self):\n        f()\n", 2, "test_it() asserts nothing"),
    "another's helper": ("from x import f\ndef test_it():\n    f()\n", 2, "test_it() asserts nothing"),
    "local function of the same name as an asserting one": (
        (
            "def test_one():\n    def scenario():\n        assert f()\n    scenario()\n\n"
            "def test_two():\n    def scenario():\n        f()\n    scenario()\n"
        ),
        6,
        "test_two() asserts nothing",
    ),
    "raises of another": ("def test_it(x):\n    x.raises(ValueError)\n", 1, "test_it() asserts nothing"),
    "constant": ("def test_it():\n    assert True\n", 2, "the assertion cannot fail: True"),
    "text": ("def test_it():\n    f()\n    assert 'f is called'\n", 3, "the assertion cannot fail: 'f is called'"),
    "itself": ("def test_it(a):\n    assert a[0] == a[0]\n", 2, "the assertion cannot fail: a[0] == a[0]"),
    "long test": (LONG_TEST + "    assert values\n", 1, "test_long() has 61 lines, 60 at most"),
    "long file": ("\n" * 1001, 1001, "has 1001 lines, 1000 at most"),
}


@pytest.fixture
def checker(tmp_path, monkeypatch):
    return Checker("check_tests", tmp_path, monkeypatch)


def test_sound_tests_pass(checker):
    checker.plant(SOUND)
    assert checker.violations() == []


def test_limits_are_not_violations(checker):
    checker.plant(
        {"tests/test_it.py": LONG_TEST.replace("    values.sort()\n", "", 1) + "    assert values\n" + "\n" * 940}
    )
    assert checker.violations() == []


@pytest.mark.parametrize("case", VIOLATIONS)
def test_violation_is_found(checker, case):
    text, line, reason = VIOLATIONS[case]
    checker.plant({"tests/test_it.py": text})
    assert checker.violations() == [("tests/test_it.py", line, reason)]


def test_command_line(checker):
    violation = {"tests/test_it.py": "def test_it():\n    f()\n"}
    checker.assert_command_tells(SOUND, violation, "tests/test_it.py:1: test_it() asserts nothing\n")
