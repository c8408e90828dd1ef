"""Does anybody serve an address? Asked of the broker, which knows its queues' consumers.

`mandatory` tells only a missing queue; a durable one outlives its server. So the first request to an
address, and one a second from then on, is preceded by a passive look (0.3 ms) at its consumers.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from rpckit.errors import NoResponder, NotSent

from ._connection import Session, being_cancelled
from ._driver import FastChannel
from ._errors import NOT_FOUND, Refused

__all__ = ["Presence", "passive_look"]

FRESH_S = 1.0  # seconds for which a look holds
MAX_ADDRESSES = 4096  # remembered; then forgotten all at once


class Presence:
    """When each address was last seen served. Concurrent callers share one look."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}

    def fresh(self, address: str, now: float) -> bool:
        return self._seen.get(address, 0.0) > now

    def forget(self, address: str | None = None) -> None:
        """One address, or after a reconnect all of them."""
        if address is None:
            self._seen.clear()
        else:
            self._seen.pop(address, None)

    async def look(self, session: Session, address: str, timeout: float | None) -> None:
        """Raises `NoResponder` when nobody serves, `NotSent` when the broker does not say so in time (seconds)."""
        task = self._looks.get(address)
        if task is None:
            task = self._looks[address] = asyncio.ensure_future(self._ask(session, address))
            task.add_done_callback(partial(self._looked, address))
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(task)
        except TimeoutError:
            raise NotSent(f"the broker did not say in time whether anybody serves {address!r}") from None
        except asyncio.CancelledError:
            if task.cancelled() and not being_cancelled():  # by `end`, not by our caller
                raise NotSent("the connection was closed") from None
            raise

    def end(self) -> None:
        for task in self._looks.values():
            task.cancel()

    def _looked(self, address: str, task: asyncio.Task[None]) -> None:
        self._looks.pop(address, None)
        if not task.cancelled():
            task.exception()

    async def _ask(self, session: Session, address: str) -> None:
        consumers = await passive_look(session, address)
        if consumers == 0:
            raise NoResponder(f"nobody serves {address!r}: its queue exists, without a consumer")
        if consumers is None:
            raise NoResponder(f"nobody serves {address!r}: there is no such queue")
        if len(self._seen) >= MAX_ADDRESSES:
            self._seen.clear()
        self._seen[address] = asyncio.get_running_loop().time() + FRESH_S


async def passive_look(session: Session, address: str) -> int | None:
    """The consumers of a queue; None where there is no such queue. A look that is not allowed counts as one."""

    async def ask(channel: FastChannel) -> Any:
        return await channel.queue_declare(address, passive=True)

    try:
        answer = await session.control(f"a look at the queue {address!r}", ask)
    except Refused as refusal:
        return None if refusal.code == NOT_FOUND else 1
    return int(answer["consumer_count"])
