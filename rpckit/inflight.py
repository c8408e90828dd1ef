"""The server's call table: duplicates, cancel and its tombstones, expiry, drain. Pure: time comes in as an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

from rpckit.deadline import DeadlineHeap, Entry

__all__ = ["ADMITTED", "MAX_TOMBSTONES", "TOMBSTONE_S", "Admission", "CallKey", "InFlight"]

MAX_TOMBSTONES = 4096  # cancels remembered that came before their requests
TOMBSTONE_S = 60.0  # seconds a cancel waits for its request

CallKey = tuple[str, str, str]  # transport, reply_to, correlation_id
J = TypeVar("J")


class Admission(Enum):
    ADMITTED = "admitted"
    DUPLICATE = "duplicate"  # the same attempt is already in flight
    CANCELLED = "cancelled"  # its cancel overtook it


ADMITTED = Admission.ADMITTED  # see `rpckit.message.REQUEST`


class InFlight(Generic[J]):
    """Calls delivered and not yet answered. Each leaves exactly once."""

    def __init__(self) -> None:
        self._jobs: dict[CallKey, tuple[J, Entry | None]] = {}  # each with its deadline
        self._deadlines: DeadlineHeap[CallKey] = DeadlineHeap()
        self._tombstones: OrderedDict[CallKey, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def tombstones(self) -> int:
        return len(self._tombstones)

    def admit(self, key: CallKey, job: J, *, deadline: float | None) -> Admission:
        """Only what is `ADMITTED` is in the table then. deadline: on the loop's clock."""
        jobs = self._jobs
        if self._tombstones and self._tombstones.pop(key, None) is not None:
            return Admission.CANCELLED
        if key in jobs:
            return Admission.DUPLICATE
        jobs[key] = job, None if deadline is None else self._deadlines.push(key, deadline)
        return ADMITTED

    def shorten(self, key: CallKey, deadline: float) -> None:
        """Give a call in flight an earlier moment (a method's own time limit)."""
        found = self._jobs.get(key)
        if found is not None:
            self._deadlines.discard(found[1])
            self._jobs[key] = found[0], self._deadlines.push(key, deadline)

    def get(self, key: CallKey) -> J | None:
        found = self._jobs.get(key)
        return found[0] if found else None

    def pop(self, key: CallKey) -> J | None:
        """Take a call out; None for one that has left."""
        found = self._jobs.pop(key, None)
        if found is None:
            return None
        self._deadlines.discard(found[1])
        return found[0]

    def discard(self, key: CallKey, job: J) -> None:
        """`pop`, unless the key is by now another job's: after a cancel, that of its redelivery."""
        found = self._jobs.get(key)
        if found is not None and found[0] is job:
            del self._jobs[key]
            self._deadlines.discard(found[1])

    def cancel(self, key: CallKey, now: float) -> J | None:
        """Take a call out because its caller cancelled it; an unknown one leaves a tombstone for its request."""
        job = self.pop(key)
        if job is None:
            self._bury(key, now)
        return job

    def all(self) -> list[J]:
        """The calls in the order they came, left in place."""
        return [job for job, _ in self._jobs.values()]

    def waiting(self, unbegun: Callable[[J], bool]) -> list[tuple[CallKey, J]]:
        """The calls that have not begun, in the order they came, left in place."""
        return [(key, job) for key, (job, _) in self._jobs.items() if unbegun(job)]

    def of_caller(self, transport: str, reply_to: str) -> list[tuple[CallKey, J]]:
        """The calls of one caller, left in place."""
        return [(key, job) for key, (job, _) in self._jobs.items() if key[:2] == (transport, reply_to)]

    def expire(self, now: float) -> list[tuple[CallKey, J]]:
        """Take out the calls whose time is up."""
        return [(key, self._jobs.pop(key)[0]) for key in self._deadlines.pop_due(now)]

    def drain(self) -> list[tuple[CallKey, J]]:
        """Take out all."""
        drained = [(key, job) for key, (job, _) in self._jobs.items()]
        self._jobs.clear()
        self._deadlines.clear()
        return drained

    def next_deadline(self) -> float | None:
        return self._deadlines.next()

    def _bury(self, key: CallKey, now: float) -> None:
        while self._tombstones:
            oldest, buried_at = next(iter(self._tombstones.items()))
            if buried_at + TOMBSTONE_S > now and len(self._tombstones) < MAX_TOMBSTONES:
                break
            del self._tombstones[oldest]
        self._tombstones[key] = now
