"""What brokers of our own have in common: a program on a port of its own that is started, killed, frozen and removed.

Invariant: a server started here keeps its port and its data until `stop()`. After `stop()`, or after the end
of this process however it comes, no process and no file of it is left.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from rpckit._process import Guard, ProcessTree
from rpckit.testing._ports import free_port

__all__ = ["PROBE_TIMEOUT", "BrokerError", "BrokerMissing", "OwnServer"]

SHUTDOWN_TIMEOUT = 20.0  # seconds for a graceful end
PROBE_TIMEOUT = 1.0  # seconds for an answer that says that the server is up
POLL = 0.05  # seconds between two probes
FIRST_POLL = 0.005  # seconds; doubled up to POLL, for servers that are up in a few milliseconds


class BrokerError(RuntimeError):
    """A broker did not start or did not do as told; the text ends with its last log lines."""


class BrokerMissing(BrokerError):
    """The broker's program is not installed; the text says what to install."""


class OwnServer(ABC):
    """A private server. `with` and `async with` start and stop it.

    The methods block: in a coroutine run the slow ones (`start`, `shutdown`, `wait_ready`) in a thread.
    """

    name: ClassVar[str]  # of the server, in errors and in the name of its scratch directory

    def __init__(self, start_timeout: float) -> None:
        self.port = free_port()
        self._start_timeout = start_timeout
        self._home: Path | None = None
        self._guard: Guard | None = None
        self._process: ProcessTree | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it is, for a client."""

    def running(self) -> bool:
        """Whether its process exists; a frozen one does."""
        return self._process is not None and self._process.running()

    def pids(self) -> list[int]:
        """Its processes: the program and everything that one started."""
        return self._process.pids() if self._process else []

    def start(self) -> None:
        """Start it, or start it again after `kill()` or `shutdown()` on the same ports and data.

        Returns when it answers. Raises BrokerMissing when it is not installed, BrokerError when it does not
        come up; then it is stopped.
        """
        self._launch()
        try:
            self.wait_ready(self._start_timeout)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it at once and remove every trace. Does nothing when it was never started."""
        self.kill()
        if self._guard:
            self._guard.release()
        self._guard = self._home = None

    def kill(self) -> None:
        """SIGKILL every process of it; the data stays. Returns when they are gone."""
        self._end(ProcessTree.kill)

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> None:
        """End it in good order, as SIGTERM does; the data stays. After `timeout` seconds it is killed."""
        self.thaw()
        self._end(lambda process: process.terminate(timeout))

    def freeze(self) -> None:
        """SIGSTOP every process of it: connections stay open and nothing answers."""
        if self._process:
            self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT what `freeze()` stopped."""
        if self._process:
            self._process.signal(signal.SIGCONT)

    def wait_ready(self, timeout: float) -> None:
        """Return when it answers a client's greeting. Raises BrokerError when it ended or `timeout` passed."""
        deadline = time.monotonic() + timeout
        pause = FIRST_POLL
        while not self._greets():
            if not self.running():
                raise BrokerError(f"{self.name} ended while starting\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise BrokerError(f"{self.name} gave no answer in {timeout:g} s\n{self._log_tail()}")
            time.sleep(pause)
            pause = min(2 * pause, POLL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        self._launch()
        try:
            await asyncio.to_thread(self.wait_ready, self._start_timeout)
        except BaseException:  # cancelled too: the thread sees the process gone and ends
            self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()  # some 50 ms, and not left half done when we are cancelled

    @abstractmethod
    def _program(self) -> str:
        """Where the program is. Raises BrokerMissing."""

    def _arguments(self, home: Path) -> Sequence[str]:
        return ()

    @abstractmethod
    def _env(self) -> Mapping[str, str]:
        """The whole environment of the program."""

    @abstractmethod
    def _write_files(self, home: Path) -> None:
        """Write what it reads when it starts, once."""

    @abstractmethod
    def _greets(self) -> bool:
        """Whether it answers as one that is up; False within PROBE_TIMEOUT otherwise."""

    def _launch(self) -> None:
        if self.running():
            raise BrokerError(f"this {self.name} is already running")
        program = self._program()
        if self._home is None or self._guard is None:
            self._home = Path(tempfile.mkdtemp(prefix=f"rpckit-{self.name}-"))
            self._guard = Guard(self._home)
            self._write_files(self._home)
        argv = [program, *self._arguments(self._home)]
        self._process = ProcessTree(argv, env=self._env(), log=self._home / "output.log")
        self._guard.watch(self._process.group)

    def _end(self, how: Callable[[ProcessTree], None]) -> None:
        process, self._process = self._process, None
        if process and self._guard:
            how(process)
            self._guard.watch(None)

    def _log_tail(self) -> str:
        return self._process.tail() if self._process else "(it was stopped meanwhile)"
