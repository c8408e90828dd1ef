"""Deadlines: absolute inside the process, milliseconds left and unix milliseconds on the wire.

Pure: both clocks come in as arguments. `now` is always the event loop's clock in seconds,
`unix_now` the wall clock in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

__all__ = ["MAX_SKEW_S", "NO_DEADLINE", "Deadline", "DeadlineHeap", "clocks_disagree", "deadline_on_arrival"]

MAX_SKEW_S = 5.0  # clocks further apart than this: the absolute deadline is ignored
NO_DEADLINE = 0  # the token of what has none
COMPACT_AFTER = 64  # dead heap entries tolerated on top of as many as are alive

K = TypeVar("K")


@dataclass(slots=True, order=True)  # not frozen: that costs three times as much to make, and each call makes one
class Deadline:
    """The moment on the event loop's clock (seconds) when a call's time is up."""

    at: float

    @classmethod
    def after(cls, seconds: float, now: float) -> Deadline:
        return cls(now + seconds)

    def remaining(self, now: float) -> float:
        """Seconds left; negative when the time is up."""
        return self.at - now

    def time_left_ms(self, now: float) -> int:
        """Whole milliseconds left, at least 1: a time limit of 0 means "at once" to a broker."""
        return max(1, math.ceil((self.at - now) * 1000))

    def unix_ms(self, now: float, unix_now: float) -> int:
        return int((unix_now + self.at - now) * 1000)


def clocks_disagree(time_left_ms: int, deadline_ms: int, unix_now: float) -> bool:
    """The sender's clock and ours cannot both be right.

    The absolute deadline can be at most `time_left_ms` ahead, and a message older than its time
    limit would have been dropped on the way: beyond `MAX_SKEW_S` of either, it is the clocks.
    """
    ahead = deadline_ms / 1000 - unix_now
    return ahead > time_left_ms / 1000 + MAX_SKEW_S or ahead < -MAX_SKEW_S


def deadline_on_arrival(
    time_left_ms: int | None, deadline_ms: int | None, now: float, unix_now: float
) -> tuple[Deadline | None, bool]:
    """The sooner of "time left" from arrival and the absolute deadline, and whether the clocks disagree.

    When they do, the absolute deadline is ignored.
    """
    if time_left_ms is None:
        return (None if deadline_ms is None else Deadline(now + deadline_ms / 1000 - unix_now)), False
    at = now + time_left_ms / 1000
    if deadline_ms is None:
        return Deadline(at), False
    if clocks_disagree(time_left_ms, deadline_ms, unix_now):
        return Deadline(at), True
    return Deadline(min(at, now + deadline_ms / 1000 - unix_now)), False


class DeadlineHeap(Generic[K]):
    """Keys by their moment. A key is in until its token is discarded, so one that comes again is another entry.

    Deleting is lazy and bounded: dead entries never outnumber the living by more than `COMPACT_AFTER`.
    """

    __slots__ = ("_heap", "_keys", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._keys: dict[int, K] = {}  # by token: the living
        self._serial = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, key: K, at: float) -> int:
        """The token by which it leaves."""
        self._serial = token = self._serial + 1
        self._keys[token] = key
        heappush(self._heap, (at, token))
        if len(self._heap) > 2 * len(self._keys) + COMPACT_AFTER:
            self._heap = [entry for entry in self._heap if entry[1] in self._keys]
            heapify(self._heap)
        return token

    def discard(self, token: int) -> None:
        """Does nothing for one that has left."""
        self._keys.pop(token, None)

    def clear(self) -> None:
        self._heap.clear()
        self._keys.clear()

    def pop_due(self, now: float) -> list[K]:
        """Keys whose moment has come, soonest first; each is given once."""
        due: list[K] = []
        while (at := self.next()) is not None and at <= now:
            due.append(self._keys.pop(heappop(self._heap)[1]))
        return due

    def next(self) -> float | None:
        """The soonest moment of a living key, or None."""
        while self._heap and self._heap[0][1] not in self._keys:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None
