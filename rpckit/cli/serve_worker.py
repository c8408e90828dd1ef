"""A process that serves for `rpckit serve --workers` and `--reload`.

::

    python -m rpckit.cli.serve_worker SECONDS

Its stdin is a socket to its supervisor: a line with its job comes in; a line goes out when its services are imported; a
line comes in, and it begins to serve; a line with its ready lines goes out. When that closes, its supervisor is gone,
however that came: it drains then, and after SECONDS it ends in any case.
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

from rpckit.cli.job import ServeJob, serve_here

__all__: list[str] = []


def main(seconds: float) -> None:
    """Serve the job that stands on stdin."""
    supervisor = _take_stdin()
    with supervisor.makefile("rb") as lines:
        line = lines.readline()
    if not line:  # gone before it said what to do
        return
    job = ServeJob.from_json(line)
    begin = threading.Event()
    threading.Thread(target=_listen, args=(supervisor, begin, seconds), daemon=True).start()
    try:
        serve_here(job, partial(_tell, supervisor), before=partial(_wait_for_word, supervisor, begin))
    except typer.Exit as end:
        sys.exit(end.exit_code)


def _wait_for_word(supervisor: socket.socket, begin: threading.Event) -> None:
    """Until the supervisor wants it served; if that is gone, the thread ends us."""
    _tell(supervisor, [])
    begin.wait()


def _tell(supervisor: socket.socket, lines: list[str]) -> None:
    with suppress(OSError):  # it is gone: the thread ends us
        supervisor.sendall(json.dumps(lines).encode() + b"\n")


def _take_stdin() -> socket.socket:
    """The socket; what services read from stdin is empty from now on."""
    supervisor = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return supervisor


def _listen(supervisor: socket.socket, begin: threading.Event, seconds: float) -> None:
    """A thread, so that a blocked event loop does not keep the process when its supervisor is gone."""
    with suppress(OSError):  # reset: gone all the same
        while supervisor.recv(1024):
            begin.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds)
    os._exit(1)


if __name__ == "__main__":
    main(float(sys.argv[1]))
