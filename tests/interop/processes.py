"""Programs beside the tests: started, waited for, signalled, and gone at the end.

Invariant: a program started here does not outlive its test, nor this process, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from rpckit._process import Guard

__all__ = ["ROOT", "Program", "Ran", "clean_env", "finish", "rpckit", "running"]

ROOT = Path(__file__).parents[2]
READY = 20.0  # seconds for a program to say that it is ready; it takes about one
ENDED = 20.0  # seconds for a program that should end by itself
JOIN = 5.0  # seconds for the last output of a program that has ended


class Ran(NamedTuple):
    """What a program left behind."""

    code: int
    out: str
    err: str


def rpckit(*words: str) -> list[str]:
    """The command line `rpckit …` with the interpreter of the tests."""
    return [sys.executable, "-m", "rpckit", *words]


def clean_env(**more: str) -> dict[str, str]:
    """This environment without settings of rpckit's, with `more`; `rpckit` and `python` are the tests'."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RPCKIT_")}
    fixed = {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}
    scripts = str(Path(sys.executable).parent)
    return {**env, **fixed, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", **more}


def finish(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout: float = ENDED,
    stdin: str = "",
) -> Ran:
    """Run a program to its end. Raises `subprocess.TimeoutExpired`, after killing it."""
    done = subprocess.run(
        argv,
        env=env if env is not None else clean_env(),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    *,
    ready: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> Iterator[Program]:
    """A program from its ready line to the end of the block, at which it is killed if it still runs."""
    program = Program(argv, env=env if env is not None else clean_env(), cwd=cwd)
    try:
        program.wait_for(ready)
        yield program
    finally:
        program.kill()


class Program:
    """A program that runs. What it prints, on either stream, is in `output`."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path = ROOT) -> None:
        self._guard = Guard(Path(tempfile.mkdtemp(prefix="rpckit-test-")))
        self._process = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._guard.watch(self._process.pid)
        self._printed = threading.Condition()
        self._lines: list[str] = []
        self._readers = [self._read(stream) for stream in (self._process.stdout, self._process.stderr)]

    @property
    def output(self) -> str:
        with self._printed:
            return "".join(self._lines)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def wait_for(self, text: str, timeout: float = READY) -> None:
        """Until it has printed `text`. Raises AssertionError, with all it printed, when it does not."""
        deadline = time.monotonic() + timeout
        with self._printed:
            while text not in "".join(self._lines):
                left = deadline - time.monotonic()
                ended = not any(reader.is_alive() for reader in self._readers)
                if left <= 0 or ended:
                    printed = "".join(self._lines)
                    raise AssertionError(f"no {text!r} from {self._process.args!r}; it printed:\n{printed}")
                self._printed.wait(min(left, 0.1))

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = ENDED) -> int:
        """Its exit code, once it has ended. Raises `subprocess.TimeoutExpired`."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL, if it still runs; nothing of it is left then."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(ENDED)
        self._guard.watch(None)
        self._guard.release()
        for reader in self._readers:
            reader.join(JOIN)

    def _read(self, stream: IO[str] | None) -> threading.Thread:
        assert stream is not None  # a pipe
        reader = threading.Thread(target=self._collect, args=(stream,), daemon=True)
        reader.start()
        return reader

    def _collect(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._printed:
                    self._lines.append(line)
                    self._printed.notify_all()
