"""The receiving role, whatever requests wait in: what is delivered, how many at once, and how old it is.

Invariant: what is delivered and not yet settled counts toward the prefetch, each once, until `closed` or the loss of
its session; only what is `only_here` outlives that.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from rpckit.deadline import MAX_SKEW_S
from rpckit.fault import Fault, fault_message
from rpckit.message import REQUEST, Message
from rpckit.transport import OnBegun, OnDelivery

from ._channels import Channels
from ._connection import Session
from ._delivery import RedisDelivery, Taken
from ._envelope import EnvelopeError, read
from ._keys import Place
from ._replier import Replier

__all__ = ["Receiver"]

log = logging.getLogger(__name__)


class Receiver:
    """Deliveries from one place, at most `prefetch` of them unsettled."""

    rejected = "with the dead letters"  # what becomes of a request that is rejected

    def __init__(
        self, place: Place, address: str, on_delivery: OnDelivery, prefetch: int, replier: Replier, channels: Channels
    ) -> None:
        self.place = place
        self.address = address
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self.replier = replier
        self._channels = channels
        self._session: Session | None = None
        self._unsettled = 0  # of the current session, and those that are only here
        self._only_here = 0  # of them, which outlive a lost session
        self._again: set[RedisDelivery] = set()  # delivered before, and open
        self._paused = False
        self._stopped = False
        self._held_up = False  # something waits for room

    async def look_around(self, session: Session) -> None:
        """Find out about others who serve here, and take what dead ones left; once a second. Raises as `Link.ask`."""
        raise NotImplementedError

    def room(self) -> int:
        return 0 if self._paused else max(0, self._prefetch - self._unsettled)

    def set_prefetch(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self._room_changed()

    def pause(self) -> None:
        self._paused = True
        self._room_changed()

    def resume(self) -> None:
        self._paused = False
        self._room_changed()

    def claim(self, delivery: RedisDelivery, told: OnBegun) -> None:
        raise NotImplementedError

    def begin_again(self, delivery: RedisDelivery, told: OnBegun) -> None:
        raise NotImplementedError

    def settle(self, delivery: RedisDelivery) -> None:
        raise NotImplementedError

    def hand_back(self, delivery: RedisDelivery) -> None:
        raise NotImplementedError

    def abandon(self, delivery: RedisDelivery) -> None:
        raise NotImplementedError

    def reject(self, delivery: RedisDelivery) -> None:
        raise NotImplementedError

    def closed(self, delivery: RedisDelivery) -> None:
        if delivery.redelivered:
            self._closed_again(delivery)
        if delivery.only_here:
            self._only_here -= 1
        if delivery.only_here or delivery.session is self._session:
            self._unsettled -= 1
            if self._held_up:
                self._room_changed()

    def now(self, session: Session) -> Session:
        """The session there is, if that one is lost."""
        return session if session.alive or self._session is None else self._session

    def _enter(self, session: Session) -> None:
        """A new session: what the old one delivered comes again, but for what is only here."""
        self._session, self._unsettled = session, self._only_here

    def _took(self, delivery: RedisDelivery) -> None:
        """It was taken as begun."""

    def _closed_again(self, delivery: RedisDelivery) -> None:
        self._again.discard(delivery)

    def _room_changed(self) -> None:
        raise NotImplementedError

    def _deliver(
        self,
        session: Session,
        data: bytes,
        entry: Any,
        tries: int = 1,
        age: float = 0.0,
        waited: float = 0.0,
        only_here: bool = False,
        taken: Taken | None = None,
    ) -> RedisDelivery:
        """In seconds, `waited`: since it came here, and `age`: since it was sent, at most.

        The age decides where the clocks of client and server cannot.
        """
        try:
            message, readable = read(data, self.address, REQUEST), True
        except EnvelopeError as error:
            log.warning("a request at %r cannot be read, and is %s: %s", self.address, self.rejected, error)
            message, readable = Message(REQUEST, self.address), False
        delivery = RedisDelivery(self, session, message, data, entry, tries, only_here=only_here, taken=taken)
        self._unsettled += 1
        self._only_here += only_here
        if taken is Taken.HERE:
            self._took(delivery)
        if not readable:
            delivery.reject()
            return delivery
        left = message.time_left_ms
        if left is not None and (waited or age * 1000 > left):
            _age(message, age, waited)
        if tries > 1:
            self._again.add(delivery)
        self._on_delivery(delivery)
        return delivery

    def _refuse(self, session: Session, message: Message, fault: Fault) -> None:
        """Tell its caller, if there is one."""
        self.replier.reply(fault_message(message, fault), session.main.last_read, message.time_left_ms)


def _age(message: Message, age: float, waited: float) -> None:
    """Its time goes on while it waits. A deadline long past is a wrong clock's, unless it waited for as long."""
    assert message.time_left_ms is not None
    expired = age * 1000 > message.time_left_ms
    message.time_left_ms = max(0, message.time_left_ms - int(waited * 1000))
    if expired and message.deadline_ms is not None and time.time() - message.deadline_ms / 1000 > MAX_SKEW_S:
        message.time_left_ms, message.deadline_ms = 0, None
