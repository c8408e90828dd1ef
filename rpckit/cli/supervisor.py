"""A process that serves a job, and a supervisor of such processes. It imports nothing of the services.

Workers end with their supervisor, however that ends; see `rpckit.cli.serve_worker`. Invariant: a worker is among those
of its supervisor from its start until it has ended and was waited for, whatever is raised or cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

from rpckit.cli.failures import INTERRUPTED
from rpckit.cli.job import Announce, ServeJob
from rpckit.errors import UsageError
from rpckit.signals import on_signals

__all__ = ["KILLED", "Supervisor", "Worker", "check_platform", "first_of"]

log = logging.getLogger(__name__)

MARGIN_S = 3.0  # seconds beyond the grace, for closing connections; then a worker is killed
AT_ONCE_S = 2.0  # seconds after the second signal; then a worker is killed
POSIX = os.name == "posix"
KILLED = 1  # exit code, when a worker had to be
LONGEST_LINE = 1 << 20  # bytes; the ready lines of a worker

Before = Callable[[], Awaitable[None]]


def check_platform(option: str) -> None:
    if not POSIX:
        raise UsageError(f"{option} needs the signals of POSIX systems; here, start each process by itself")


class Worker:
    """A process that serves a job. It ends with this one at the latest."""

    def __init__(self, process: Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._process, self._reader, self._writer = process, reader, writer
        self._ready_at: float | None = None

    @classmethod
    async def start(cls, job: ServeJob, grace: float) -> Self:
        """In a session of its own: Ctrl-C at our terminal reaches only us."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = (sys.executable, "-m", "rpckit.cli.serve_worker", f"{grace + MARGIN_S}")
            try:
                process = await asyncio.create_subprocess_exec(*command, stdin=theirs.fileno(), start_new_session=True)
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=LONGEST_LINE)
        writer.write(job.to_json().encode() + b"\n")
        return cls(process, reader, writer)

    def __str__(self) -> str:
        return f"worker {self._process.pid}"

    @property
    def ready_for(self) -> float | None:
        """Seconds since it was ready; None while it is not."""
        return None if self._ready_at is None else asyncio.get_running_loop().time() - self._ready_at

    async def imported(self) -> bool:
        """Whether its services could be imported; False when it has ended without."""
        return await self._line() is not None

    def begin(self) -> None:
        """Let it serve what it has imported."""
        self._writer.write(b"begin\n")

    async def ready(self) -> list[str] | None:
        """Its ready lines; None when it has ended without."""
        lines = await self._line()
        if lines is not None:
            self._ready_at = asyncio.get_running_loop().time()
        return lines

    async def _line(self) -> list[str] | None:
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return list(json.loads(line)) if line else None

    async def wait(self) -> int:
        """Its exit code, once it has ended; negative, the signal that ended it."""
        return await self._process.wait()

    def stop(self) -> None:
        """Let it drain; a second time, stop at once."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self, within: float) -> bool:
        """Let it drain, for `within` seconds, and kill it then. True if it ended by itself."""
        self.stop()
        try:
            await asyncio.wait_for(self.wait(), within)
        except TimeoutError:
            return False
        else:
            return True
        finally:  # cancelled as well
            self.kill()
            await self.wait()
            self._writer.close()


class Supervisor:
    """Starts workers, passes signals on to them, and leaves none behind. A subclass says which to start, and when."""

    def __init__(self, job: ServeJob, announce: Announce) -> None:
        self.stopping = asyncio.Event()
        self.grace = job.settings().grace
        self._job = job
        self._announce = announce
        self._code = 0
        self._workers: set[Worker] = set()

    async def run(self) -> int:
        """Until SIGINT or SIGTERM, then drain; a second signal stops at once. Returns the exit code."""
        remove = on_signals(self._interrupt)
        try:
            await self.supervise()
        finally:
            remove()
        return self._code

    async def supervise(self) -> None:
        """Start workers with `work` until `stopping` is set."""
        raise NotImplementedError

    async def work(self, until: asyncio.Event, before: Before | None = None) -> tuple[int, float | None]:
        """One worker, to its end or until `until` is set: its exit code, and for how many seconds it was ready.

        before: awaited when it has imported its services; then it begins.
        """
        worker = await Worker.start(self._job, self.grace)
        self._workers.add(worker)
        try:
            await first_of(self._watch(worker, before), until.wait())
        finally:
            ready_for = worker.ready_for
            if not await worker.end(self.grace + MARGIN_S):
                log.warning("%s did not end within %s s: killed", worker, self.grace + MARGIN_S)
                self._code = self._code or KILLED
            self._workers.discard(worker)
        return await worker.wait(), ready_for

    def on_ready(self, lines: list[str]) -> None:
        self._announce(lines)

    def stop(self, code: int) -> None:
        self._code = code
        self.stopping.set()

    async def _watch(self, worker: Worker, before: Before | None) -> None:
        if await worker.imported():
            if before is not None:
                await before()
            worker.begin()
            lines = await worker.ready()
            if lines is not None:
                self.on_ready(lines)
        await worker.wait()

    def _interrupt(self) -> None:
        if not self.stopping.is_set():
            log.info("stopping: draining for up to %s s; once more to stop at once", self.grace)
            self.stop(0)
            return
        self._code = INTERRUPTED
        for worker in self._workers:
            worker.stop()
            asyncio.get_running_loop().call_later(AT_ONCE_S, worker.kill)


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Until one of them has ended; the others are cancelled. Raises what one of them raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome
