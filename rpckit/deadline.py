"""Deadlines: absolute inside the process, milliseconds left and unix milliseconds on the wire.

Pure: both clocks come in as arguments. `now` is always the event loop's clock in seconds,
`unix_now` the wall clock in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import ceil
from typing import Any, Generic, TypeVar

__all__ = ["MAX_SKEW_S", "Deadline", "DeadlineHeap", "Entry", "deadline_on_arrival"]

MAX_SKEW_S = 5.0  # clocks further apart than this: the absolute deadline is ignored
COMPACT_AFTER = 64  # dead heap entries tolerated on top of as many as are alive

K = TypeVar("K")
Entry = list[Any]  # a moment, a number that tells equal moments apart, and the key; None once it has left


@dataclass(slots=True, order=True)  # not frozen: that costs three times as much to make, and each call makes one
class Deadline:
    """The moment on the event loop's clock (seconds) when a call's time is up."""

    at: float

    def remaining(self, now: float) -> float:
        """Seconds left; negative when the time is up."""
        return self.at - now

    def on_the_wire(self, now: float, unix_now: float) -> tuple[int, int]:
        """Whole milliseconds left, at least 1, since 0 means "at once" to a broker; and unix milliseconds."""
        left = self.at - now
        left_ms = ceil(left * 1000)
        return left_ms if left_ms > 0 else 1, int((unix_now + left) * 1000)


def deadline_on_arrival(
    time_left_ms: int | None, deadline_ms: int | None, now: float, unix_now: float
) -> tuple[Deadline | None, bool]:
    """The sooner of "time left" from arrival and the absolute deadline, and whether the clocks disagree.

    The absolute deadline can be at most `time_left_ms` ahead, and a message older than its time limit would have been
    dropped on the way: beyond `MAX_SKEW_S` of either, it is the clocks, and the absolute deadline is ignored.
    """
    if time_left_ms is None:
        return (None if deadline_ms is None else Deadline(now + deadline_ms / 1000 - unix_now)), False
    left = time_left_ms / 1000
    if deadline_ms is None:
        return Deadline(now + left), False
    ahead = deadline_ms / 1000 - unix_now
    if ahead > left:
        return Deadline(now + left), ahead > left + MAX_SKEW_S
    return (Deadline(now + left), True) if ahead < -MAX_SKEW_S else (Deadline(now + ahead), False)


class DeadlineHeap(Generic[K]):
    """Keys by their moment. A key is in until its entry is discarded, so one that comes again is another entry.

    Deleting is lazy and bounded: dead entries never outnumber the living by more than `COMPACT_AFTER`.
    """

    __slots__ = ("_dead", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._dead = 0  # entries in the heap that have been discarded
        self._serial = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, key: K, at: float) -> Entry:
        """The entry by which it leaves."""
        self._serial = serial = self._serial + 1
        entry = [at, serial, key]
        heappush(self._heap, entry)
        return entry

    def discard(self, entry: Entry | None) -> None:
        """Does nothing for one that has left, and for None: what has no deadline."""
        if entry is None or entry[2] is None:
            return
        entry[2] = None
        self._dead = dead = self._dead + 1
        if dead > len(self._heap) // 2 + COMPACT_AFTER // 2:
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapify(self._heap)
            self._dead = 0

    def clear(self) -> None:
        for entry in self._heap:
            entry[2] = None
        self._heap.clear()
        self._dead = 0

    def pop_due(self, now: float) -> list[K]:
        """Keys whose moment has come, soonest first; each is given once."""
        due: list[K] = []
        while (at := self.next()) is not None and at <= now:
            entry = heappop(self._heap)
            due.append(entry[2])
            entry[2] = None
        return due

    def next(self) -> float | None:
        """The soonest moment of a living key, or None."""
        while self._heap and self._heap[0][2] is None:
            heappop(self._heap)
            self._dead -= 1
        return self._heap[0][0] if self._heap else None
