"""Requests in a list: each moved to the list of what its consumer is doing, or popped for good."""

from __future__ import annotations

import hashlib
import logging
import math
from functools import partial
from typing import Any

from ._connection import BLOCK_S, Session
from ._delivery import RedisDelivery
from ._errors import is_error
from ._link import Link, OnReply, pack
from ._pulling import ALIVE_MS, Abandoned, PullingReceiver, Settling
from ._scripts import (
    REAP_LIST,
    REJECT_LIST,
    REJECT_POPPED,
    RETURN_LIST,
    RETURN_POPPED,
    SETTLE_LIST,
    TAKE_LIST,
    TRIES_LIST,
)

__all__ = ["ListReceiver", "PoppingReceiver"]

log = logging.getLogger(__name__)

QUICK_S = 0.1  # seconds for which a list that was seen empty counts as empty
MAX_TAKEN = 1_000  # requests taken at once: more than a script can hand on to a command


class ListReceiver(PullingReceiver):
    """One move waits for the first request, and a script takes those behind it in the same turn.

    The script comes alone where the list was not seen empty of late: else nobody could tell how old the first is.
    """

    key_type = b"list"
    _pops = False

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]  # as its base
        super().__init__(*args, **kwargs)
        self._returning: list[RedisDelivery] = []
        self._empty_at = -math.inf  # when the list was last seen empty: what comes from it is younger

    async def pull(self, session: Session, link: Link, most: int) -> None:
        most, asked_at, refusals = min(most, MAX_TAKEN), link.loop.time(), list[Exception]()
        key, doing = self.place.key, self.place.doing(session.consumer)
        if asked_at - self._empty_at < QUICK_S:
            move = pack("BLMOVE", key, doing, "LEFT", "RIGHT", int(BLOCK_S))
            link.hold()
            link.send(move, partial(self._moved, session, asked_at, self._empty_at, refusals))
            most -= 1
        on_reply, taken = link.handing(partial(self._taken, session, most, asked_at))
        link.run(TAKE_LIST, (key, doing, self.place.consumers), (most, session.consumer), on_reply)
        await taken
        if refusals:
            raise refusals[0]

    def _moved(self, session: Session, asked_at: float, empty_at: float, refusals: list[Exception], reply: Any) -> None:
        now = session.main.loop.time()
        if is_error(reply):
            refusals.append(reply)
        elif reply is not None:
            self._deliver(session, reply, None, age=now - empty_at)
        else:
            self._waited_in_vain(asked_at, now)

    def _waited_in_vain(self, asked_at: float, now: float) -> None:
        if now - asked_at >= BLOCK_S:  # else it was told to stop waiting
            self._empty_at = asked_at + BLOCK_S

    def _taken(self, session: Session, most: int, asked_at: float, items: list[bytes]) -> None:
        age = session.main.loop.time() - self._empty_at
        if len(items) < most:
            self._empty_at = max(self._empty_at, asked_at)
        for data in items:
            self._deliver(session, data, None, age=age, only_here=self._pops)

    async def take_abandoned(self, session: Session, most: int, *, alone: bool) -> list[Abandoned]:
        place = self.place
        keys = (place.consumers, place.tries, place.doing(session.consumer), place.dead)
        args = (session.consumer, most, ALIVE_MS, int(alone), place.doing(""))
        taken = await session.main.ask_script(REAP_LIST, keys, *args)
        return [Abandoned(data, None, tries, math.inf, buried == 1) for data, tries, buried in taken]

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

    def note_tries(self, delivery: RedisDelivery, tries: int, on_reply: OnReply) -> None:
        keys = (self.place.doing(delivery.session.consumer), self.place.tries)
        args = (delivery.data, _name(delivery.data), tries)
        delivery.session.main.run(TRIES_LIST, keys, args, on_reply)

    def reject(self, delivery: RedisDelivery) -> None:
        place = self.place
        keys = (place.doing(delivery.session.consumer), place.tries, place.dead)
        args = (delivery.data, _name(delivery.data))
        delivery.session.main.run(REJECT_LIST, keys, args, delivery.log_refusal)

    def _hand_back(self) -> None:
        returning, self._returning = self._returning, []
        self.give_back(returning[0], tuple(each.data for each in returning))

    def give_back(self, first: RedisDelivery, requests: tuple[bytes, ...]) -> None:
        """As if they had never been delivered, the first one first again."""
        keys = (self.place.key, self.place.doing(first.session.consumer), self.place.tries)
        first.session.main.run(RETURN_LIST, keys, requests, first.log_refusal)


class PoppingReceiver(ListReceiver):
    """Takes requests for good: of a service of which nothing may run twice, so that nobody may take them over.

    What is popped needs no claim, and is lost with this process if it has not begun; so about as much is popped at
    once as can begin. What dead servers left that kept theirs is delivered as everywhere.

    As above, nobody waits in Redis unless the list was seen empty of late.
    """

    _pops = True

    async def pull(self, session: Session, link: Link, most: int) -> None:
        most, asked_at = min(most, MAX_TAKEN), link.loop.time()
        waits = asked_at - self._empty_at < QUICK_S
        take, too_late = partial(self._popped, session, most, asked_at), partial(self._popped_too_late, session)
        on_reply, taken = link.handing(take, too_late)
        pop = ("BLMPOP", int(BLOCK_S)) if waits else ("LMPOP",)
        link.send(pack(*pop, 1, self.place.key, "LEFT", "COUNT", most), on_reply)
        await taken

    def _popped(self, session: Session, most: int, asked_at: float, reply: tuple[bytes, list[bytes]] | None) -> None:
        self._taken(session, most, asked_at, reply[1] if reply else [])
        if reply is None:
            self._waited_in_vain(asked_at, session.main.loop.time())

    def _popped_too_late(self, session: Session, reply: tuple[bytes, list[bytes]] | None) -> None:
        if reply:
            self._push_back(session, tuple(reply[1]))

    def reject(self, delivery: RedisDelivery) -> None:
        if delivery.only_here:
            self.now(delivery.session).main.run(
                REJECT_POPPED, (self.place.dead,), (delivery.data,), delivery.log_refusal
            )
        else:
            super().reject(delivery)

    def give_back(self, first: RedisDelivery, requests: tuple[bytes, ...]) -> None:
        self._push_back(first.session, requests)

    def _push_back(self, session: Session, requests: tuple[bytes, ...]) -> None:
        on_reply = partial(_warn_lost, self.address, len(requests))
        self.now(session).main.run(RETURN_POPPED, (self.place.key,), requests, on_reply)


def _warn_lost(address: str, count: int, reply: Any) -> None:
    if is_error(reply):
        log.warning("%d requests at %r could not be handed back, and are lost: %s", count, address, reply)


def _name(data: bytes) -> str:
    """Under which a request's tries are noted; the scripts compute the same."""
    return hashlib.sha1(data).hexdigest()
