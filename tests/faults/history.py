"""A history of calls, and what must hold of it whatever broke. Pure: times come in as arguments.

Clients log each call's beginning and end, the service logs each execution by the call's id. Jepsen's way,
without the search: each rule below speaks of one call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from rpckit.errors import DID_NOT_RUN, RpcError

__all__ = ["LATE_S", "Entry", "History"]

LATE_S = 0.1  # seconds after its deadline by which every call has ended


@dataclass(slots=True)
class Entry:
    """One call. Times are seconds on one clock."""

    call_id: str
    idempotent: bool
    invoked: float
    deadline: float
    ended: float | None = None
    value: object = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        return self.ended is not None and self.error is None


@dataclass
class History:
    """Calls by id, and how often each was executed."""

    entries: dict[str, Entry] = field(default_factory=dict)
    executions: Counter[str] = field(default_factory=Counter)

    def invoke(self, call_id: str, *, idempotent: bool, now: float, timeout: float) -> Entry:
        entry = self.entries[call_id] = Entry(call_id, idempotent, now, now + timeout)
        return entry

    def executed(self, call_id: str) -> None:
        self.executions[call_id] += 1

    def outcomes(self) -> Counter[str]:
        return Counter(map(_outcome, self.entries.values()))

    def problems(self, *, slept: float = 0.0) -> list[str]:
        """What does not hold. `slept`: seconds for which the clients' event loop did not run, at most."""
        found = [
            f"{problem}: {entry}"
            for entry in self.entries.values()
            for problem in self._problems_of(entry, LATE_S + slept)
        ]
        unknown = self.executions.keys() - self.entries.keys()
        return found + [f"executed, and never called: {call_id}" for call_id in unknown]

    def _problems_of(self, entry: Entry, late: float) -> Iterator[str]:
        times = self.executions[entry.call_id]
        if entry.ended is None:
            yield "never ended"
            return
        if entry.ended > entry.deadline + late:
            yield f"ended {entry.ended - entry.deadline:.3f} s after its deadline"
        if entry.error is not None and not isinstance(entry.error, RpcError):
            yield "ended in something else than an RpcError"
        if entry.ok and entry.value != entry.call_id:
            yield "a reply of another call"
        if entry.ok and not times:
            yield "a result without an execution"
        if isinstance(entry.error, DID_NOT_RUN) and times:
            yield f"said not to have run, and ran {times} times"
        if times > 1 and not entry.idempotent:
            yield f"not idempotent, and ran {times} times"


def _outcome(entry: Entry) -> str:
    if entry.ended is None:
        return "pending"
    return "ok" if entry.ok else type(entry.error).__name__
