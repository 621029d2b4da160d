"""What the benchmarks take: peers, libraries and tools; bench/, bench_uvloop/ and bench/instructions.py do the rest."""

import hashlib
import pathlib
import re
import subprocess
import tarfile

import nox

from tooling import BUILD, ROOT, machine, wheels

PEERS = ("uvloop", "zuvloop", "rsloop", "rloop", "aiofastnet", "zloop")
LIBRARIES = ("matplotlib", "httptools", "uvicorn", "aiohttp", "websockets")

UVLOOP = "0.23.0"
CLIENT_HASH = "3c182976ef7b722a9690b3835795b0122fd9a277063047cb02ab62bf8a27eb04"
"""The SHA-256 of examples/bench/echoclient.py in uvloop's source distribution."""


# ---- scripts/bench


def compare_loops(session: nox.Session, flavour: str = "", env: dict[str, str] | None = None) -> None:
    """Run bench/ with the session's arguments, on whatever can be had of peers, libraries and OpenSSL's headers."""
    version = machine.version_of(session_python(session)) + flavour
    tools = BUILD / "bench"
    if not {"--list", "-h", "--help"} & set(session.posargs):
        wheels.install(session, flavour)
        tools = build_tools(session)
        for library in LIBRARIES:
            fetch_library(session, library)
        for peer in PEERS:
            fetch_peer(session, peer, peers_folder(version))
    session.run(
        *("python", str(ROOT / "bench"), f"--peers={peers_folder(version)}", f"--tools={tools}"),
        f"--default-output={BUILD / 'bench' / f'results-{version}'}",
        *session.posargs,
        env=env,
        interrupt_timeout=120,  # it reports what there is
    )


def session_python(session: nox.Session) -> pathlib.Path:
    return pathlib.Path(session.bin) / "python"


def peers_folder(version: str) -> pathlib.Path:
    return BUILD / "bench" / f"peers-{version}"


def fetch_library(session: nox.Session, name: str) -> None:
    """Rows of a library that has no release for this Python say so."""
    note = pathlib.Path(session.virtualenv.location) / f"tried-{name}"
    if note.exists():
        return
    error = pip(session, "install", "--only-binary=:all:", name)
    if error:
        session.warn(f"{name} cannot be installed here: {error}")
    note.touch()


def fetch_peer(session: nox.Session, name: str, folder: pathlib.Path) -> None:
    """Install a package, as it was released, into a folder of its own: two of the peers must not be seen by the others.

    Where that fails, the folder says why.
    """
    target = folder / name
    if (target / "complete").exists():
        return
    session.log(f"fetching {name}")
    target.mkdir(parents=True, exist_ok=True)
    error = pip(session, "install", "--only-binary=:all:", "--upgrade", "--target", str(target), name)
    if error:
        (target / "unavailable").write_text(error)
    else:
        (target / "unavailable").unlink(missing_ok=True)
        (target / "complete").touch()


def pip(session: nox.Session, *arguments: str) -> str:
    """Run pip; why it failed, or nothing."""
    command = [str(session_python(session)), "-m", "pip", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = (done.stdout + done.stderr).splitlines()
    return next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "pip failed")


def build_tools(session: nox.Session) -> pathlib.Path:
    """Build the load generator and the limit server, and return where they are."""
    compiler = wheels.require_compiler(session)
    # Programs built by one system's compiler need not run on another, which may share this folder.
    [version] = re.findall(r"\d+\.\d+\.\d+", machine.compiler_version(compiler))[-1:] or ["any"]
    folder = BUILD / "bench" / f"load-{version}"
    session.run("cmake", "-S", str(ROOT / "bench" / "load"), "-B", str(folder), *openssl(compiler), silent=True)
    session.run("cmake", "--build", str(folder), silent=True)
    return folder


def openssl(compiler: str) -> list[str]:
    """What CMake has to be told about OpenSSL: nothing, if it is installed, or not to be had."""
    if machine.compiles(compiler, "#include <openssl/ssl.h>\n"):
        return []
    try:
        include = machine.debian_package("libssl-dev") / "usr" / "include"
        cache = machine.output(["ldconfig", "-p"])
    except (machine.Missing, OSError, subprocess.CalledProcessError):
        return []
    libraries = re.findall(r"\(libc6,x86-64\) => (\S*lib(?:ssl|crypto)\.so\.3)$", cache, re.MULTILINE)
    if len(libraries) != 2:
        return []
    headers = ";".join(map(str, [include, *include.glob("*-linux-gnu")]))
    return [f"-DOPENSSL_INCLUDE={headers}", f"-DOPENSSL_LIBRARIES={';'.join(libraries)}"]


# ---- scripts/soak


def soak(session: nox.Session) -> None:
    """Run tests/soak with the session's arguments; uvloop is fetched where it is asked for."""
    version = machine.version_of(session_python(session))
    asked = " ".join(session.posargs).replace("=", " ")
    settings = {}
    if not {"-h", "--help"} & set(session.posargs):
        wheels.install(session)
        fetch_library(session, "matplotlib")
        if "--loop uvloop" in asked:
            fetch_peer(session, "uvloop", peers_folder(version))
            settings["PYTHONPATH"] = str(peers_folder(version) / "uvloop")
    output = BUILD / "soak" / f"results-{version}"
    command = ["python", "-P", str(ROOT / "tests" / "soak"), "--output", str(output), *session.posargs]
    session.run(*command, env=settings, interrupt_timeout=120)


# ---- scripts/overload


def overload(session: nox.Session) -> None:
    """Run tests/overload with the session's arguments, beside uvloop where it can be had."""
    version = machine.version_of(session_python(session))
    settings = {}
    if not {"-h", "--help"} & set(session.posargs):
        wheels.install(session)
        fetch_peer(session, "uvloop", peers_folder(version))
        settings["PYTHONPATH"] = str(peers_folder(version) / "uvloop")
    output = BUILD / "overload" / f"results-{version}"
    command = ["python", "-P", str(ROOT / "tests" / "overload"), "--output", str(output), *session.posargs]
    session.run(*command, env=settings, interrupt_timeout=120)


# ---- the instruction counts


def count_instructions(session: nox.Session, report: list[str]) -> None:
    """Run bench/instructions.py with the session's arguments."""
    try:
        valgrind = machine.valgrind()
    except machine.Missing as reason:
        session.skip(str(reason))
    compiler = machine.compiler_version(machine.compiler())
    sources = sorted(BUILD.glob(f"{cache_tag(session)}-*/**/*.cxx"))
    cython = re.search(r"Cython [0-9.]+", sources[0].open().readline()) if sources else None
    session.run(
        *("python", str(ROOT / "bench" / "instructions.py"), "--valgrind", valgrind, "--compiler", compiler),
        *("--cython", cython[0] if cython else "an unknown Cython", *report, *session.posargs),
    )


def cache_tag(session: nox.Session) -> str:
    """As the build's folder has it: cp313."""
    return "cp" + machine.version_of(session_python(session)).replace(".", "")


# ---- uvloop's echo benchmark


def echo(session: nox.Session) -> None:
    """Run bench_uvloop/matrix.py with the session's arguments."""
    session.install("--only-binary=uvloop", "psutil", "rich", "trustme", f"uvloop=={UVLOOP}")
    asks_for_help = {"-h", "--help"} & set(session.posargs)
    client = BUILD / "bench" / f"uvloop-{UVLOOP}" / "echoclient.py"
    if not asks_for_help:
        if "zloop" in asked_loops(session.posargs):
            wheels.install(session)
        fetch_client(session, client)
    session.run("python", str(ROOT / "bench_uvloop" / "matrix.py"), "--client", str(client), *session.posargs)


def asked_loops(arguments: list[str]) -> list[str]:
    """The loops that the arguments ask for: all of them where they do not say."""
    asked = "asyncio,uvloop,zloop"
    for number, argument in enumerate(arguments):
        if argument.startswith("--loops="):
            asked = argument.partition("=")[2]
        elif argument == "--loops" and number + 1 < len(arguments):
            asked = arguments[number + 1]
    return asked.split(",")


def fetch_client(session: nox.Session, client: pathlib.Path) -> None:
    """Take uvloop's client, byte for byte, out of its source distribution."""
    if client.exists() and is_genuine(client.read_bytes()):
        return
    session.log("taking the client out of uvloop's source distribution")
    scratch = BUILD / "bench" / "download"
    # ":all:" instead of "uvloop" would compile Cython on the way.
    options = ["--no-deps", "--no-binary", "uvloop", "--dest", str(scratch)]
    session.run("python", "-m", "pip", "download", *options, f"uvloop=={UVLOOP}", silent=True)
    with tarfile.open(scratch / f"uvloop-{UVLOOP}.tar.gz") as archive:
        member = archive.extractfile(f"uvloop-{UVLOOP}/examples/bench/echoclient.py")
        content = member.read() if member else b""
    if not is_genuine(content):
        session.error("uvloop's client is not the one that was expected (its SHA-256 differs)")
    client.parent.mkdir(parents=True, exist_ok=True)
    client.write_bytes(content)


def is_genuine(content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == CLIENT_HASH
