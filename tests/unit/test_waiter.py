"""The waiter of one call: set once, and safe to cancel."""

from __future__ import annotations

import asyncio

import pytest

from rpckit.errors import NoResponder, NotSent
from rpckit.waiter import Waiter


async def test_wait_gives_the_value() -> None:
    waiter: Waiter[int] = Waiter()
    asyncio.get_running_loop().call_soon(waiter.succeed, 7)
    assert await waiter.wait() == 7
    assert waiter.done


async def test_wait_raises_the_error() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.fail(NotSent("not connected"))
    with pytest.raises(NotSent, match="not connected"):
        await waiter.wait()


async def test_none_is_a_value() -> None:
    waiter: Waiter[None] = Waiter()
    waiter.succeed(None)
    assert await waiter.wait() is None  # type: ignore[func-returns-value]


async def test_later_outcomes_are_ignored() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.succeed(1)
    waiter.succeed(2)
    waiter.fail(NoResponder("late"))
    assert await waiter.wait() == 1


async def test_later_values_do_not_hide_an_error() -> None:
    waiter: Waiter[int] = Waiter()
    waiter.fail(NoResponder("first"))
    waiter.succeed(1)
    with pytest.raises(NoResponder):
        await waiter.wait()


async def test_cancelling_wait_leaves_the_outcome_in_place() -> None:
    waiter: Waiter[int] = Waiter()
    task = asyncio.ensure_future(waiter.wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not waiter.done
    waiter.succeed(3)
    assert await waiter.wait() == 3
