"""Calls that a handler makes: what they inherit from the one that is handled, and the slot that it lends meanwhile."""

from __future__ import annotations

import asyncio

from rpckit.context import MAX_DEPTH, current_context
from rpckit.deadline import Deadline
from rpckit.errors import UsageError
from rpckit.message import Message
from rpckit.waiter import Waiter

__all__ = ["await_lending", "inherit"]


def inherit(timeout: float | None, loop: asyncio.AbstractEventLoop) -> tuple[Deadline | None, int]:
    """A call's deadline and depth: its own time, or the sooner end of the call that it is nested in."""
    deadline = None if timeout is None else Deadline(loop.time() + timeout)
    context = current_context()
    if context is None:
        return deadline, 0
    if context.depth >= MAX_DEPTH:
        raise UsageError(f"calls are nested {MAX_DEPTH} deep: does this service call itself in a circle?")
    if context.deadline is not None and (deadline is None or context.deadline < deadline):
        deadline = context.deadline
    return deadline, context.depth + 1


async def await_lending(waiter: Waiter[Message]) -> None:
    """A handler that waits for a nested call lends its slot meanwhile."""
    context = current_context()
    if context is None or context.slot is None or not context.runs_here:
        await waiter.wait()
        return
    context.slot.lend()
    try:
        await waiter.wait()
    except BaseException:  # stopped: it must not wait for others now
        context.slot.reclaim_now()
        raise
    await context.slot.reclaim()
