"""The closed loop: a number of tasks, each of which awaits a call, checks the answer, makes the next one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from .contenders import Caller

__all__ = ["Sample", "WrongAnswer", "make_calls", "measure"]

GRACE = 15.0  # seconds a load may run over before it counts as hung
FIRST_STEP = 100_000  # numbers of two callers do not meet, and stay below eight digits for 256 of them


class WrongAnswer(AssertionError):
    """A contender answered something else than n + 1."""


@dataclass(frozen=True)
class Sample:
    """What one run of one contender came to. Latencies in milliseconds."""

    calls: int
    rate: float
    p50: float
    p99: float


async def measure(caller: Caller, callers: int, seconds: float) -> Sample:
    """Load for `seconds` and tell how it went. Raises TimeoutError when calls hang, else WrongAnswer."""
    start = perf_counter()
    async with asyncio.timeout(seconds + GRACE), asyncio.TaskGroup() as group:
        tasks = [group.create_task(_until(caller, i * FIRST_STEP, start + seconds)) for i in range(callers)]
    elapsed = perf_counter() - start
    latencies = sorted(latency for task in tasks for latency in task.result())
    return Sample(
        calls=len(latencies),
        rate=len(latencies) / elapsed,
        p50=_quantile(latencies, 0.50) * 1000,
        p99=_quantile(latencies, 0.99) * 1000,
    )


async def make_calls(caller: Caller, callers: int, count: int, deadline: float) -> None:
    """Make `count` calls in all and keep nothing of them. Raises TimeoutError after `deadline` seconds."""
    async with asyncio.timeout(deadline), asyncio.TaskGroup() as group:
        for i in range(callers):
            first = i * FIRST_STEP
            group.create_task(_exactly(caller, first, count // callers + (i < count % callers)))


async def _until(caller: Caller, n: int, end: float) -> list[float]:
    call, latencies = caller.call, []
    before = perf_counter()
    while before < end:
        answer = await call(n)
        after = perf_counter()
        latencies.append(after - before)
        n += 1
        if answer != n:
            raise WrongAnswer(f"{n - 1} was answered with {answer!r}")
        before = after
    return latencies


async def _exactly(caller: Caller, first: int, count: int) -> None:
    for n in range(first, first + count):
        answer = await caller.call(n)
        if answer != n + 1:
            raise WrongAnswer(f"{n} was answered with {answer!r}")


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
