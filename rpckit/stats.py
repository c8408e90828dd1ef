"""What an instance counts of its calls: how many, how they failed, how long they waited and ran. Pure.

Counting only appends; whatever is worked out is worked out when somebody asks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rpckit.contract import MethodSpec, Service

__all__ = ["LAST", "MAX_CODES", "CallStats", "MethodStats", "percentile", "report"]

LAST = 1_000  # calls whose times are kept, of each method
MAX_CODES = 32  # error codes counted apart, of each method: a handler may pass on those of strangers
OTHER = "OTHER"  # all codes beyond them


class MethodStats:
    """Of one method, or of one handler of events. A call is counted when it ends, or is refused."""

    __slots__ = ("calls", "errors", "key", "runs", "waits")

    def __init__(self, key: object = None) -> None:
        self.key = key  # held, so that its id stays its own
        self.calls = 0
        self.errors: dict[str, int] = {}
        self.waits: deque[float] = deque(maxlen=LAST)  # seconds from its coming to its beginning
        self.runs: deque[float] = deque(maxlen=LAST)  # seconds from its beginning to its end

    def ended(self, wait: float, run: float) -> None:
        self.calls += 1
        self.waits.append(wait)
        self.runs.append(run)

    def failed(self, code: str) -> None:
        """With what: it is counted as a call when it has ended."""
        if code not in self.errors and len(self.errors) >= MAX_CODES:
            code = OTHER
        self.errors[code] = self.errors.get(code, 0) + 1

    def refused(self, code: str) -> None:
        """It was answered without being begun."""
        self.calls += 1
        self.failed(code)


class CallStats:
    """Of all methods of an instance. `key` is the method; of a call of none that is there, its service or None."""

    def __init__(self) -> None:
        self._by_id: dict[int, MethodStats] = {}

    def of(self, key: MethodSpec | Service | None) -> MethodStats:
        try:
            return self._by_id[id(key)]
        except KeyError:
            return self._by_id.setdefault(id(key), MethodStats(key))

    def find(self, key: MethodSpec | Service | None) -> MethodStats | None:
        return self._by_id.get(id(key))


def report(
    stats: CallStats, services: Sequence[Service], in_flight: Iterable[MethodSpec], address: str = ""
) -> list[dict[str, Any]]:
    """What STATS answers: an entry for each method, and for each handler of events; those of `address`, if given.

    An entry without a method counts what named none that is there.
    """
    flying = Counter(id(spec) for spec in in_flight)
    entries = [
        _entry(stats.find(key) or MethodStats(), flying[id(key)], names)
        for service in services
        if address in ("", service.address)
        for key, names in _counted(stats, service)
    ]
    nowhere = None if address else stats.find(None)
    if nowhere is not None:
        entries.append(_entry(nowhere, 0, {"service": "", "address": "", "method": ""}))
    return entries


def _counted(stats: CallStats, service: Service) -> Iterator[tuple[MethodSpec | Service, dict[str, str]]]:
    names = {"service": service.name, "address": service.address}
    for spec in service.methods.values():
        yield spec, {**names, "method": spec.name}
    for event in service.events:
        yield event.spec, {**names, "method": event.spec.name, "event": event.topic}
    if stats.find(service) is not None:
        yield service, {**names, "method": ""}


def _entry(stats: MethodStats, in_flight: int, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        **names,
        "calls": stats.calls,
        "errors": dict(stats.errors),
        "in_flight": in_flight,
        "wait_ms": _percentiles_ms(stats.waits),
        "run_ms": _percentiles_ms(stats.runs),
    }


def _percentiles_ms(seconds: Iterable[float]) -> dict[str, float] | None:
    """None when there are none."""
    ordered = sorted(seconds)
    if not ordered:
        return None
    return {f"p{percent}": round(1000 * percentile(ordered, percent), 3) for percent in (50, 99)}


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest of the values, which stand in order, that `percent` of them do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
