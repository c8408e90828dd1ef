"""`rpckit serve --reload`: one worker, which starts over when a file below the working directory has changed.

A worker that ends by itself, because its modules cannot be imported right now, has said why; the next change starts
another.
"""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec

from rpckit.cli.job import Announce, Job
from rpckit.cli.workers import Supervisor, check_platform, first_of
from rpckit.errors import UsageError

__all__ = ["Reloader", "serve_and_reload"]


def serve_and_reload(job: Job, announce: Announce) -> int:
    """Serve, and start over at each change, until SIGINT or SIGTERM; returns the exit code. Raises `UsageError`."""
    check_platform("--reload")
    if find_spec("watchfiles") is None:
        raise UsageError('--reload needs watchfiles: pip install "rpckit[cli]", or pip install watchfiles')
    return asyncio.run(Reloader(job, announce).run())


class Reloader(Supervisor):
    """One worker at a time."""

    def __init__(self, job: Job, announce: Announce) -> None:
        super().__init__(job, announce)
        self._changed = asyncio.Event()

    async def supervise(self) -> None:
        await first_of(self._watch_files(), self._serve())

    def stop(self, code: int) -> None:
        super().stop(code)
        self._changed.set()

    async def _serve(self) -> None:
        while not self.stopping.is_set():
            self._changed.clear()
            code, _ = await self.work(until=self._changed)
            if not self._changed.is_set():
                self._announce([f"ended with exit code {code}; waiting for a change of the files"])
            await self._changed.wait()

    async def _watch_files(self) -> None:
        from watchfiles import PythonFilter, awatch

        async for _ in awatch(os.getcwd(), watch_filter=PythonFilter(extra_extensions=["rpckit.toml"])):
            self._changed.set()
