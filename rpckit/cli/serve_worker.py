"""A process that serves for `rpckit serve --workers` and `--reload`.

::

    python -m rpckit.cli.serve_worker SECONDS

Its stdin is a socket to its supervisor: a line with its job comes in, a line with its ready lines goes out. When that
closes, its supervisor is gone, however that came: it drains then, and after SECONDS it ends in any case.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import typer

from rpckit.cli.job import Job, serve_here

__all__: list[str] = []


def main(seconds: float) -> None:
    """Serve the job that stands on stdin."""
    supervisor = _take_stdin()
    with supervisor.makefile("rb") as lines:
        line = lines.readline()
    if not line:  # gone before it said what to do
        return
    job = Job.from_json(line)
    threading.Thread(target=_end_with, args=(supervisor, seconds), daemon=True).start()
    try:
        serve_here(job, partial(_tell, supervisor))
    except typer.Exit as end:
        sys.exit(end.exit_code)


def _tell(supervisor: socket.socket, ready_lines: list[str]) -> None:
    with suppress(OSError):  # it is gone: the thread ends us
        supervisor.sendall(json.dumps(ready_lines).encode() + b"\n")


def _take_stdin() -> socket.socket:
    """The socket; what services read from stdin is empty from now on."""
    supervisor = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return supervisor


def _end_with(supervisor: socket.socket, seconds: float) -> None:
    """A thread, so that a blocked event loop does not keep the process."""
    with suppress(OSError):  # reset: gone all the same
        while supervisor.recv(1024):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)


if __name__ == "__main__":
    main(float(sys.argv[1]))
