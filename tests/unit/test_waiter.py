"""The waiter of one call: set once, and safe to cancel."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import pytest

from rpckit.errors import NoResponder, NotSent
from rpckit.waiter import Waiter

T = TypeVar("T")


async def outcome(waiter: Waiter[T]) -> T:
    await asyncio.wait_for(waiter.wait(), 1)
    return waiter.outcome()


async def test_its_outcome_is_the_result() -> None:
    waiter: Waiter[int] = Waiter()
    asyncio.get_running_loop().call_soon(waiter.succeed, 7)
    assert await outcome(waiter) == 7
    assert waiter.is_set()


async def test_its_outcome_is_the_error_raised() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.fail(NotSent("not connected"))
    with pytest.raises(NotSent, match="not connected"):
        await outcome(waiter)


async def test_none_is_a_result() -> None:
    waiter: Waiter[int | None] = Waiter()
    waiter.succeed(None)
    assert await outcome(waiter) is None


async def test_later_outcomes_are_ignored() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.succeed(1)
    waiter.succeed(2)
    waiter.fail(NoResponder("late"))
    assert await outcome(waiter) == 1


async def test_later_results_do_not_hide_an_error() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.fail(NoResponder("first"))
    waiter.succeed(1)
    with pytest.raises(NoResponder):
        await outcome(waiter)


async def test_cancelling_wait_leaves_the_outcome_in_place() -> None:
    waiter: Waiter[int] = Waiter()
    task = asyncio.ensure_future(waiter.wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not waiter.is_set()
    waiter.succeed(3)
    assert await outcome(waiter) == 3
