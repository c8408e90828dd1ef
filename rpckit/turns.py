"""Tasks for handlers, fewer than handlers: those that never wait share one.

A task costs more than most handlers do. So the jobs of one turn of the event loop run one after the other
in one task, and the first that waits keeps it: the others go on in tasks of their own. To a handler each
looks like a task of its own, its context variables too.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from operator import is_
from typing import Any, Generic, TypeVar

__all__ = ["Turns"]

J = TypeVar("J")
Run = Callable[[J, "asyncio.Task[Any]"], Coroutine[Any, Any, None]]


class Turns(Generic[J]):
    """Runs jobs, each begun in the turn of the loop after the one in which it was added, in their order.

    `enter(job)` makes a job the current one, `run(job, task)` runs it in that task, which is to be cancelled only
    while the job waits. Each starts with the context variables of whoever made the `Turns`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, enter: Callable[[J], object], run: Run[J]) -> None:
        self._loop = loop
        self._enter = enter
        self._run = run
        self._outside = copy_context()
        self._ready: deque[J] = deque()
        self._turn: object = None  # the one planned or going on
        self._through = False  # it had no job that waited
        self._apart = False  # the last one had: what comes in the same turn gets a task at once

    def add(self, job: J) -> None:
        if self._turn is None:
            self._ready.append(job)
            self._plan()
        elif self._apart:
            self._begin_apart(job)
        else:
            self._ready.append(job)

    def _plan(self) -> None:
        turn = object()
        self._through = False
        self._loop.create_task(self._take(turn), context=self._outside.copy())
        self._turn = turn
        self._loop.call_soon(self._end, context=self._outside)

    async def _take(self, turn: object) -> None:
        """All that is ready now; what these jobs let in has its own turn."""
        if self._turn is not turn:  # an eager task has begun while it is planned: then no wait would be noticed
            await asyncio.sleep(0)
        task = asyncio.current_task(self._loop)
        assert task is not None
        ready, held = self._ready, sys.getrefcount(task)
        enter, run = self._enter, self._run
        for _ in range(len(ready)):
            job = ready.popleft()
            enter(job)
            own = copy_context()
            await run(job, task)
            if self._turn is not turn:  # it waited
                return
            if sys.getrefcount(task) != held or _marked(task) or not _same(copy_context(), own):
                break
        self._through = True

    def _end(self) -> None:
        self._turn = None
        self._apart = not self._through
        while self._ready and self._apart:
            self._begin_apart(self._ready.popleft())
        if self._ready:
            self._plan()

    def _begin_apart(self, job: J) -> None:
        self._loop.create_task(self._run_apart(job), context=self._outside.copy())

    async def _run_apart(self, job: J) -> None:
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._enter(job)
        await self._run(job, task)


# What a job can leave behind with its task, besides being known to somebody who may cancel it later; then no other
# job may have that task.


def _marked(task: Any) -> bool:
    """A cancel not yet delivered, or somebody to be told of its end: tasks have both under these names."""
    return bool(task._must_cancel or task._callbacks)


def _same(context: Context, other: Context) -> bool:
    """The same objects: an equal one may yet be changed."""
    return len(context) == len(other) and all(map(is_, context.values(), other.values()))
