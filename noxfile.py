"""Everything that is run on zloop's sources: `nox -l` lists the sessions, `nox -s SESSION -- ARGUMENT…` runs one.

All that a session makes is in build/. A session of one Python is named after it, as tests-3.13; the others run on the
Python that runs nox. $JOBS says how many things to do at a time, and $CXX names the compiler. Where $ZLOOP_REPORTS
names a folder, the tests' reports go there (scripts/suite.py counts them).
"""

from __future__ import annotations

import os
import pathlib
import sys

import nox
from nox.command import CommandFailed

sys.path.insert(0, str(pathlib.Path(__file__).parent / "scripts"))

from tooling import BUILD, ROOT, VERSIONS, benchmarks, clang_tidy, coverage, engine, machine, memcheck, projects, wheels

nox.needs_version = ">=2026.1"
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.envdir = "build/nox"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
RUNNING = "{}.{}".format(*sys.version_info)
nox.options.sessions = ["lint", "engine", f"tests-{RUNNING}"]
# Its caches are in build/, too.
os.environ.setdefault("VIRTUALENV_OVERRIDE_APP_DATA", str(BUILD / "virtualenv"))
# The Python of this version is the one that runs nox, also where PATH has another.
home = pathlib.Path(sys._base_executable).parent  # type: ignore[attr-defined]
if (home / f"python{RUNNING}").exists():
    os.environ["PATH"] = f"{home}{os.pathsep}{os.environ['PATH']}"

RELEASE = BUILD / "release"
ASAN_TESTS = ("test_tls.py", "test_tls_wire.py", "test_tls_handshakes.py", "test_tls_backend.py", "test_bad_input.py")
ASAN_SETTINGS = {
    # The interpreter is as it is: its memory comes from malloc(), so that what is written beyond a bytes object shows.
    "PYTHONMALLOC": "malloc",
    # A run of all tests looks for leaks, too.
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:handle_segv=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
LEAK_SETTINGS = {
    # A process that leaks is aborted at its end. Two frames: scripts/leaks.suppressions says why.
    "ASAN_OPTIONS": "detect_leaks=1:malloc_context_size=2:abort_on_error=1:handle_segv=0",
    "LSAN_OPTIONS": f"suppressions={ROOT / 'scripts' / 'leaks.suppressions'}:print_suppressions=0",
}


def install_groups(session: nox.Session, *names: str) -> None:
    """Install dependency groups of pyproject.toml."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    session.install(*nox.project.dependency_groups(project, *names))


def report(option: str, name: str) -> list[str]:
    """The arguments for a report of the tests, where one is asked for."""
    folder = os.environ.get("ZLOOP_REPORTS")
    return [f"{option}={folder}/{name}"] if folder else []


def run_pytest(session: nox.Session, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Run tests on the zloop that is installed, not on the sources beside them."""
    junit = [*report("--junit-xml", "pytest.xml"), "-o", "junit_family=xunit2"]
    session.run("python", "-P", "-m", "pytest", *junit, *arguments, env=env)


@nox.session(python=VERSIONS)
def build(session: nox.Session) -> None:
    """Build zloop's wheel, which the other sessions of this Python install."""
    wheels.build(session)


@nox.session(python=VERSIONS)
def tests(session: nox.Session) -> None:
    """Run the behaviour tests; arguments are pytest's."""
    install_groups(session, "test", "uvicorn")
    wheels.install(session)
    run_pytest(session, *session.posargs)


@nox.session(python=VERSIONS)
def applications(session: nox.Session) -> None:
    """Run servers, clients and drivers on zloop, as docs/servers.md and docs/clients.md say; arguments are pytest's."""
    install_groups(session, "test", "applications")
    wheels.install(session)
    chosen = any(argument.startswith("tests/") for argument in session.posargs)
    run_pytest(session, *([] if chosen else ["tests/applications"]), *session.posargs)


@nox.session(python=VERSIONS)
def conformance(session: nox.Session) -> None:
    """Run CPython's own asyncio tests on zloop; arguments are tests/conformance's, --help tells them."""
    script = "import importlib.util as u; print(bool(u.find_spec('test') and u.find_spec('test.test_asyncio')))"
    if "True" not in str(session.run("python", "-c", script, silent=True)):
        session.skip("this Python comes without its own tests (on Debian: libpython3-testsuite)")
    wheels.install(session)
    jobs = ["-j", str(machine.jobs())]
    session.run("python", "tests/conformance", *jobs, *report("--json", "conformance.json"), *session.posargs)


@nox.session(python=VERSIONS)
@nox.parametrize("project", projects.PROJECTS, ids=projects.PROJECTS)
def downstream(session: nox.Session, project: str) -> None:
    """Run a project's tests on zloop and on asyncio; arguments: its release (==1.0), then tests/downstream's."""
    projects.run(session, project, report("--json", f"{project}.json"))


@nox.session(python=VERSIONS)
def fuzz(session: nox.Session) -> None:
    """Drive zloop through random programs; arguments are tests/fuzzing's, --minutes 60 for one."""
    install_groups(session, "test")
    wheels.install(session)
    examples = ["--examples", str(BUILD / "fuzzing")]
    session.run("python", "-P", "tests/fuzzing", *examples, *session.posargs)


@nox.session(python=[RUNNING])
def soak(session: nox.Session) -> None:
    """Let zloop work under everything at once, and judge it: scripts/soak, whose options it takes."""
    install_groups(session, "test")
    benchmarks.soak(session)


@nox.session(python=VERSIONS)
def faults(session: nox.Session) -> None:
    """Let every use of every system call fail in turn; arguments are pytest's."""
    install_groups(session, "test")
    wheels.install(session)
    run_pytest(session, "tests/test_faults.py", *session.posargs, env={"ZLOOP_FAULTS": "1000"})


@nox.session(python=[RUNNING])
def overload(session: nox.Session) -> None:
    """Attack servers on zloop, asyncio and uvloop, and compare: scripts/overload, whose options it takes."""
    install_groups(session, "test")
    benchmarks.overload(session)


@nox.session(python=VERSIONS)
def leaks(session: nox.Session) -> None:
    """Do each public operation 10,000 times, and look for what becomes more; arguments are pytest's."""
    install_groups(session, "test")
    wheels.install(session)
    settings = {
        "ZLOOP_LEAK_ROUNDS": os.environ.get("ZLOOP_LEAK_ROUNDS", "10000"),
        # What glibc caches it counts as given out.
        "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
    }
    run_pytest(session, "tests/test_leaks.py", *session.posargs, env=settings)


@nox.session(python=VERSIONS)
def instructions(session: nox.Session) -> None:
    """Count the instructions of hot operations, and compare them with those on record; --help tells the options."""
    install_groups(session, "bench")
    wheels.install(session)
    benchmarks.count_instructions(session, report("--junit", "instructions.xml"))


FREE_THREADED = [f"{version}t" for version in ("3.13", "3.14", "3.15")]


@nox.session(name="instructions-free-threaded", python=FREE_THREADED)
def instructions_free_threaded(session: nox.Session) -> None:
    """Count instructions without a GIL, beside those with it that are on record; arguments are as for instructions."""
    session.install("rich>=13")
    wheels.install(session, "-free-threaded")
    benchmarks.count_instructions(session, report("--junit", "instructions-free-threaded.xml"))


@nox.session
def lint(session: nox.Session) -> None:
    """Judge the form of every source file: pre-commit's hooks, stubtest, Sphinx, clang-tidy; one after the other."""
    install_groups(session, "lint", "cmake")
    failed = [name for name, check in LINTERS.items() if not check(session)]
    if failed:
        session.error(f"lint: {', '.join(failed)}")


def run_hooks(session: nox.Session) -> bool:
    """The hooks of .pre-commit-config.yaml on all files; pre-commit keeps its tools in build/."""
    settings = {"PRE_COMMIT_HOME": str(BUILD / "pre-commit")}
    try:
        session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure", *session.posargs, env=settings)
    except CommandFailed:
        return False
    return True


def run_clang_tidy(session: nox.Session) -> bool:
    """The engine and its tests as CMake compiles them, the C++ that knows Python, and the load generator."""
    engine.configure(session, "dev")
    return clang_tidy.run(session)


def run_stubtest(session: nox.Session) -> bool:
    """The Cython modules' stubs, beside the modules that are built from these sources."""
    install_groups(session, "stubs")
    wheels.install(session)
    try:
        session.run("python", "-P", "scripts/check_stubs.py")
    except CommandFailed:
        return False
    return True


def make_docs(session: nox.Session) -> bool:
    """The pages of docs/ as a site, in build/docs, with what the modules that are built say of themselves."""
    install_groups(session, "docs")
    wheels.install(session)
    try:
        session.run("python", "-P", "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "docs", str(BUILD / "docs"))
    except CommandFailed:
        return False
    return True


# What pre-commit does not do within a commit's patience. Each returns whether it found nothing.
LINTERS = {"hooks": run_hooks, "stubs": run_stubtest, "docs": make_docs, "clang-tidy": run_clang_tidy}


@nox.session(python=[RUNNING])
def docs(session: nox.Session) -> None:
    """Make the documentation, in build/docs; a warning is an error."""
    if not make_docs(session):
        session.error("the documentation has mistakes")
    session.log(f"see {BUILD / 'docs' / 'index.html'}")


@nox.session(name="engine")
def engine_tests(session: nox.Session) -> None:
    """Build and run the engine's C++ tests; arguments are presets of CMakePresets.json (dev when none is named).

    With coverage, each line of the engine has to run.
    """
    wheels.require_compiler(session)
    install_groups(session, "cmake")
    for preset in session.posargs or ["dev"]:
        folder = BUILD / f"engine-{preset}"
        if preset == "coverage":
            install_groups(session, "gcovr")
            coverage.forget(folder)
        engine.test(session, preset, report("--output-junit", f"engine-{preset}.xml"))
        if preset == "coverage" and not coverage.engine_is_covered(session, folder):
            session.error("there are lines of the engine that no test runs")


@nox.session
def mutate(session: nox.Session) -> None:
    """Show that the engine's tests fail where it is wrong; arguments are files, as cpp/src/stream.cpp."""
    wheels.require_compiler(session)
    install_groups(session, "cmake")
    session.run("python", "scripts/mutate.py", *session.posargs)


@nox.session(name="fuzz-engine")
def fuzz_engine(session: nox.Session) -> None:
    """Give the engine any bytes as addresses and TLS records, for a minute each; arguments are libFuzzer's."""
    wheels.require_compiler(session)
    install_groups(session, "cmake")
    engine.fuzz(session, session.posargs or ["-max_total_time=60"])


@nox.session(python=[RUNNING])
def sanitizers(session: nox.Session) -> None:
    """Run tests under sanitizers; arguments: asan, tsan (the engine's), python (then --whole, or pytest's); or all.

    Or fuzz, with tests/fuzzing's arguments: random programs under them.
    """
    wanted, *arguments = session.posargs or ["all"]
    if wanted not in {"asan", "tsan", "python", "fuzz", "all"}:
        session.error(f"there is no {wanted}: asan, tsan, python, fuzz, or all when none is named")
    wheels.require_compiler(session)
    for preset in ("asan", "tsan"):
        if wanted in {preset, "all"}:
            install_groups(session, "cmake")
            engine.test(session, preset, report("--output-junit", f"engine-{preset}.xml"))
    if wanted in {"python", "all"}:
        test_sanitized(session, arguments)
    if wanted == "fuzz":
        session.run("python", "-P", "tests/fuzzing", *arguments, env=install_sanitized(session))


def install_sanitized(session: nox.Session) -> dict[str, str]:
    """Install zloop under AddressSanitizer and UndefinedBehaviorSanitizer; return the environment that it runs in.

    zloop checks its invariants, too.
    """
    libraries = engine.sanitizer_libraries(wheels.require_compiler(session))
    if not libraries:
        session.skip("this compiler has no AddressSanitizer of its own")
    install_groups(session, "test")
    options = {"ZLOOP_SANITIZE": "address,undefined", "ZLOOP_INVARIANTS": "ON"}
    defines = [f"-Ccmake.define.{name}={value}" for name, value in options.items()]
    wheels.install(session, "-asan", *defines, "-Cbuild-dir=build/asan-{wheel_tag}")
    return ASAN_SETTINGS | {"LD_PRELOAD": " ".join(libraries)}


def test_sanitized(session: nox.Session, arguments: list[str]) -> None:
    """The behaviour tests on that build; with --whole, all of them, and whether memory is lost."""
    settings = install_sanitized(session)
    if "--whole" in arguments:
        settings |= LEAK_SETTINGS
        arguments = ["tests", *(argument for argument in arguments if argument != "--whole")]
    elif not any(argument.startswith("tests/") for argument in arguments):
        arguments = [*(f"tests/{name}" for name in ASAN_TESTS), *arguments]
    run_pytest(session, *arguments, env=settings)


@nox.session(python=[f"python{version}d" for version in VERSIONS])  # as Debian names them
def debug(session: nox.Session) -> None:
    """The behaviour tests on an interpreter that asserts what holds of its objects; arguments are pytest's."""
    install_groups(session, "test")
    wheels.install(session, "-debug")
    # multidict 7.2 shows the collector objects that are not filled in yet, and such an interpreter looks into them.
    without = {"MULTIDICT_NO_EXTENSIONS": "1", "AIOHTTP_NO_EXTENSIONS": "1"}
    run_pytest(session, "--timeout", "300", *session.posargs, env=without)


def install_free_threaded(session: nox.Session, flavour: str, *options: str) -> dict[str, str]:
    """Install zloop and what the tests need where there is no GIL; return the environment that they run in."""
    project = nox.project.load_toml(ROOT / "pyproject.toml")
    needed = nox.project.dependency_groups(project, "test")
    # Random programs have their own session; trustme's libraries do not know 3.13t: another Python makes certificates.
    session.install(*[name for name in needed if not name.startswith(("hypothesis", "trustme"))])
    wheels.install(session, flavour, *options)
    folder = BUILD / "trustme"
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder), "--upgrade")
    session.run(sys.executable, *pip, "trustme>=1.2", external=True)
    return {
        "PYTHONPATH": str(ROOT / "tests" / "free_threaded"),
        "PYTHON_GIL": "0",
        "ZLOOP_TRUSTME": f"{sys.executable}{os.pathsep}{folder}",
    }


@nox.session(name="free-threaded", python=FREE_THREADED)
def free_threaded(session: nox.Session) -> None:
    """The behaviour tests on an interpreter without a GIL, which must stay off; arguments are pytest's."""
    settings = install_free_threaded(session, "-free-threaded")
    run_pytest(session, "--timeout", "300", *session.posargs, env=settings)


@nox.session(name="free-threaded-conformance", python=FREE_THREADED)
def free_threaded_conformance(session: nox.Session) -> None:
    """CPython's own asyncio tests there, on zloop and on asyncio; arguments are tests/conformance's."""
    wheels.install(session, "-free-threaded")
    session.run("python", "tests/conformance", "-j", str(machine.jobs()), *session.posargs, env={"PYTHON_GIL": "0"})


@nox.session(name="free-threaded-bench", python=FREE_THREADED)
def free_threaded_bench(session: nox.Session) -> None:
    """Compare the loops that leave the GIL off: scripts/bench, with its options; by default the rows threads-*."""
    settings = install_free_threaded(session, "-free-threaded")
    del settings["PYTHON_GIL"]  # which keeps it off whatever is imported: here that is to be seen
    install_groups(session, "cmake")
    session.install("rich>=13")
    session.posargs[:] = session.posargs or ["--row", "threads-*"]
    benchmarks.compare_loops(session, "-free-threaded", settings)


@nox.session(name="thread-sanitizer", python=os.environ.get("ZLOOP_TSAN_PYTHON", sys.executable))
def thread_sanitizer(session: nox.Session) -> None:
    """Look for races between loops under ThreadSanitizer; arguments are scripts/soak's.

    $ZLOOP_TSAN_PYTHON names an interpreter that was configured --disable-gil --with-thread-sanitizer.
    """
    if "ZLOOP_TSAN_PYTHON" not in os.environ:
        session.skip("$ZLOOP_TSAN_PYTHON names no interpreter that is built with ThreadSanitizer")
    os.environ["TSAN_OPTIONS"] = "report_bugs=0"  # while things are installed
    settings = install_free_threaded(
        session, "-tsan", "-Ccmake.define.ZLOOP_SANITIZE=thread", "-Cbuild-dir=build/tsan-{wheel_tag}"
    )
    suppressions = ROOT / "scripts" / "threads.suppressions"
    settings["TSAN_OPTIONS"] = f"suppressions={suppressions}:history_size=7:exitcode=66:halt_on_error=0"
    # It knows no threads in the child of a fork; its own memory grows, and it takes its time.
    options = ["--minutes", "2", "--loops", "4", "--connections", "40", "--no-forks", "--any-memory"]
    options += ["--lag", "100000", "--patience", "120"]
    session.run("python", "-P", "tests/soak", *options, *session.posargs, env=settings)


@nox.session(name="memcheck", python=VERSIONS)
def run_memcheck(session: nox.Session) -> None:
    """Run everything at once under valgrind's memcheck, for half a minute; arguments are scripts/soak's."""
    install_groups(session, "test")
    wheels.install(session)
    memcheck.run(session)


@nox.session(name="coverage", python=VERSIONS)
def coverage_tests(session: nox.Session) -> None:
    """Report which lines of the Cython and the Python sources no behaviour test runs; arguments are pytest's.

    It is kept for coverage-gate, as what has run on this Python.
    """
    coverage.gcov(session)
    install_groups(session, "test", "uvicorn", "coverage")
    wheels.install(session, "-coverage", "-Ccmake.define.ZLOOP_COVERAGE=ON", "-Cbuild-dir=build/coverage-{wheel_tag}")
    [folder] = BUILD.glob(f"coverage-cp{str(session.python).replace('.', '')}-*")
    coverage.forget(folder)
    coverage.run_tests(session, session.posargs)
    coverage.report_tests(session, folder)


@nox.session(name="coverage-gate", venv_backend="none")
def coverage_gate(session: nox.Session) -> None:
    """Fail if a line of zloop/ ran on none of the Pythons that coverage-X.Y has seen, and tells no reason."""
    if not coverage.package_is_covered(session):
        session.error("there are lines of zloop/ that no behaviour test runs, or a report that is not of these sources")


@nox.session
def cross(session: nox.Session) -> None:
    """Compile the engine and its tests for other systems, and run those for Linux; arguments are targets."""
    install_groups(session, "cmake", "cross")
    for target in session.posargs or engine.TARGETS:
        if target not in engine.TARGETS:
            session.error(f"there is no target {target}: {', '.join(engine.TARGETS)}")
        engine.cross(session, target, report("--output-junit", f"engine-{target}.xml"))


@nox.session
def packaging(session: nox.Session) -> None:
    """Show that zloop can be packaged and installed: by an sdist, a wheel of that, and editable."""
    wheels.require_compiler(session)
    install_groups(session, "packaging")
    session.run("python", "scripts/check_packaging.py")


@nox.session
def sdist(session: nox.Session) -> None:
    """Make the sdist of a release, in build/release."""
    install_groups(session, "release")
    session.run("python", "-m", "build", "--sdist", "--outdir", str(RELEASE))
    check_descriptions(session)


@nox.session(name="wheels")
def release_wheels(session: nox.Session) -> None:
    """Make and test this system's wheels, in build/release (on Linux by Docker); arguments are cibuildwheel's."""
    install_groups(session, "release")
    session.run("cibuildwheel", "--output-dir", str(RELEASE), *session.posargs)
    check_descriptions(session)


def check_descriptions(session: nox.Session) -> None:
    """What is in build/release has a description that an index can show."""
    if files := sorted(map(str, RELEASE.glob("*"))):
        session.run("twine", "check", "--strict", *files)


@nox.session(python=[RUNNING])
def freezing(session: nox.Session) -> None:
    """Show that PyInstaller makes one file of a program on zloop, by the hook that zloop brings."""
    script = "import sysconfig; print(sysconfig.get_config_var('Py_ENABLE_SHARED'))"
    if "1" not in str(session.run("python", "-c", script, silent=True)):
        session.skip("PyInstaller takes a Python with a shared library, and this one has none")
    install_groups(session, "freezing")
    wheels.install(session)
    session.run("python", "scripts/check_freezing.py")


@nox.session(python=[RUNNING])
def bench(session: nox.Session) -> None:
    """Compare zloop with every other event loop, row by row: scripts/bench, whose options it takes."""
    install_groups(session, "bench", "cmake")
    benchmarks.compare_loops(session)


@nox.session(python=[RUNNING])
def echo(session: nox.Session) -> None:
    """Run uvloop's echo benchmark on zloop, asyncio and uvloop; arguments are bench_uvloop/matrix.py's."""
    benchmarks.echo(session)
