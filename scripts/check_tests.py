#!/usr/bin/env python3
"""Checks that every test of tests/ can fail by what it says, and can be read.

    python scripts/check_tests.py [ROOT]

* A test asserts something: by an assert statement, pytest.raises, pytest.warns or pytest.fail, one of the functions
  assert_* (support.assert_silent is for tests of what is left behind), the fixture same_as_asyncio, or by a function
  of the same file that does. A test without would still fail by a time limit or the leak guard, but does not say so.
* An assertion is about something: not about a constant, and not a comparison of something with itself.
* A test function has at most 60 lines, a test file 1,000.

Prints FILE:LINE: REASON for each violation; the exit status is 1 if there is any, and 2 if ROOT holds no tests.
"""

import ast
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from checking import Violation, run

FUNCTION_LIMIT = 60
FILE_LIMIT = 1000

PYTEST_ASSERTS = {"fail", "raises", "warns"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_files(root: Path) -> list[Path]:
    return sorted(root.glob("tests/**/test_*.py"))


def called_name(call: ast.Call) -> str:
    """The name of what is called, without what it is looked up in."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def asserts_itself(function: Function) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = called_name(node)
            if name.startswith("assert_") or name == "same_as_asyncio":
                return True
            if name in PYTEST_ASSERTS and ast.unparse(node.func) == f"pytest.{name}":
                return True
    return False


def calls_of(function: Function) -> set[str]:
    return {
        node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def asserting(functions: dict[str, Function]) -> set[str]:
    """The names of the functions that assert something, be it by calling one another."""
    found = {name for name, function in functions.items() if asserts_itself(function)}
    while more := {name for name in functions.keys() - found if calls_of(functions[name]) & found}:
        found |= more
    return found


def tests_of(tree: ast.Module) -> Iterator[Function]:
    """The test functions of a module, and those of its test classes."""
    bodies = [tree.body, *(node.body for node in tree.body if isinstance(node, ast.ClassDef))]
    for node in itertools.chain.from_iterable(bodies):
        if isinstance(node, Function) and node.name.startswith("test"):
            yield node


def check_assertions(root: Path) -> Iterator[Violation]:
    for path in test_files(root):
        tree = ast.parse(path.read_text())
        helpers = asserting({node.name: node for node in tree.body if isinstance(node, Function)})
        for test in tests_of(tree):
            if not asserts_itself(test) and not calls_of(test) & helpers:
                yield Violation(path, test.lineno, f"{test.name}() asserts nothing")


def cannot_fail(condition: ast.expr) -> bool:
    if isinstance(condition, ast.Constant):
        return bool(condition.value)
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and not contains_call(condition):
        return ast.dump(condition.left) == ast.dump(condition.comparators[0])
    return False


def contains_call(expression: ast.expr) -> bool:
    return any(isinstance(node, ast.Call | ast.Await | ast.Attribute) for node in ast.walk(expression))


def check_conditions(root: Path) -> Iterator[Violation]:
    for path in test_files(root):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Assert) and cannot_fail(node.test):
                yield Violation(path, node.lineno, f"the assertion cannot fail: {ast.unparse(node.test)}")


def check_lengths(root: Path) -> Iterator[Violation]:
    for path in test_files(root):
        text = path.read_text()
        count = len(text.splitlines())
        if count > FILE_LIMIT:
            yield Violation(path, FILE_LIMIT + 1, f"has {count} lines, {FILE_LIMIT} at most")
        for test in tests_of(ast.parse(text)):
            length = (test.end_lineno or test.lineno) - test.lineno + 1
            if length > FUNCTION_LIMIT:
                yield Violation(path, test.lineno, f"{test.name}() has {length} lines, {FUNCTION_LIMIT} at most")


CHECKS = (check_assertions, check_conditions, check_lengths)
NEEDED = ("tests/test_*.py",)

if __name__ == "__main__":
    sys.exit(run(CHECKS, NEEDED))
