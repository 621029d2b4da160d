"""The documents name what is there."""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).parents[1]


def test_tests_that_hold_the_differences_are_there():
    rows = [row for row in (ROOT / "docs/differences.md").read_text().splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 20
    for row in rows:
        named = re.search(r"`(test_\w+\.py)::(\w+)` \|$", row)
        assert named, row
        assert f"def {named[2]}(" in (ROOT / "tests" / named[1]).read_text(), row


def test_tests_that_hold_the_threat_models_promises_are_there():
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", (ROOT / "docs/threat-model.md").read_text())
    assert len(named) > 20
    missing = [name for file, name in named if f"def {name}(" not in (ROOT / "tests" / file).read_text()]
    assert missing == []


def test_tuning_constants_are_there_with_their_values():
    rows = [row.strip("| ").split(" | ") for row in (ROOT / "docs/tuning.md").read_text().splitlines()]
    constants = [row for row in rows if len(row) == 4 and row[0].startswith("`")]
    assert len(constants) > 20
    for name, file, value, _ in constants:
        text = (ROOT / file.strip("`")).read_text()
        definition = re.search(rf"\b{name.strip('`')} ?[={{][^\n]*", text)
        assert definition, name
        assert re.search(rf"(?<!\d){re.escape(value)}(?!\d)", definition[0]), (name, definition[0])


def test_architecture_names_folders_and_modules_that_are_there():
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:zloop|cpp|core|net|system|tls|transports|binding|engine|scripts)/[\w/.]*)`", text))
    assert len(named) > 8
    missing = [name for name in named if not ((ROOT / name).exists() or (ROOT / "zloop" / name).exists())]
    assert missing == []


def test_supported_pythons_are_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    classifiers = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["project"]["classifiers"]), re.MULTILINE)
    policy = re.findall(r"^\| (3\.\d+) \| ", (ROOT / "docs/versioning.md").read_text(), re.MULTILINE)
    [sessions] = re.findall(r"^VERSIONS = \((.+)\)", (ROOT / "scripts/tooling/__init__.py").read_text(), re.MULTILINE)
    assert len(classifiers) > 3
    assert policy == classifiers
    assert re.findall(r"3\.\d+", sessions) == classifiers
    assert project["project"]["requires-python"] == f">={classifiers[0]}"
    tags = [f"cp{version.replace('.', '')}" for version in classifiers]
    wheels = [f"{tag}-*" for tag in (*tags, *(f"{tag}t" for tag in tags[tags.index("cp314") :]))]  # without a GIL, too
    assert project["tool"]["cibuildwheel"]["build"] == wheels
    for workflow in ROOT.glob(".github/workflows/*.yml"):
        for matrix in re.findall(r"python: \[(.+)\]", workflow.read_text()):
            assert re.findall(r"3\.\d+", matrix) in ([], classifiers)
            assert re.findall(r"cp\d+t?", matrix) in ([], [wheel[:-2] for wheel in wheels])


def test_deployment_names_every_system_call_of_the_engine():
    """As the layer of system calls makes them on Linux."""
    kernels = {"eventfd": "eventfd2", "recv": "recvfrom", "send": "sendto"}
    libraries = {"syscall", "sysconf"}
    files = [ROOT / "cpp/src/sys" / name for name in ("linux.cpp", "posix.cpp")]
    made = set(re.findall(r"(?<![\w>])::([a-z]\w+)\(", "".join(file.read_text() for file in files)))
    assert len(made) > 20
    named = set(re.findall(r"`(\w+)`", (ROOT / "docs/deployment.md").read_text().partition("## Seccomp")[2]))
    assert {kernels.get(call, call) for call in made - libraries} - named == set()
