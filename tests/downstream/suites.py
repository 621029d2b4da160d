"""What is known of the projects whose suites are run: how pytest is started, and which differences are their own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Suite:
    """One project's tests."""

    arguments: tuple[str, ...] = ()  # for pytest, in place of the addopts in the project's settings
    environment: Mapping[str, str] = field(default_factory=dict)
    # Tests that can pass, or run the loop they are given, only on the standard library's own classes: a pattern for
    # their ids, and the reason that is printed with every run. Not for what is merely hard.
    stdlib_only: tuple[tuple[str, str], ...] = ()

    def reason(self, test: str) -> str | None:
        """Return why a test is on the list, or None if it is not. A pattern's brackets mean themselves."""
        return next((why for pattern, why in self.stdlib_only if fnmatchcase(test, pattern.replace("[", "[[]"))), None)


SUITES = {
    "uvicorn": Suite(
        stdlib_only=(
            (
                "tests/test_auto_detection.py::test_loop_auto",
                "wants the loop's class to come from a module whose name begins with asyncio",
            ),
        ),
    ),
    "anyio": Suite(
        arguments=("-p", "anyio", "-p", "pytest_mock", "-p", "timeout", "-m", "not network"),
        environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    ),
    "aiohttp": Suite(
        arguments=("-m", "not dev_mode and not autobahn and not internal"),
        stdlib_only=(
            (
                "tests/test_web_functional.py::test_keepalive_expires_on_time*",
                "sets the clock by replacing the loop's time(), which only asyncio's own loops ask for their timers",
            ),
        ),
    ),
}
