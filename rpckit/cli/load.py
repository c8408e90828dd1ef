"""Load: many callers at once for some seconds, and the figures they leave. Used by `bench` and `demo`."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rpckit.errors import RpcError

__all__ = ["Figures", "run_load"]

PAUSE_AFTER_ERROR = 0.05  # seconds: an error that comes at once must not become a busy loop


@dataclass(slots=True)
class Figures:
    """What was measured so far. latencies: seconds, of calls that succeeded; errors: counts by type."""

    latencies: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Successful calls a second."""
        return self.calls / self.seconds if self.seconds else 0.0

    def percentiles_ms(self, *shares: float) -> list[float]:
        """Latencies in milliseconds at the given shares: 0.5 the median, 1 the maximum. NaN without calls."""
        ordered = sorted(self.latencies)
        return [_nearest_rank(ordered, share) * 1000 for share in shares]

    def as_dict(self) -> dict[str, object]:
        """The figures as `--json` prints them; latencies are null when no call succeeded."""
        p50, p95, p99, longest = (
            round(value, 3) if self.calls else None for value in self.percentiles_ms(0.5, 0.95, 0.99, 1)
        )
        return {
            "calls": self.calls,
            "seconds": round(self.seconds, 3),
            "calls_per_second": round(self.rate, 1),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
            "max_ms": longest,
            "errors": dict(self.errors),
        }


async def run_load(
    call: Callable[[], Awaitable[object]], figures: Figures, *, concurrency: int, duration: float
) -> Figures:
    """Call from `concurrency` tasks for `duration` seconds, then let the last calls end."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(_caller(call, figures, began, began + duration))
    figures.seconds = time.perf_counter() - began
    return figures


async def _caller(call: Callable[[], Awaitable[object]], figures: Figures, began: float, until: float) -> None:
    while (sent := time.perf_counter()) < until:
        try:
            await call()
        except RpcError as error:
            figures.errors[type(error).__name__] += 1
            await asyncio.sleep(PAUSE_AFTER_ERROR)
            continue
        now = time.perf_counter()
        figures.latencies.append(now - sent)
        figures.seconds = now - began


def _nearest_rank(ordered: list[float], share: float) -> float:
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
