# shellcheck shell=bash
# Helpers shared by the scripts.  Source it after `set -euo pipefail`:
#
#   source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#
# It sets `root` (the repository's top directory) and defines:
#
#   step TEXT                   print one progress line
#   die TEXT [HINT...]          print an error with its hints, one a line, and exit with status 1
#   run_logged NAME COMMAND...  run COMMAND with its output in build/log/NAME.log and a sign of life every 10 seconds;
#                               returns the command's status
#   require_python              print the path of a CPython >= 3.11 that can make venvs and compile extensions, or die saying
#                               what each Python on the machine lacks; $PYTHON, when set, is the only one considered
#   require_compiler            die unless a C++20 compiler is there; exports CXX when it isn't the one that CMake would find
#   run_pip NAME PYTHON ARGS... run pip, logged as NAME; dies with the reason when pip fails
#   make_venv NAME PYTHON [REQUIREMENT...]
#                               print the interpreter of the virtual environment build/venv/NAME, made with PYTHON and holding
#                               the requirements; kept as it is while PYTHON and the requirement lines stay the same
#   dependency_group PYTHON NAME
#                               print the requirements of pyproject.toml's dependency group NAME, one a line
#   fetch_debian_package NAME   unpack a Debian package into build/debian/NAME, without installing it; fails if that cannot be
#   install_zloop PYTHON [ARGS...]
#                               build zloop and install it into PYTHON's virtual environment, unless this source is in it
#                               already; ARGS (as --editable) go to pip before the path
#
# Progress and errors go to standard error, so that a function's standard output is its answer alone.  Nothing asks for input.

shopt -s inherit_errexit
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_RETRIES="${PIP_RETRIES:-2}"

step() {
  printf '==> %s\n' "$*" >&2
}

die() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
  exit 1
}

# Prints the last line of the log named $1 every 10 seconds.  The sleeps hold none of the caller's pipes open, and the loop
# ends with the script even when that is killed.
show_life() {
  local seconds=0
  while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    seconds=$((seconds + 10))
    printf '    %3d s: %s\n' "$seconds" "$(tail -n 1 "$1" | cut -c 1-110)" >&2
  done
}

run_logged() {
  local log=$root/build/log/$1.log status=0 watcher
  shift
  mkdir -p "$root/build/log"
  : >"$log"
  show_life "$log" >/dev/null &
  watcher=$!
  "$@" </dev/null >"$log" 2>&1 || status=$?
  kill "$watcher" 2>/dev/null || true
  wait "$watcher" 2>/dev/null || true
  return "$status"
}

# Says on standard output what the Python command $1 lacks for building zloop, or nothing.
python_lacks() {
  "$1" - 2>/dev/null <<'PYTHON' || echo "does not run"
import importlib.util
import os
import sys
import sysconfig

header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
if sys.implementation.name != "cpython":
    print("is not CPython")
elif sys.version_info < (3, 11):
    print("is %d.%d, and zloop needs 3.11 or later" % sys.version_info[:2])
elif not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
    print("has no venv module (on Debian: apt-get install python3-venv)")
elif not os.path.exists(header):
    print("has no C headers (on Debian: apt-get install python3-dev)")
PYTHON
}

require_python() {
  local candidate lacking rejected=()
  for candidate in ${PYTHON:-python3 python3.15 python3.14 python3.13 python3.12 python3.11}; do
    command -v "$candidate" >/dev/null || continue
    lacking=$(python_lacks "$candidate")
    if [ -z "$lacking" ]; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
    rejected+=("$candidate $lacking")
  done
  die "no CPython 3.11 or later was found${PYTHON:+ as PYTHON=$PYTHON}" "${rejected[@]}" \
    "Install one, or name it: PYTHON=/path/to/python $0"
}

# Says whether the command $1 compiles C++20 with its library.
compiles_cxx20() {
  command -v "$1" >/dev/null &&
    printf '#include <concepts>\n#include <span>\nstatic_assert(std::integral<int> && __cplusplus >= 202002L);\n' |
    "$1" -std=c++20 -fsyntax-only -x c++ - 2>/dev/null
}

require_compiler() {
  local candidate
  if [ -n "${CXX:-}" ]; then
    compiles_cxx20 "$CXX" || die "CXX=$CXX does not compile C++20"
    return
  fi
  for candidate in c++ g++ clang++; do
    if compiles_cxx20 "$candidate"; then
      [ "$candidate" = c++ ] || export CXX=$candidate
      return
    fi
  done
  die "no C++20 compiler was found (tried c++, g++ and clang++)" \
    "Install one (on Debian: apt-get install g++), or name it: CXX=/path/to/compiler $0"
}

run_pip() {
  local name=$1 python=$2 log=$root/build/log/$1.log
  shift 2
  run_logged "$name" "$python" -m pip "$@" && return
  tail -n 25 "$log" >&2
  if grep -qE 'NewConnectionError|NameResolutionError|Max retries exceeded|ConnectTimeoutError|ProxyError' "$log"; then
    die "the package index cannot be reached" "The whole output is in $log"
  elif grep -q 'No matching distribution found' "$log"; then
    die "the package index has no fitting release: $(grep -m 1 'No matching distribution found' "$log")" \
      "The whole output is in $log"
  fi
  die "pip failed ($name)" "The whole output is in $log"
}

make_venv() {
  local name=$1 python=$2 venv=$root/build/venv/$1 wanted
  shift 2
  wanted=$(printf '%s\n' "$("$python" -c 'import sys; print(sys.executable, sys.version)')" "$@")
  if [ "$(cat "$venv/made-from" 2>/dev/null)" != "$wanted" ]; then
    step "making the virtual environment build/venv/$name with $("$python" --version)"
    rm -rf "$venv"
    run_logged "venv-$name" "$python" -m venv "$venv" ||
      die "the virtual environment could not be made" "The output is in $root/build/log/venv-$name.log"
    if [ $# -gt 0 ]; then
      step "installing $*"
      run_pip "install-$name" "$venv/bin/python" install "$@"
    fi
    printf '%s\n' "$wanted" >"$venv/made-from"
  fi
  printf '%s\n' "$venv/bin/python"
}

dependency_group() {
  "$1" - "$root/pyproject.toml" "$2" <<'PYTHON'
import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    print(*tomllib.load(file)["dependency-groups"][sys.argv[2]], sep="\n")
PYTHON
}

fetch_debian_package() {
  local target=$root/build/debian/$1
  command -v apt-get dpkg >/dev/null || return 1
  step "fetching Debian's $1 into build/debian"
  mkdir -p "$target.download"
  # Without lists of packages, which only root can fetch, apt knows none.
  (cd "$target.download" && run_logged "debian-$1" apt-get download "$1") ||
    { [ "$EUID" -eq 0 ] && run_logged "debian-update" apt-get update &&
      (cd "$target.download" && run_logged "debian-$1" apt-get download "$1"); } || return 1
  dpkg -x "$target.download"/*.deb "$target.unpacked" || return 1
  rm -rf "$target.download"
  mv "$target.unpacked" "$target"
}

# A hash over the names and contents of everything that zloop is built from.
source_hash() {
  (cd "$root" && find pyproject.toml CMakeLists.txt README.md LICENSE cpp zloop -type f -not -name '*.py[cod]' -print0 |
    sort -z | xargs -0 sha256sum | sha256sum)
}

install_zloop() {
  local python=$1 venv=${1%/bin/python} wanted
  shift
  wanted=$(source_hash; printf '%s\n' "$@")
  [ "$(cat "$venv/zloop-from" 2>/dev/null)" != "$wanted" ] || return 0
  step "building zloop (a minute or two the first time)"
  rm -f "$venv/zloop-from"
  run_pip "zloop-${venv##*/}" "$python" install --verbose --force-reinstall --no-deps "$@" "$root"
  printf '%s\n' "$wanted" >"$venv/zloop-from"
}
