"""`rpckit serve --reload`: one worker, and another in its place when a file below the working directory has changed.

The old one serves until the new one has imported its modules. A worker that ends by itself, because they cannot be
imported right now, has said why; the next change starts another.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from importlib.util import find_spec

from rpckit.cli.job import Announce, ServeJob
from rpckit.cli.supervisor import Supervisor, check_platform, first_of
from rpckit.errors import UsageError

__all__ = ["Reloader", "serve_and_reload"]

NAMED = 3  # changed files named at once


def serve_and_reload(job: ServeJob, announce: Announce) -> int:
    """Serve, and start over at each change, until SIGINT or SIGTERM; returns the exit code. Raises `UsageError`."""
    check_platform("--reload")
    if find_spec("watchfiles") is None:
        raise UsageError('--reload needs watchfiles: pip install "rpckit[cli]", or pip install watchfiles')
    return asyncio.run(Reloader(job, announce).run())


class _Life:
    """What becomes of one worker."""

    def __init__(self) -> None:
        self.over = asyncio.Event()  # another takes its place, or all end
        self.begun = asyncio.Event()  # it has imported its modules, and took the place of the one before
        self.ended = asyncio.Event()


class Reloader(Supervisor):
    """One worker that serves at a time."""

    def __init__(self, job: ServeJob, announce: Announce) -> None:
        super().__init__(job, announce)
        self._changed = asyncio.Event()

    async def supervise(self) -> None:
        await first_of(self._watch_files(), self._serve())

    def stop(self, code: int) -> None:
        super().stop(code)
        self._changed.set()

    async def _serve(self) -> None:
        serving, latest = _Life(), _Life()
        serving.ended.set()  # nothing yet
        async with asyncio.TaskGroup() as group:
            try:
                while not self.stopping.is_set():
                    self._changed.clear()
                    latest = _Life()
                    group.create_task(self._live(latest, serving))
                    if await self._settled(latest, serving):
                        serving = latest
                    await self._changed.wait()
            finally:
                serving.over.set()
                latest.over.set()

    async def _settled(self, latest: _Life, serving: _Life) -> bool:
        """Whether the latest has begun. A change while it imports ends it, one while the other drains does not."""
        await first_of(latest.begun.wait(), latest.ended.wait(), self._changed.wait())
        if serving.over.is_set() and not self.stopping.is_set():
            await first_of(latest.begun.wait(), latest.ended.wait(), self.stopping.wait())
        if not latest.begun.is_set():
            latest.over.set()
            await latest.ended.wait()
        return latest.begun.is_set()

    async def _live(self, life: _Life, before: _Life) -> None:
        try:
            code, _ = await self.work(until=life.over, before=partial(self._take_over, life, before))
        except OSError as error:  # the system has no process or file to spare
            self._announce([f"a worker cannot be started: {error}; waiting for a change of the files"])
            return
        finally:
            life.ended.set()
        if life.over.is_set():
            return
        if life.begun.is_set() or before.ended.is_set():
            self._announce([f"ended with exit code {code}; waiting for a change of the files"])
        else:
            self._announce(
                ["the changed code cannot be served: the old code still is; waiting for a change of the files"]
            )

    async def _take_over(self, life: _Life, before: _Life) -> None:
        if not life.over.is_set():
            before.over.set()
        await before.ended.wait()
        life.begun.set()

    async def _watch_files(self) -> None:
        from watchfiles import PythonFilter, awatch

        folder = os.getcwd()
        async for changes in awatch(folder, watch_filter=PythonFilter(extra_extensions=["rpckit.toml"])):
            self._announce([f"{_named({path for _, path in changes}, folder)} changed; starting over"])
            self._changed.set()


def _named(paths: set[str], folder: str) -> str:
    names = sorted(os.path.relpath(path, folder) for path in paths)
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
