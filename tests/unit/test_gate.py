"""The gate: first come, first let through; nobody waits past his moment."""

from __future__ import annotations

import asyncio

import pytest

from rpckit.errors import NotSent, UsageError
from rpckit.gate import Gate

FAR = 60.0  # seconds; nobody waits so long here


def late() -> NotSent:
    return NotSent("too late")


def waits(gate: Gate, seconds: float = FAR) -> asyncio.Task[None]:
    return asyncio.ensure_future(gate.wait(asyncio.get_running_loop().time() + seconds, late))


async def waiting(gate: Gate, count: int) -> list[asyncio.Task[None]]:
    tasks = [waits(gate) for _ in range(count)]
    await asyncio.sleep(0)
    assert len(gate) == count
    return tasks


async def test_let_one_lets_the_first_through() -> None:
    gate = Gate()
    first, second = await waiting(gate, 2)
    gate.let_one()
    await first
    assert not second.done()
    gate.let_all()
    await second
    assert len(gate) == 0


async def test_let_one_passes_over_a_caller_that_has_gone() -> None:
    gate = Gate()
    first, second = await waiting(gate, 2)
    first.cancel()
    gate.let_one()
    await asyncio.wait_for(second, 1)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_caller_cancelled_just_as_it_was_let_through_lets_the_next_one_go() -> None:
    gate = Gate()
    first, second = await waiting(gate, 2)
    gate.let_one()
    first.cancel()
    await asyncio.wait_for(second, 1)
    assert first.cancelled()


async def test_a_cancelled_caller_leaves_no_place_behind() -> None:
    gate = Gate()
    (only,) = await waiting(gate, 1)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    assert len(gate) == 0


async def test_time_up_raises_what_late_gives_then() -> None:
    gate = Gate()
    with pytest.raises(NotSent, match="too late"):
        await waits(gate, 0.001)
    assert len(gate) == 0


async def test_a_moment_already_past_raises_at_once() -> None:
    with pytest.raises(NotSent):
        await waits(Gate(), -1.0)


async def test_refuse_all_raises_for_everybody() -> None:
    gate = Gate()
    tasks = await waiting(gate, 2)
    gate.refuse_all(UsageError("no such user"))
    for task in tasks:
        with pytest.raises(UsageError, match="no such user"):
            await task
    assert len(gate) == 0


async def test_an_open_gate_with_nobody_waiting_does_nothing() -> None:
    gate = Gate()
    gate.let_one()
    gate.let_all()
    task = waits(gate)
    await asyncio.sleep(0)
    assert not task.done()
    gate.let_all()
    await task
