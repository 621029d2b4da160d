#!/usr/bin/env bash
# Runs uvloop's echo benchmark over message size x server mode x {asyncio, uvloop, zloop} and prints Markdown tables: requests/s,
# and the server's processor time per request.
#
#   bash bench_uvloop/run_matrix.sh          the whole matrix, 3 workers, best of 3 (five to ten minutes)
#   bash bench_uvloop/run_matrix.sh --ssl    the same through TLS, without the mode that has none
#   bash bench_uvloop/run_matrix.sh --help   the options that shorten or change it
#
# It is nox's session `echo`, which takes uvloop's own client, byte for byte, out of uvloop's source distribution.  Everything
# stays under build/, so later runs start at once.
set -euo pipefail
here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../scripts/nox" -s echo -- "$@"
