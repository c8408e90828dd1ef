"""The client of a command that calls: the time of its call begins before it connects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil

from rpckit.client import Client
from rpckit.errors import NotSent

__all__ = ["connected"]

QUICK_S = 0.5  # seconds: connecting so soon is not counted, and an error tells the time that was given


@asynccontextmanager
async def connected(client: Client) -> AsyncIterator[float | None]:
    """Connect within the time of a call, and close in the end. Gives the seconds left for the call; None for ever.

    Raises `NotSent` and `UsageError` as `Client.connect`, and `NotSent` when the time is up.
    """
    within, began = client.options.timeout, asyncio.get_running_loop().time()
    try:
        try:
            async with asyncio.timeout(within):
                await client.connect()
        except TimeoutError as error:
            raise NotSent(f"no connection to {client.url} within {within:g} s, the time of the call") from error
        yield None if within is None else _left(within, asyncio.get_running_loop().time() - began)
    finally:
        await client.close()


def _left(within: float, spent: float) -> float:
    """To a tenth of a second, upwards: errors tell it."""
    return within if spent <= QUICK_S else max(1, ceil(10 * (within - spent))) / 10
