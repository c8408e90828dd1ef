"""One timer for a whole table of deadlines, so that a call costs none."""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

__all__ = ["TableTimer"]

EARLY_S = 0.001  # event loops fire timers up to their clock's resolution early; uvloop's is a millisecond


class TableTimer:
    """Calls `expire(now)` when the soonest deadline has come, then waits for `next_deadline()`."""

    __slots__ = ("_at", "_expire", "_handle", "_loop", "_next")

    def __init__(
        self,
        loop: AbstractEventLoop,
        expire: Callable[[float], None],
        next_deadline: Callable[[], float | None],
    ) -> None:
        self._loop = loop
        self._expire = expire
        self._next = next_deadline
        self._handle: TimerHandle | None = None
        self._at = float("inf")

    def cover(self, deadline: float) -> None:
        """Make sure the timer fires by `deadline`; nearly always it would already."""
        if deadline < self._at:
            self._set(deadline)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._at = float("inf")

    def _set(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._at = at
        self._handle = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._handle = None
        self._at = float("inf")
        self._expire(self._loop.time() + EARLY_S)
        upcoming = self._next()
        if upcoming is not None:
            self._set(upcoming)
