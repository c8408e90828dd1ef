"""Requests in a list, each moved to the list of what its consumer is doing."""

from __future__ import annotations

import hashlib
import math
from functools import partial

from ._connection import BLOCK_S, Session
from ._delivery import RedisDelivery
from ._link import Link
from ._receiver import ALIVE_MS, PullingReceiver, Settling
from ._scripts import ABANDON_LIST, REAP_LIST, REJECT_LIST, RETURN_LIST, SETTLE_LIST, TAKE_LIST

__all__ = ["ListReceiver"]


class ListReceiver(PullingReceiver):
    """One move waits for the first request, a script takes those behind it."""

    key_type = b"list"

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]  # as its base
        super().__init__(*args, **kwargs)
        self._returning: list[RedisDelivery] = []
        self._empty_at = -math.inf  # when the list was last seen empty: what comes from it is younger

    async def pull(self, session: Session, link: Link, most: int) -> None:
        key, doing = self.place.key, self.place.doing(session.consumer)
        empty_at, asked_at = self._empty_at, link.loop.time()
        taken = await link.ask_script(TAKE_LIST, (key, doing, self.place.consumers), most, session.consumer)
        if len(taken) < most:
            self._empty_at = asked_at
        if not taken and self.room and not self._stopped:  # else nobody unblocks what would block now
            first = await link.ask("BLMOVE", key, doing, "LEFT", "RIGHT", int(BLOCK_S))
            taken, empty_at = [] if first is None else [first], asked_at
        age = link.loop.time() - empty_at
        for data in taken:
            self._deliver(session, data, None, age=age)

    async def take_abandoned(self, session: Session, most: int, *, alone: bool) -> list[RedisDelivery]:
        place = self.place
        keys = (place.consumers, place.tries, place.doing(session.consumer))
        args = (session.consumer, most, ALIVE_MS, int(alone), place.doing(""))
        taken = await session.main.ask_script(REAP_LIST, keys, *args)
        return [self._deliver(session, data, None, tries, math.inf) for data, tries in taken]

    def lay_out_settling(self, link: Link, steps: Settling) -> None:
        first, _ = steps[0]
        keys = (self.place.doing(first.session.consumer), *([self.place.tries] if first.redelivered else []))
        args = tuple(delivery.data for delivery, _ in steps)
        link.run(SETTLE_LIST, keys, args, partial(self._settled, steps))

    def hand_back(self, delivery: RedisDelivery) -> None:
        """Those of one tick together, so that they keep their order."""
        if not self._returning:
            delivery.session.main.loop.call_soon(self._hand_back)
        self._returning.append(delivery)

    def abandon(self, delivery: RedisDelivery) -> None:
        keys = (self.place.doing(delivery.session.consumer), self.place.tries)
        args = (delivery.data, _name(delivery.data))
        delivery.session.main.run(ABANDON_LIST, keys, args, delivery.log_refusal)

    def reject(self, delivery: RedisDelivery) -> None:
        place = self.place
        keys = (place.doing(delivery.session.consumer), place.tries, place.dead)
        args = (delivery.data, _name(delivery.data))
        delivery.session.main.run(REJECT_LIST, keys, args, delivery.log_refusal)

    def _hand_back(self) -> None:
        returning, self._returning = self._returning, []
        session = returning[0].session
        keys = (self.place.key, self.place.doing(session.consumer), self.place.tries)
        session.main.run(RETURN_LIST, keys, tuple(each.data for each in returning), returning[0].log_refusal)


def _name(data: bytes) -> str:
    """Under which an abandoned request's tries are counted; the scripts compute the same."""
    return hashlib.sha1(data).hexdigest()
