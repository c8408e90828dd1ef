"""Requests that wait in Redis until they are asked for: reading with room, settling in steps, and what the dead left.

Invariant: one task reads, on a link of its own, and only while there is room; of those that were begun again before,
one is here at a time, so that it is known over which of them a server died.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import hiredis

from rpckit.backoff import Backoff
from rpckit.errors import Code, ConnectionLost, RpcError, UsageError
from rpckit.fault import TOOLKIT, Fault
from rpckit.message import REQUEST
from rpckit.tickwriter import Batch
from rpckit.transport import OnBegun

from ._connection import Session
from ._delivery import RedisDelivery, Taken
from ._envelope import EnvelopeError, read
from ._errors import explain, is_error, kind_of
from ._link import Link, OnReply, pack
from ._receiver import Receiver
from ._scripts import MAX_HELD, MAX_TRIES

__all__ = ["ALIVE_MS", "Abandoned", "PullingReceiver", "Settling"]

log = logging.getLogger(__name__)

ALIVE_MS = 5_000  # a consumer that has not beaten for so long is dead: frozen, or cut off
REAP_AT_ONCE = 32  # abandoned requests taken in one step
STOP_S = 1.0  # seconds for a blocked read to end when it is told to

Own = Callable[[Awaitable[None]], asyncio.Task[None]]
Settling = list[tuple[RedisDelivery, OnBegun | None]]  # those to be begun, and others with None


class Abandoned(NamedTuple):
    """What a dead consumer left."""

    data: bytes  # its envelope
    entry: Any
    tries: int  # once it is begun
    age: float  # seconds since it was sent, at most
    buried: bool  # it is with the dead letters now
    taken: Taken | None = None


class PullingReceiver(Receiver):
    """A receiver that asks for its requests, on a link of its own. What kinds differ in is abstract."""

    def __init__(self, *args: Any, own: Own, reap_soon: Callable[[], None]) -> None:
        super().__init__(*args)
        self._own = own
        self._reap_soon = reap_soon
        self._has_room = asyncio.Event()
        self._link: Link | None = None
        self._reading: asyncio.Task[None] | None = None
        self._alone: RedisDelivery | None = None  # one that was begun again before: no other such runs beside it
        self._settling = Batch(self.lay_out_settling)
        self._settling_again = Batch(self.lay_out_settling)  # those that were delivered before

    # -- what kinds differ in -------------------------------------------------------------------

    key_type = b""

    async def prepare_place(self, session: Session) -> None:
        """What must be there before the first read."""

    async def pull(self, session: Session, link: Link, most: int) -> None:
        """Deliver up to `most` requests; wait for the first one for up to `BLOCK_S`. Raises as `Link.ask`."""
        raise NotImplementedError

    async def take_abandoned(self, session: Session, most: int, *, alone: bool) -> list[Abandoned]:
        """What dead consumers left; if `alone`, only what was not begun again before."""
        raise NotImplementedError

    def note_tries(self, delivery: RedisDelivery, tries: int, on_reply: OnReply) -> None:
        """Write down how often it has run, at most. Answered with 1, or with 0 if another server has it now."""
        raise NotImplementedError

    def lay_out_settling(self, link: Link, steps: Settling) -> None:
        """Settle these in one step that answers to `_settled`, with 1 for each that nobody had taken.

        They are of one session; all of them were delivered before, or none.
        """
        raise NotImplementedError

    # -- taking and settling: those of one tick together, as a script costs Redis more than what it does ------

    def claim(self, delivery: RedisDelivery, told: OnBegun) -> None:
        batch = self._settling_again if delivery.redelivered else self._settling
        delivery.session.main.gather(batch, (delivery, told))

    def begin_again(self, delivery: RedisDelivery, told: OnBegun) -> None:
        """Only here does a delivery become a try: a server that dies while it waits for a slot has not died over it.

        The first one always counts, so that its beginning costs nothing.
        """
        self.note_tries(delivery, delivery.tries, partial(self._noted, delivery, told))

    def abandon(self, delivery: RedisDelivery) -> None:
        self.note_tries(delivery, delivery.tries - 1, delivery.log_refusal)

    def settle(self, delivery: RedisDelivery) -> None:
        batch = self._settling_again if delivery.redelivered else self._settling
        delivery.session.main.gather(batch, (delivery, None))

    def _noted(self, delivery: RedisDelivery, told: OnBegun, reply: Any) -> None:
        """Where Redis notes nothing now, it runs all the same: it may run twice, and nobody else has it."""
        if not is_error(reply):
            delivery.allowed(told, reply == 1)
        elif isinstance(error := explain(reply, f"beginning a request again at {self.address!r}"), ConnectionLost):
            delivery.allowed(told, error)
        else:
            log.warning("a try is not counted: %s", error)
            delivery.allowed(told, True)

    def _settled(self, steps: Settling, reply: Any) -> None:
        if is_error(reply):
            for delivery, told in steps:
                if told is None:
                    delivery.log_refusal(reply)
                else:
                    delivery.unclaimed(told, explain(reply, f"claiming a request at {self.address!r}"))
            return
        for (delivery, told), mine in zip(steps, reply, strict=True):
            if told is not None:
                delivery.claimed(told, mine == 1)

    # -- life -----------------------------------------------------------------------------------

    async def attach(self, session: Session) -> None:
        """Check the key, and read. Raises `UsageError` when that cannot work."""
        if self._stopped:
            return
        try:
            found = await session.main.ask("TYPE", self.place.key)
            if found not in (b"none", self.key_type):
                raise UsageError(
                    f"the key {self.place.key!r} of {self.address!r} is a {found.decode()}, not a "
                    f"{self.key_type.decode()}: use another address, or the URL scheme of its kind"
                )
            await self.prepare_place(session)
            self._enter(session)
            self._alone = None
            await self.look_around(session)
            await self._channels.listen(self.place.alive, _ignore)
            if self._stopped:  # meanwhile
                await self._channels.leave(self.place.alive, _ignore)
                return
            self._link = await session.open_link()
        except hiredis.ReplyError as error:
            raise explain(error, f"serving {self.address!r}") from error
        self._room_changed()
        self._reading = self._own(self._read(session, self._link))

    async def stop(self) -> None:
        """First nobody sends any more, then what was on its way is handed over."""
        self._stopped = True
        self._has_room.set()
        session, link = self._session, self._link
        try:
            await self._channels.leave(self.place.alive, _ignore)
            if session is not None and link is not None and session.alive:
                session.main.send(_unblock(link.id), _ignore)
        except (RpcError, hiredis.ReplyError) as error:
            log.debug("stopping to serve %r: %s", self.address, error)
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=STOP_S)
            self._reading.cancel()

    def pause(self) -> None:
        super().pause()
        if self._session is not None and self._link is not None and self._session.alive:
            self._session.main.send(_unblock(self._link.id), _ignore)

    def abandon_all(self) -> None:
        """The last before the connection is closed: nobody has died over what is open still."""
        for delivery in self._again:
            if delivery.session.alive and not delivery.begun:
                self.abandon(delivery)
        self._again.clear()

    async def look_around(self, session: Session) -> None:
        """Deliver what dead consumers left here; and show that this one is alive."""
        if session is not self._session or not session.alive:
            return
        most = 0 if self._stopped else min(self.room(), REAP_AT_ONCE)
        try:
            abandoned = await self.take_abandoned(session, most, alone=self._alone is not None)
        except hiredis.ReplyError as error:
            log.debug("looking for abandoned requests at %r: %s", self.address, error)
            return
        for each in abandoned:
            if each.buried:
                self._tell_buried(session, each)
                continue
            tries = 1 if each.taken is Taken.HERE else each.tries
            delivery = self._deliver(session, each.data, each.entry, tries, each.age, taken=each.taken)
            if delivery.tries > 2 and delivery.open:
                self._alone = delivery

    def _tell_buried(self, session: Session, abandoned: Abandoned) -> None:
        """The caller is told last: reading the request may be what kills its servers."""
        if abandoned.tries > MAX_TRIES:
            text = f"{self.address} died {MAX_TRIES} times over this request; it is with the dead letters"
        else:
            text = f"{self.address} died {MAX_HELD - 1} times with this request in hand; it is with the dead letters"
        try:
            message = read(abandoned.data, self.address, REQUEST)
        except EnvelopeError as error:
            log.error("%s; it cannot be read: %s", text, error)
            return
        log.error("%s: %s", text, message)
        fault = Fault(Code.ABORTED, text, origin=TOOLKIT)
        self._refuse(session, message, fault)

    def _closed_again(self, delivery: RedisDelivery) -> None:
        super()._closed_again(delivery)
        if delivery is self._alone:
            self._alone = None
            self._reap_soon()

    def _room_changed(self) -> None:
        self._held_up = not self.room() and not self._stopped
        if self._held_up:
            self._has_room.clear()
        else:
            self._has_room.set()

    async def _read(self, session: Session, link: Link) -> None:
        backoff, failures = Backoff(), 0
        while self._reads(session):
            self._room_changed()
            await self._has_room.wait()
            try:
                if room := self.room() if self._reads(session) else 0:
                    await self.pull(session, link, room)
                failures = 0
            except ConnectionLost:
                return
            except hiredis.ReplyError as error:
                if failures > 0 or kind_of(error) not in ("NOGROUP", "UNBLOCKED"):
                    log.warning("reading %r: %s", self.address, error)
                    await asyncio.sleep(backoff.delay(failures, 0.0, random.random))
                failures += 1
                await self._mend(session)

    def _reads(self, session: Session) -> bool:
        return session.alive and not self._stopped

    async def _mend(self, session: Session) -> None:
        """The key was deleted, flushed or replaced under us."""
        try:
            await self.prepare_place(session)
        except (RpcError, hiredis.ReplyError) as error:
            log.debug("preparing %r again: %s", self.address, error)


def _unblock(link_id: int) -> bytes:
    """The command that ends the blocked read on a link, which reads nothing else meanwhile."""
    return pack("CLIENT", "UNBLOCK", link_id)


def _ignore(*_: object) -> None:
    """For answers nobody waits for."""
