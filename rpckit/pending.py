"""The client's call table. Pure: no clock, no event loop, no I/O."""

from __future__ import annotations

from typing import Generic, TypeVar

from rpckit.deadline import DeadlineHeap, Entry

__all__ = ["PendingCalls"]

W = TypeVar("W")


class PendingCalls(Generic[W]):
    """Calls sent and not yet settled. Each call leaves exactly once.

    Add before sending, settle when sending raises. A late reply finds nothing: the shell counts it.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._calls: dict[str, tuple[W, Entry | None]] = {}  # each with its deadline
        self._deadlines: DeadlineHeap[str] = DeadlineHeap()

    def __len__(self) -> int:
        return len(self._calls)

    def full(self) -> bool:
        return len(self._calls) >= self.limit

    def add(self, correlation_id: str, waiter: W, *, deadline: float | None) -> None:
        """Raises `ValueError` for an id already pending, `OverflowError` when full: both are the shell's to avoid."""
        calls = self._calls
        if correlation_id in calls:
            raise ValueError("that correlation id is already pending")
        if len(calls) >= self.limit:
            raise OverflowError(f"{self.limit} calls are pending")
        calls[correlation_id] = waiter, None if deadline is None else self._deadlines.push(correlation_id, deadline)

    def settle(self, correlation_id: str) -> W | None:
        """Take a call out; None for one that is late or unknown."""
        found = self._calls.pop(correlation_id, None)
        if found is None:
            return None
        waiter, entry = found
        self._deadlines.discard(entry)
        return waiter

    def expire(self, now: float) -> list[tuple[str, W]]:
        """Take out the calls whose time is up."""
        due = self._deadlines.pop_due(now)
        return [(correlation_id, self._calls.pop(correlation_id)[0]) for correlation_id in due]

    def drain(self) -> list[tuple[str, W]]:
        """Take out all: connection lost or closed, and they all get the same cause."""
        drained = [(correlation_id, waiter) for correlation_id, (waiter, _) in self._calls.items()]
        self._calls.clear()
        self._deadlines.clear()
        return drained

    def next_deadline(self) -> float | None:
        return self._deadlines.next()
