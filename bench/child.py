"""One loop doing one row, in a process of its own: started by measure.py, for each round.

    python child.py --loop NAME --row NAME --peers DIR [--core N] ...

A server's process prints its port (0 for a unix socket) once it listens, and serves until it is killed.  Any other
measures the row's value for each line that it reads, and prints it.  No process lives longer than its --patience: then
it says where each thread is, and ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import os
import pathlib
import resource
import sys

import loops
from rows import ROWS, LocalRow, ServerRow
from rows.declare import Bench, Factory, Place, listening_socket, server_context


async def serve(row: ServerRow, arguments: argparse.Namespace) -> None:
    bound = listening_socket(row.family, arguments.path)
    context = server_context(arguments.certificate, arguments.key) if row.tls else None
    port = 0 if row.family == "unix" else bound.getsockname()[1]
    serving = await row.serve(Place(bound, context))
    print(port, flush=True)
    gc.collect()
    await asyncio.get_running_loop().create_future()
    del serving


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loop", required=True)
    parser.add_argument("--row", required=True)
    parser.add_argument("--peers", type=pathlib.Path, required=True)
    parser.add_argument("--tools", type=pathlib.Path)
    parser.add_argument("--core", type=int)
    parser.add_argument("--other-core", type=int)
    parser.add_argument("--path", help="where a unix socket is to be")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--budget", type=float, required=True, help="seconds for a row without a server")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds that this process may live")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    faulthandler.dump_traceback_later(arguments.patience, exit=True)
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def find_factory() -> Factory:
        return loops.factory(loops.LOOPS[arguments.loop], arguments.peers)

    row = ROWS[arguments.row]
    if isinstance(row, LocalRow):
        bench = Bench(
            *(arguments.loop, find_factory, arguments.budget, arguments.tools, arguments.other_core),
            *(arguments.certificate, arguments.key),
        )
        for _ in sys.stdin:
            print(row.measure(bench), flush=True)
    else:
        assert isinstance(row, ServerRow)
        with asyncio.Runner(loop_factory=find_factory()) as runner, contextlib.suppress(KeyboardInterrupt):
            runner.run(serve(row, arguments))
    # What a loop does at the interpreter's end is not part of the row.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
