"""Waiting until nothing is left to do: for a time, and no longer once it is hurried."""

from __future__ import annotations

import asyncio

import pytest

from rpckit.idle import Idle

LONG = 60.0


async def test_at_first_nothing_is_left_to_do() -> None:
    assert await Idle().within(0)


async def test_it_is_waited_for_in_its_time_and_no_longer() -> None:
    idle = Idle()
    idle.clear()
    assert not await idle.within(0)
    asyncio.get_running_loop().call_soon(idle.set)
    assert await idle.within(LONG)


async def test_hurried_it_ends_the_wait_of_now_and_every_later_one() -> None:
    idle = Idle()
    idle.clear()
    waiting = asyncio.ensure_future(idle.within(LONG))
    await asyncio.sleep(0)
    assert idle.hurry()
    assert not await waiting
    assert not await idle.within(LONG)
    assert not idle.hurry(), "it was told before"
    idle.set()
    assert await idle.within(0)


async def test_hurried_in_the_turn_of_the_loop_in_which_its_time_is_up_it_is_no_error() -> None:
    """Then the time cannot be changed any more."""
    idle = Idle()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0) as idle._patience:
            await asyncio.sleep(1)
    assert idle.hurry()


async def test_who_was_cancelled_is_not_hurried() -> None:
    idle = Idle()
    idle.clear()
    waiting = asyncio.ensure_future(idle.within(LONG))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert idle.hurry()
