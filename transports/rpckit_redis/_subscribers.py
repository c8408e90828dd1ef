"""Requests on a Pub/Sub channel: every server hears them, the one that claims a request runs it.

Where there is one server only, nothing needs a claim. Invariant: what a server takes to be heard by it alone, no
other hears. Whoever comes tells it on `Place.alive` before it subscribes, and Redis sends each connection what is
published in one order: so the news is there before the first request that both hear.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from functools import partial
from typing import Any, NamedTuple

import hiredis

from rpckit.errors import Code, RpcError
from rpckit.fault import TOOLKIT, Fault
from rpckit.message import REQUEST
from rpckit.transport import OnBegun

from ._connection import Session
from ._delivery import RedisDelivery
from ._envelope import EnvelopeError, read
from ._errors import explain, is_error
from ._keys import claim_key
from ._link import pack
from ._receiver import Receiver
from ._scripts import CLAIM, COUNT_HEARERS

__all__ = ["ChannelReceiver"]

log = logging.getLogger(__name__)

CLAIM_LEFT_S = 5.0  # seconds a claim outlives its request's time
NO_LIMIT_S = 3_600.0  # seconds a claim on a request without a deadline holds
STALE_S = 3.0  # seconds a request can have been on its way: older ones may outlive their claims, and run twice
MAX_BACKLOG = 16_384  # requests heard beyond the prefetch; then the newest is lost, as Pub/Sub may
MAX_BACKLOG_BYTES = 64 * 1024 * 1024


class _Heard(NamedTuple):
    """A request as it came, on the loop's clock."""

    data: bytes
    came_at: float
    age: float  # seconds since it was sent, at most
    only_here: bool


class ChannelReceiver(Receiver):
    """What is heard beyond the prefetch waits here: Redis keeps nothing."""

    rejected = "dropped"

    def __init__(self, *args: Any, broadcast: bool) -> None:
        super().__init__(*args)
        self._broadcast = broadcast
        self._only_one = False  # who hears what comes now, so that it needs no claim
        self._backlog: deque[_Heard] = deque()
        self._backlog_bytes = self._dropped = self._stale = 0
        self._dealing = False

    async def attach(self, session: Session) -> None:
        if self._stopped:
            return
        try:
            if self._session is None:
                await self.announce(session)
                await self._channels.listen(self.place.alive, self._on_joined)
                await self._channels.listen(self.place.key, self._on_data)
            await self.look_around(session)
        except hiredis.ReplyError as error:
            raise explain(error, f"serving {self.address!r}") from error
        self._room_changed()

    async def announce(self, session: Session) -> None:
        """In each session before the requests are subscribed."""
        self._enter(session)
        self._only_one = False
        if not self._broadcast:
            await session.main.subscribe(self.place.alive)
            await session.main.ask("PUBLISH", self.place.alive, session.consumer)

    async def look_around(self, session: Session) -> None:
        """Find out whether nobody else hears the requests. Who comes after this answer tells it."""
        if not self._broadcast:
            seen: asyncio.Future[None] = session.main.loop.create_future()
            session.main.run(COUNT_HEARERS, (), (self.place.alive, self.place.key), partial(self._seen, seen))
            await seen

    def _seen(self, seen: asyncio.Future[None], counts: Any) -> None:
        """As soon as it is read: what was told after it must not be undone. Where there is no answer, we claim."""
        self._only_one = counts == [1, 1]
        if not seen.done():
            seen.set_result(None)

    def _on_joined(self, _: bytes) -> None:
        self._only_one = False

    async def stop(self) -> None:
        """What was heard is handed over: it cannot be given back."""
        self._stopped = True
        try:
            await self._channels.leave(self.place.key, self._on_data)
            await self._channels.leave(self.place.alive, self._on_joined)
        except (RpcError, hiredis.ReplyError) as error:
            log.debug("stopping to serve %r: %s", self.address, error)
        while self._backlog and self._session is not None:
            self._deliver_next(self._session)

    def claim(self, delivery: RedisDelivery, told: OnBegun) -> None:
        message, main = delivery.message, delivery.session.main
        if self._broadcast or not message.message_id:
            delivery.claimed(told, True)
            return
        left = NO_LIMIT_S if message.time_left_ms is None else message.time_left_ms / 1000
        key = claim_key(message.message_id, message.attempt)
        milliseconds = int((left + CLAIM_LEFT_S) * 1000)
        on_reply = partial(self._claimed, delivery, told, key, milliseconds)
        main.send(pack("SET", key, "1", "NX", "PX", milliseconds), on_reply)

    def _claimed(self, delivery: RedisDelivery, told: OnBegun, key: str, milliseconds: int, reply: Any) -> None:
        """Refused for want of memory, it is claimed all the same: nobody is to run what its caller is told did not."""
        if is_error(reply):
            on_reply = partial(self._refused, delivery, told, reply)
            delivery.session.main.run(CLAIM, (key,), (milliseconds,), on_reply)
        else:
            delivery.claimed(told, reply is not None)

    def _refused(self, delivery: RedisDelivery, told: OnBegun, error: Exception, mine: Any) -> None:
        what = f"claiming a request at {self.address!r}"
        if not is_error(mine):
            delivery.claimed(told, explain(error, what) if mine == 1 else False)
        else:
            delivery.unclaimed(told, explain(mine, what))

    def settle(self, delivery: RedisDelivery) -> None:
        """Nobody keeps it."""

    def hand_back(self, delivery: RedisDelivery) -> None:
        """The other servers have heard it as well, and nobody has claimed it; where none has, its caller is told."""
        if delivery.only_here:
            text = f"the server of {self.address!r} is stopping"
            self._refuse(delivery.session, delivery.message, Fault(Code.UNAVAILABLE, text, origin=TOOLKIT))

    def abandon(self, delivery: RedisDelivery) -> None:
        """The other servers have heard it as well."""

    def reject(self, delivery: RedisDelivery) -> None:
        """Nobody keeps it."""

    def _on_data(self, data: bytes) -> None:
        session = self._session
        if session is None:
            return
        came_at, only_here = session.main.last_read, self._only_one
        age = came_at - session.fresh_since
        if age > STALE_S and not (only_here or self._broadcast):
            self._stale += 1
            if self._stale == 1 or self._stale % 10_000 == 0:
                log.warning(
                    "%d requests at %r were dropped: they were on their way for too long, and may have run elsewhere",
                    self._stale,
                    self.address,
                )
        elif self.room() and not self._backlog:
            self._deliver(session, data, None, age=age, only_here=only_here)
        elif len(self._backlog) < MAX_BACKLOG and self._backlog_bytes + len(data) <= MAX_BACKLOG_BYTES:
            self._held_up = True
            self._backlog.append(_Heard(data, came_at, age, only_here))
            self._backlog_bytes += len(data)
        else:
            self._dropped += 1
            if self._dropped == 1 or self._dropped % 10_000 == 0:
                log.warning("%d requests at %r were lost: more came than are run", self._dropped, self.address)
            if only_here:
                self._refuse_unread(session, data)

    def _room_changed(self) -> None:
        if self._dealing:  # one that ended at once; the loop below goes on
            return
        self._dealing = True
        try:
            while self._backlog and self.room() and self._session is not None:
                self._deliver_next(self._session)
        finally:
            self._dealing = False
        self._held_up = bool(self._backlog)

    def _deliver_next(self, session: Session) -> None:
        """From the backlog; the time it spent there is over."""
        heard = self._backlog.popleft()
        self._backlog_bytes -= len(heard.data)
        waited = session.main.loop.time() - heard.came_at
        self._deliver(session, heard.data, None, age=heard.age + waited, waited=waited, only_here=heard.only_here)

    def _refuse_unread(self, session: Session, data: bytes) -> None:
        """Nobody else has heard it: its caller need not wait for nothing."""
        try:
            message = read(data, self.address, REQUEST)
        except EnvelopeError as error:
            log.debug("a request at %r that was lost cannot be read either: %s", self.address, error)
            return
        text = f"{len(self._backlog)} requests wait at {self.address!r} already"
        fault = Fault(Code.RESOURCE_EXHAUSTED, text, details={"retry_after": 1.0}, retryable=True, origin=TOOLKIT)
        self._refuse(session, message, fault)
