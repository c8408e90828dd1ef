"""Slots that handlers lend while they wait for nested calls, and how far ahead requests are taken meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from rpckit.job import Link
from rpckit.slots import Slots
from rpckit.transport import Receiver

__all__ = ["Lending"]

MAX_LENT_STEPS = 32  # prefetches full of waiting handlers; then only nested calls are taken, so that those can end
MAX_NESTED_STEPS = 62  # so many in hand, then none: RabbitMQ's consumers hold 64, and bring what is to be refused


class Lending:
    """Handlers that wait hold deliveries unsettled: without more prefetch their nested calls would never come.

    prefetch: of each receiver on `links`, but for those in `exact`, which take nothing ahead.
    """

    def __init__(self, slots: Slots, links: Sequence[Link], *, ahead: int) -> None:
        self.prefetch = self._step = slots.limit + ahead
        self.exact: list[Receiver] = []
        self.lent = 0
        self.most = MAX_LENT_STEPS * self._step
        self.most_nested = MAX_NESTED_STEPS * self._step
        self._slots = slots
        self._links = links

    def refuses(self, depth: int) -> bool:
        """A call so deep: one more would leave no room for what those wait for that wait already, or will."""
        if self.lent < self.most:
            return False
        return depth == 0 or self.lent + self._slots.taken + self._slots.waiting >= self.most_nested

    def add_exact(self, receiver: Receiver) -> None:
        """Of what it has delivered already some may have lent its slot."""
        self.exact.append(receiver)
        receiver.set_prefetch(self._to_begin)

    @property
    def _to_begin(self) -> int:
        """As many unsettled leave the slots that are not lent full."""
        return self._slots.limit + self.lent

    def lend(self) -> None:
        """A handler begins to wait for a nested call."""
        self.count(+1)
        self._slots.release()

    async def reclaim(self) -> None:
        """It goes on when a slot is free. Cancelled, it goes on at once."""
        given: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._slots.resume(partial(_give, given, self._slots))
        try:
            await given
        except asyncio.CancelledError:
            if given.cancelled():
                self._slots.take_now()
            raise
        finally:
            self.count(-1)

    def reclaim_now(self) -> None:
        self.count(-1)
        self._slots.take_now()

    def count(self, change: int) -> None:
        """The prefetch grows by steps, when fewer deliveries have room than there are slots."""
        self.lent += change
        limit = self._slots.limit
        if self.prefetch - self.lent < limit:
            self._set_prefetch(self._step * -(-(self.lent + limit) // self._step))
        for receiver in self.exact:
            receiver.set_prefetch(self._to_begin)

    def settle_down(self) -> None:
        """Nothing is left to do."""
        if self.prefetch > self._step:
            self._set_prefetch(self._step)

    def _set_prefetch(self, prefetch: int) -> None:
        self.prefetch = prefetch
        for link in self._links:
            for receiver in link.receivers:
                if receiver not in self.exact:
                    receiver.set_prefetch(prefetch)


def _give(given: asyncio.Future[None], slots: Slots) -> None:
    if given.done():
        asyncio.get_running_loop().call_soon(slots.release)
    else:
        given.set_result(None)
