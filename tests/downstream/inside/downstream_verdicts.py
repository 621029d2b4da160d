"""pytest plugin of a downstream test run: writes down each test's verdict as soon as it is known.

A run that dies leaves behind what it knew, and the test that it died in. The environment tells:

    DOWNSTREAM_VERDICTS  the file to which JSON lines are appended: {"started": ID}, and then
                         {"test": ID, "verdict": ..., "why": ..., "text": ..., "seconds": ...}
    DOWNSTREAM_ONLY      a file with the ids of the tests to run, one a line; if it is not set, all are run
"""

import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest
from sitecustomize import stable

TEXT_LIMIT = 20_000  # characters of a failure's text that are kept, counted from its end


class Verdicts:
    def __init__(self, path: Path, only: Path | None) -> None:
        self.path = path
        self.only = set(only.read_text().splitlines()) if only else None
        self.found: dict[str, Any] = {}

    def write(self, **line: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @pytest.hookimpl(trylast=True)  # after what -k and -m leave out
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.only is not None:
            left_out = [item for item in items if stable(item.nodeid) not in self.only]
            items[:] = [item for item in items if stable(item.nodeid) in self.only]
            config.hook.pytest_deselected(items=left_out)
        self.write(collected=[stable(item.nodeid) for item in items])

    def pytest_collection_finish(self) -> None:
        """Spare everything imported the collections that some suites make after each test: most of their time."""
        gc.collect()
        gc.freeze()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write(test=report.nodeid, verdict="failed", why=headline(report), text=report.longreprtext, seconds=0)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.found = {"verdict": "passed", "why": "", "text": "", "seconds": 0.0}
        self.write(started=stable(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.found["seconds"] += report.duration
        if report.failed:
            self.found |= {"verdict": "failed", "why": headline(report)}
            self.found["text"] = (self.found["text"] + report.longreprtext)[-TEXT_LIMIT:]
        elif report.skipped and self.found["verdict"] == "passed":
            expected = getattr(report, "wasxfail", None)
            self.found["verdict"] = "skipped" if expected is None else "xfailed"
            self.found["why"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else expected

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.found["seconds"] = round(self.found["seconds"], 3)
        self.write(test=stable(nodeid), **self.found)


def headline(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return the phase, and the line that names the error."""
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext.strip()).splitlines() or [""]
    return f"{report.when or 'collecting'}: {lines[0] if crash else lines[-1]}"[:300]


def pytest_configure(config: pytest.Config) -> None:
    only = os.environ.get("DOWNSTREAM_ONLY")
    config.pluginmanager.register(Verdicts(Path(os.environ["DOWNSTREAM_VERDICTS"]), Path(only) if only else None))
