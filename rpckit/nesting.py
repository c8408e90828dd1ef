"""Calls that a handler makes: what they inherit from the one that is handled, and the slot that it lends meanwhile."""

from __future__ import annotations

import asyncio

from rpckit.context import MAX_DEPTH, current_context
from rpckit.deadline import Deadline
from rpckit.errors import RpcError, UsageError
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


async def await_lending(waiter: Waiter[Message]) -> Message:
    """A handler that waits for a nested call lends its slot meanwhile."""
    context = current_context()
    if context is None or context.slot is None or not context.runs_here:
        return await waiter.wait()
    context.slot.lend()
    try:
        reply = await waiter.wait()
    except RpcError:
        await context.slot.reclaim()
        raise
    except BaseException:  # stopped: it must not wait for others now
        context.slot.reclaim_now()
        raise
    await context.slot.reclaim()
    return reply
