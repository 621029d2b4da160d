"""Every code block of README and of docs/ runs in a test, or is a command that there is.

README's programs run here, those of other pages where RUN_BY says. Of a command its program, its options, its session
and its files are looked for. What is only shown is text; a block of another kind is not let through.
"""

import ast
import itertools
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from support import TIME_LIMIT

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [path.relative_to(ROOT).as_posix() for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]]
RUN_BY = {
    "README.md": "tests/test_code_blocks.py",
    "docs/clients.md": "tests/applications/test_postgresql_drivers.py",
    "docs/servers.md": "tests/applications/test_servers.py",
    "docs/testing.md": "tests/test_test_tools.py",
    "docs/threads.md": "tests/test_run_threads.py",
}
"""Which test runs the programs of a page, and its other lines."""

SERVERS = {"aiohttp.web", "granian", "gunicorn", "hypercorn", "sanic", "uvicorn"}


def read(name):
    return (ROOT / name).read_text()


def blocks(page):
    """The code blocks of a page: (language, text)."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def sessions():
    """The names of nox's sessions, without a Python's version."""
    for node in ast.parse(read("noxfile.py")).body:
        for decorator in getattr(node, "decorator_list", ()):
            if "nox.session" in ast.unparse(decorator):
                given = {keyword.arg: keyword.value for keyword in getattr(decorator, "keywords", ())}
                yield given["name"].value if "name" in given else node.name


SESSIONS = set(sessions())


def sources_of_commands():
    """All that parses options of the commands in scripts/, as one text."""
    folders = ["scripts", "bench", "bench_uvloop", "tests/fuzzing", "tests/overload", "tests/soak"]
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return "".join(path.read_text() for path in [ROOT / "noxfile.py", *paths])


OPTIONS = set(re.findall(r'"(--[\w-]+)"', sources_of_commands()))


def missing_in_nox(arguments):
    """Sessions that there are not, of `nox -s SESSION… -- …`."""
    asked, _, _ = " ".join(arguments).partition(" -- ")
    named = [
        re.sub(r"(-3\.\d+t?|-python3\.\d+d)?(\(\w+\))?$", "", name)
        for name in asked.split()
        if not name.startswith("-")
    ]
    return [name for name in named if name not in SESSIONS]


def missing_in_pip(arguments):
    project = tomllib.loads(read("pyproject.toml"))
    [version] = re.findall(r'^__version__ = "(.+)"', read("zloop/__init__.py"), re.MULTILINE)
    groups = [group for word, group in itertools.pairwise(arguments) if word == "--group"]
    wheels = [word for word in arguments if word.endswith(".whl")]
    missing = [group for group in groups if group not in project["dependency-groups"]]
    return missing + [wheel for wheel in wheels if not wheel.startswith(f"zloop-{version}-cp")]


def missing_in_cmake(arguments):
    presets = {preset["name"] for preset in json.loads(read("CMakePresets.json"))["configurePresets"]}
    named = [preset for word, preset in itertools.pairwise(arguments) if word == "--preset"]
    return [preset for preset in named if preset not in presets] if named else ["--preset"]


def missing_options(arguments):
    return [word for word in arguments if word.startswith("--") and word not in OPTIONS]


def missing_server(words):
    """A server's line elsewhere is one of docs/servers.md, where it is run."""
    lines = [line for _, text in blocks("docs/servers.md") for line in text.splitlines()]
    return [] if shlex.join(words) in lines else words


def missing(page, command):
    """What a command line names that is not there; all of it where nothing is known of such a command."""
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
        words.pop(0)
    match words:
        case []:
            found = []
        case ["nox" | "scripts/nox", *arguments]:
            found = missing_in_nox(arguments)
        case ["pip", *arguments]:
            found = missing_in_pip(arguments)
        case ["cmake" | "ctest", *arguments]:
            found = missing_in_cmake(arguments)
        case ["pyinstaller", *arguments]:
            found = missing_options(arguments)
        case [program, *arguments] if program.startswith("scripts/"):
            found = missing_options(arguments) if (ROOT / program).is_file() else [program]
        case [program, *_] if program in SERVERS:
            found = missing_server(words)
        case ["pytest" | "python", *_] if page in RUN_BY:
            found = []
        case ["pytest"]:
            found = []
        case _:
            found = words
    return found


@pytest.mark.parametrize("page", PAGES)
def test_commands_name_what_is_there(page):
    lines = [line for language, text in blocks(page) if language in {"", "console"} for line in text.splitlines()]
    commands = [command for line in lines for command in line.partition(" #")[0].split(" && ")]
    found = {command: missing(page, command) for command in commands}
    assert {command: names for command, names in found.items() if names} == {}


def test_commands_that_are_not_there_are_found():
    wrong = {
        "scripts/nox -s tests-3.13 nothing -- tests": ["nothing"],
        "nox -s 'downstream-3.13(uvicorn)' nothing-3.11": ["nothing"],
        "scripts/nothing --quick": ["scripts/nothing"],
        "A=1 scripts/bench --quick --nothing": ["--nothing"],
        "pip install -e . --group nothing": ["nothing"],
        "pip install zloop-0.0.1-cp313-cp313-linux_x86_64.whl": ["zloop-0.0.1-cp313-cp313-linux_x86_64.whl"],
        "cmake --preset nothing": ["nothing"],
        "ctest": ["--preset"],
        "uvicorn app:app --nothing": ["uvicorn", "app:app", "--nothing"],
        "python nothing.py": ["python", "nothing.py"],
        "nothing": ["nothing"],
    }
    assert {command: missing("CONTRIBUTING.md", command) for command in wrong} == wrong


@pytest.mark.parametrize("page", PAGES)
def test_programs_are_run_by_a_test(page):
    languages = {language for language, _ in blocks(page)}
    assert languages <= {"", "console", "python", "text", "toml"}
    if languages & {"python", "toml"}:
        assert pathlib.PurePath(page).name in read(RUN_BY[page])


@pytest.mark.parametrize("page", PAGES)
def test_sessions_that_are_named_in_passing_are_there(page):
    named = re.findall(r"`(?:scripts/)?nox -s ([^`]+)`", read(page))
    assert [line for line in named if missing_in_nox(shlex.split(line))] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", read(page))
    assert [link for link in links if not leads_somewhere(ROOT / page, *link.partition("#")[::2])] == []


def test_links_that_lead_nowhere_are_found():
    servers = ROOT / "docs/servers.md"
    assert leads_somewhere(servers, "", "gunicorn")
    assert leads_somewhere(servers, "../README.md", "how-fast")
    assert not leads_somewhere(servers, "", "nothing")
    assert not leads_somewhere(servers, "README.md", "")


def leads_somewhere(page, file, heading):
    target = (page.parent / file).resolve() if file else page
    if ".github" in target.parts and not (ROOT / ".github").exists():
        return True  # an sdist has no workflows
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if heading else []
    return not heading or heading in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


# -- README ----------------------------------------------------------------------------------------------------------

PRELUDE = """
import asyncio, sys, zloop

ran = []

async def main():
    ran.append(type(asyncio.get_running_loop()) is zloop.Loop)
"""


@pytest.mark.zloop_only
def test_readmes_programs_run_on_zloop():
    programs = [text for language, text in blocks("README.md") if language == "python"]
    lines = [ast.unparse(node) for text in programs for node in ast.parse(text).body]
    assert len(lines) == 5
    if sys.version_info < (3, 12):  # as the comment beside it says
        lines = [line for line in lines if not line.startswith("asyncio.run(")]
    lines = [line.replace("...", "runner.run(main())") for line in lines]
    policies = "hasattr(asyncio, 'set_event_loop_policy')"
    lines = [f"if {policies}: {line}" if line == "zloop.install()" else line for line in lines]
    program = "\n".join([PRELUDE, *lines, "asyncio.run(main())", f"print(ran[:-1], ran[-1] is {policies})"])
    done = run("-P", "-W", "ignore::DeprecationWarning", "-c", program)
    assert done.stdout == f"{[True] * (3 if sys.version_info >= (3, 12) else 2)} True\n"


@pytest.mark.zloop_only
def test_readmes_command_lines_run_programs_on_zloop(tmp_path):
    program = "import asyncio\nasync def main(): print(type(asyncio.get_running_loop()).__module__)\n"
    (tmp_path / "script.py").write_text(f"{program}asyncio.run(main())\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__main__.py").write_text(f"{program}import uvloop\nuvloop.run(main())\n")
    [text] = [text for _, text in blocks("README.md") if text.startswith("python -m zloop")]
    lines = [shlex.split(line.replace("…", ""), comments=True) for line in text.splitlines()]
    assert [line[0] for line in lines] == ["python"] * 3
    assert lines[2] == ["python", "-m", "zloop", "--check"]  # which test_launcher.py runs
    for line in lines[:2]:
        assert run(*line[1:], cwd=tmp_path).stdout == "zloop.loop\n"


def run(*arguments, cwd=None):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, stdout=-1, text=True, check=True, timeout=TIME_LIMIT)
