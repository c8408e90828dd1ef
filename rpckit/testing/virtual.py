"""Time that passes by itself: an event loop whose clock jumps to the next timer when nothing else is left to do.

Invariant: the clock moves only when nothing is ready and no thread works; a loop in which nothing can ever
happen says so, and does not hang.

Real sockets are not for it. An answer that comes from outside takes time that is not counted here, so the clock
has jumped to the timeout before it comes. Use `memory_pair`.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, TypeVarTuple

__all__ = ["Deadlock", "VirtualTimeLoop", "virtual_time"]

OUTSIDE_S = 30.0  # real seconds that a thread or a socket may take while the clock stands still
MAX_JUMPS = 1_000_000  # timers of one run, some ten seconds of work; then something repeats itself for ever
RESOLUTION_S = time.get_clock_info("monotonic").resolution  # within which asyncio takes a timer for due
OWN_FILES = 1  # the pipe by which threads wake the loop

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(AssertionError):
    """Nothing can ever happen: the test waits for what nobody is going to do."""


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Run an ``async def`` test in a `VirtualTimeLoop` of its own: a timeout of 30 s takes microseconds.

    ::

        @virtual_time
        async def test_a_slow_answer_is_a_timeout() -> None:
            async with memory_pair(service) as client:
                with pytest.raises(DeadlineExceeded):
                    await client.call("kitchen.bake", timeout=30)

    The test becomes a plain function: it needs no plugin for asyncio, and its fixtures cannot be asynchronous.
    `time.time()` moves with the loop's clock; `time.monotonic()` and `datetime.now()` do not.
    Raises `Deadlock` where the test would hang.
    """
    if not iscoroutinefunction(test):
        raise TypeError(f"virtual_time is for an async def, and {test!r} is none")

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(test(*args, **kwargs))

    return run


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still while anything runs, and jumps when nothing does.

    Work in threads counts as running when it was given to `run_in_executor`, as `asyncio.to_thread` does, and as
    rpckit does with handlers that are a plain ``def``; the loop knows of no other threads.
    """

    def __init__(self) -> None:
        self._now = time.monotonic()
        self._unix_offset = time.time() - self._now
        self._jumps = 0
        self._working = 0  # pieces of work in threads
        self._threads: ThreadPoolExecutor | None = None
        self._waited_for: asyncio.Future[Any] | None = None
        self._stuck = ""
        self._files = _Selector(self)
        super().__init__(self._files)

    def time(self) -> float:
        return self._now

    def unix_time(self) -> float:
        """What `time.time()` says while the loop runs: the deadlines that travel are compared with it."""
        return self._now + self._unix_offset

    def run_forever(self) -> None:
        real, time.time = time.time, self.unix_time
        try:
            super().run_forever()
        finally:
            time.time = real

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """As every loop's. Raises `Deadlock`, after what waits was cancelled, when nothing can ever happen."""
        self._stuck = ""
        self._waited_for = waited_for = asyncio.ensure_future(future, loop=self)  # type: ignore[arg-type]
        try:
            result: T = super().run_until_complete(waited_for)
        except asyncio.CancelledError as error:
            if not self._stuck:
                raise
            raise Deadlock(self._stuck) from error
        if self._stuck:  # what waited made light of being cancelled
            raise Deadlock(self._stuck)
        return result

    # -- threads --------------------------------------------------------------------------------

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        work = (executor or self._default_threads()).submit(func, *args)
        self._working += 1
        future = asyncio.wrap_future(work, loop=self)
        work.add_done_callback(self._tell_ended)  # after that of the future: its result arrives first
        return future

    def set_default_executor(self, executor: ThreadPoolExecutor) -> None:  # type: ignore[override]
        self._threads = executor

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """End the threads; a piece of work that does not end is not waited for: it has been told of."""
        if self._threads is not None:
            self._threads.shutdown(wait=not self._working, cancel_futures=True)

    def _default_threads(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(thread_name_prefix="virtual-time")
        return self._threads

    def _tell_ended(self, work: Future[Any]) -> None:
        try:
            self.call_soon_threadsafe(self._one_ended)
        except RuntimeError:  # the loop was closed meanwhile
            pass

    def _one_ended(self) -> None:
        self._working -= 1

    # -- the clock ------------------------------------------------------------------------------

    def waits_outside(self, timeout: float | None) -> str:
        """What happens outside that the clock has to stand still for; empty for nothing."""
        if self._working:
            return f"{self._working} threads have worked"
        return "sockets have been waited for" if timeout is None and self._has_files() else ""

    def jump(self, seconds: float | None) -> None:
        """To the next timer, which is so far away; None when there is none."""
        if seconds is None:
            self.give_up("nothing can ever happen: no timer, no thread, nothing that is ready")
            return
        self._now += seconds
        if self._now + RESOLUTION_S == self._now:  # half a year from zero: asyncio would not take the timer for due
            self._now = math.nextafter(self._now, math.inf)
        self._jumps += 1
        if self._jumps % MAX_JUMPS == 0:
            self.give_up(f"{MAX_JUMPS:,} timers have passed, and nothing that is waited for has come")

    def give_up(self, why: str) -> None:
        """Cancel what is waited for, so that the test fails where it waits. The second time, fail here."""
        if self._stuck or self._waited_for is None:
            raise Deadlock(why)
        self._stuck = why
        self._waited_for.cancel(why)

    def _has_files(self) -> bool:
        return len(self._files.get_map()) > OWN_FILES


class _Selector(selectors.DefaultSelector):
    """Asks the loop what waiting means."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        outside = self._loop.waits_outside(timeout)
        if not outside:
            self._loop.jump(timeout)
            return []
        events = super().select(OUTSIDE_S)
        if not events:
            self._loop.give_up(f"{outside} for {OUTSIDE_S:g} real seconds, for which the clock stands still")
        return events
