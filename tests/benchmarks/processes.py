"""Worker processes from outside: start them, talk to them, and end them whatever happened."""

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

__all__ = ["ContenderFailed", "Worker", "contender_pair", "free_port"]

ROOT = Path(__file__).parents[2]  # where `tests` is importable
STARTING = 25.0  # seconds until `ready`; a worker gives up by itself after 15
ENDING = 6.0  # seconds to end after stdin was closed, before it is killed
STDERR_TAIL = 400  # characters of a dead worker's stderr that are shown


class ContenderFailed(Exception):
    """A worker reported an error, fell silent or ended."""


class Worker:
    """One worker process. Commands are awaited one at a time, each with a deadline."""

    def __init__(self, role: str, process: asyncio.subprocess.Process, stderr: IO[bytes]) -> None:
        self._role = role
        self._process = process
        self._stderr = stderr

    async def ask(self, patience: float, /, **command: object) -> dict[str, Any]:
        """Send a command; its figures. Raises ContenderFailed, also after `patience` seconds of silence."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.event(patience)

    async def event(self, deadline: float) -> dict[str, Any]:
        assert self._process.stdout
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), deadline)
        except TimeoutError:
            raise ContenderFailed(f"{self._role}: silent for {deadline:g} s") from None
        if not line:
            raise ContenderFailed(f"{self._role}: ended; {self._said()}")
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "failed":
            raise ContenderFailed(f"{self._role}: {event['error']}")
        return event

    async def end(self) -> None:
        """Close stdin, wait, then kill the process and whatever it started."""
        assert self._process.stdin
        self._process.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), ENDING)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def _said(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")[-STDERR_TAIL:].strip() or "it said nothing"


@asynccontextmanager
async def contender_pair(name: str, url: str) -> AsyncIterator[tuple[Worker, Worker]]:
    """A server and a client of one contender, both ready; both ended on leaving."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(_worker("server", name, url))
        client = await stack.enter_async_context(_worker("client", name, url))
        yield server, client


@asynccontextmanager
async def _worker(role: str, name: str, url: str) -> AsyncIterator[Worker]:
    with tempfile.TemporaryFile() as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"{__package__}.worker", role, name),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd=ROOT,
            env={**os.environ, "BENCH_URL": url},  # not an argument: it may hold a password
            start_new_session=True,
            preexec_fn=_more_files,
        )
        worker = Worker(role, process, stderr)
        try:
            await worker.event(STARTING)
            yield worker
        finally:
            await worker.end()


def _more_files() -> None:
    """As many open files as this process may have: a crowd of peers is one each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
