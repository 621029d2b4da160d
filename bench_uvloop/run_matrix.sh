#!/usr/bin/env bash
# Runs uvloop's echo benchmark over message size x server mode x {asyncio, uvloop, zloop} and prints Markdown tables: requests/s,
# and the server's processor time per request.
#
#   bash bench_uvloop/run_matrix.sh          the whole matrix, 3 workers, best of 3 (five to ten minutes)
#   bash bench_uvloop/run_matrix.sh --ssl    the same through TLS, without the mode that has none
#   bash bench_uvloop/run_matrix.sh --help   the options that shorten or change it
#
# It makes a virtual environment with zloop, uvloop and what matrix.py needs, and takes uvloop's own client, byte for byte,
# out of uvloop's source distribution.  All of that stays under build/, so later runs start at once.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"

uvloop_version=0.23.0
client_hash=3c182976ef7b722a9690b3835795b0122fd9a277063047cb02ab62bf8a27eb04  # sha256 of its examples/bench/echoclient.py
client=$root/build/bench/uvloop-$uvloop_version/echoclient.py

# The loops that the arguments ask for, separated by commas; none where they only ask for help.
asked_loops() {
  local loops=asyncio,uvloop,zloop previous='' argument
  for argument in "$@"; do
    case $argument in
      -h | --help) return ;;
      --loops=*) loops=${argument#*=} ;;
    esac
    [ "$previous" != --loops ] || loops=$argument
    previous=$argument
  done
  printf '%s\n' "$loops"
}

client_is_genuine() {
  printf '%s  %s\n' "$client_hash" "$1" | sha256sum --check --status 2>/dev/null
}

# Puts uvloop's client at $client.  ":all:" instead of "uvloop" would compile Cython on the way.
fetch_client() {
  local python=$1 scratch=$root/build/bench/download
  ! client_is_genuine "$client" || return 0
  step "taking the client out of uvloop's source distribution"
  rm -rf "$scratch"
  mkdir -p "$scratch" "${client%/*}"
  run_pip uvloop-source "$python" download --no-deps --no-binary uvloop --dest "$scratch" "uvloop==$uvloop_version"
  tar -xzOf "$scratch/uvloop-$uvloop_version.tar.gz" "uvloop-$uvloop_version/examples/bench/echoclient.py" \
    >"$scratch/echoclient.py"
  client_is_genuine "$scratch/echoclient.py" || die "uvloop's client is not the one that was expected (sha256 differs)"
  mv "$scratch/echoclient.py" "$client"
  rm -rf "$scratch"
}

python=$(require_python)
loops=,$(asked_loops "$@"),
case $loops in *,zloop,*) require_compiler ;; esac
python=$(make_venv bench "$python" --only-binary=uvloop psutil rich trustme "uvloop==$uvloop_version")
case $loops in *,zloop,*) install_zloop "$python" ;; esac
[ "$loops" = ,, ] || fetch_client "$python"
exec "$python" "$root/bench_uvloop/matrix.py" --client "$client" "$@"
