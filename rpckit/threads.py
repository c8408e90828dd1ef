"""Threads for handlers that are plain functions. They are made for the first one: most servers need none."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

__all__ = ["MAX_THREADS", "HandlerThreads"]

MAX_THREADS = 64  # plain functions that run at once, whatever the concurrency

P = ParamSpec("P")
T = TypeVar("T")


class HandlerThreads:
    """Calls functions outside of the event loop, as many at once as there are slots, at most `MAX_THREADS`."""

    def __init__(self, loop: AbstractEventLoop, slots: int) -> None:
        self._loop = loop
        self._most = min(MAX_THREADS, slots)
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What it returns or raises, called with the context variables of its caller. Cancelled, it goes on unheard."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._most, "rpckit-handler")
        work = partial(copy_context().run, _called, function, *args, **kwargs)
        return await self._loop.run_in_executor(self._pool, work)

    def stop(self) -> None:
        """Begin nothing more, and wait for nothing: a thread cannot be ended."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _called(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """What it returns or raises; but a StopIteration, which no future can take, as a coroutine's: PEP 479."""
    try:
        return function(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("the handler raised StopIteration") from error
