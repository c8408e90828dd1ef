"""Requests in a stream, read by one consumer group of all servers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ._connection import BLOCK_S, Session
from ._delivery import RedisDelivery, Taken
from ._errors import is_error
from ._keys import GROUP
from ._link import Link, OnReply, pack
from ._pulling import ALIVE_MS, Abandoned, PullingReceiver, Settling
from ._scripts import (
    CREATE_GROUP,
    REAP_STREAM,
    REJECT_STREAM,
    RETURN_STREAM,
    SETTLE_OWN_STREAM,
    SETTLE_STREAM,
    TAKEN_BEFORE,
    TAKING,
    TRIES_STREAM,
)

__all__ = ["StreamReceiver", "TakingReceiver"]

log = logging.getLogger(__name__)

FIELD = b"__data__"
QUICK_S = 0.1  # seconds; what is read that soon is as old as the oldest beside it
STEADY_S = 0.02  # seconds in which the next request comes where they come steadily

Entries = list[tuple[bytes, list[bytes]]]  # the id and the fields of each
Answer = Mapping[bytes, Entries] | None


class StreamReceiver(PullingReceiver):
    """An entry is pending for this session's consumer until it is acked."""

    key_type = b"stream"
    _clock_ahead = 0.0  # seconds from the loop's clock to that of Redis, by which entries are numbered

    async def prepare_place(self, session: Session) -> None:
        """The group begins at the first entry: what waited for a server is found by it."""
        seconds, microseconds = await session.main.ask("TIME")
        self._clock_ahead = int(seconds) + int(microseconds) / 1e6 - session.main.loop.time()
        await session.main.ask_script(CREATE_GROUP, (self.place.key,), GROUP)

    async def pull(self, session: Session, link: Link, most: int) -> None:
        on_reply, read = link.handing(lambda answer: self._take(session, _entries(answer)))
        link.send(self._reading_as(session.consumer, most, BLOCK_S), on_reply)
        await read

    def _reading_as(self, consumer: str, most: int, seconds: float) -> bytes:
        words = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", most, "BLOCK", int(seconds * 1000))
        return pack(*words, "STREAMS", self.place.key, ">")

    def _take(self, session: Session, entries: Entries, taken: Taken | None = None) -> None:
        now = self._redis_now(session)
        oldest = now - _given_at(entries[0][0]) if entries else 0.0
        for entry, fields in entries:
            data = fields[1] if fields[0] == FIELD else _envelope(fields)
            age = oldest if oldest < QUICK_S else now - _given_at(entry)
            self._deliver(session, data, entry, 1, age, taken=taken)

    async def take_abandoned(self, session: Session, most: int, *, alone: bool) -> list[Abandoned]:
        args = (GROUP, session.consumer, most, ALIVE_MS, int(alone))
        taken = await session.main.ask_script(REAP_STREAM, (self.place.key, self.place.dead), *args)
        now = self._redis_now(session)
        return [
            Abandoned(_envelope(fields), entry, tries, now - _given_at(entry), buried == 1, self._taken(by))
            for entry, fields, tries, buried, by in taken
        ]

    def _taken(self, by: int) -> Taken | None:
        """What `REAP_STREAM` says of who had it."""
        return Taken.ELSEWHERE if by else None

    def lay_out_settling(self, link: Link, steps: Settling) -> None:
        if self.place.own and all(told is None for _, told in steps):
            link.send_together(self._removing([delivery for delivery, _ in steps]))
            return
        script = SETTLE_OWN_STREAM if self.place.own else SETTLE_STREAM
        args = (GROUP, *[delivery.entry for delivery, _ in steps])
        link.run(script, (self.place.key,), args, partial(self._settled, steps))

    def _removing(self, settled: Sequence[RedisDelivery]) -> list[tuple[bytes, OnReply]]:
        """Deleted first: of a process that dies between the two only a number is left pending, until it is reaped."""
        entries, on_reply = [delivery.entry for delivery in settled], settled[0].log_refusal
        return [
            (pack("XDEL", self.place.key, *entries), on_reply),
            (pack("XACK", self.place.key, GROUP, *entries), partial(self._removed, settled)),
        ]

    def _removed(self, settled: Sequence[RedisDelivery], reply: Any) -> None:
        settled[0].log_refusal(reply)

    def hand_back(self, delivery: RedisDelivery) -> None:
        args = (GROUP, delivery.entry, delivery.data)
        self.now(delivery.session).main.run(RETURN_STREAM, (self.place.key,), args, delivery.log_refusal)

    def note_tries(self, delivery: RedisDelivery, tries: int, on_reply: OnReply) -> None:
        consumer = delivery.session.consumer
        args = (GROUP, _taking(consumer) if delivery.taken else consumer, delivery.entry, tries)
        delivery.session.main.run(TRIES_STREAM, (self.place.key,), args, on_reply)

    def reject(self, delivery: RedisDelivery) -> None:
        args = (GROUP, delivery.entry, delivery.data)
        delivery.session.main.run(REJECT_STREAM, (self.place.key, self.place.dead), args, delivery.log_refusal)

    def _redis_now(self, session: Session) -> float:
        """Seconds by Redis's clock alone, as entries are numbered: what they differ by is an entry's age."""
        return session.main.loop.time() + self._clock_ahead


class TakingReceiver(StreamReceiver):
    """Of a service of which nothing may run twice: it takes what can begin at once, while requests come steadily.

    What is read as `C:taken` nobody else begins, so it needs no claim, which is a round trip; it is pending until it
    is settled, so that its caller can be told should this process die. Such a read waits for `STEADY_S` only: what a
    frozen process is given meanwhile waits for it to wake. Where nothing came in that time, the next one is claimed.

    Invariant: `_here` knows whatever was taken here until Redis has settled it, however many sessions that takes; so
    what is pending for an earlier session and is not known has never been here.
    """

    _steady = False  # the last read found something

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._here: dict[bytes, RedisDelivery] = {}  # by entry
        self._over: list[RedisDelivery] = []  # told of with the next read
        self._reads_soon = False

    async def pull(self, session: Session, link: Link, most: int) -> None:
        steady, self._steady = self._steady, False
        self._reads_soon = steady and self.place.own
        if not steady:
            self._tell_settled(session.main)
            await super().pull(session, link, most)
            return
        on_reply, read = link.handing(
            lambda answer: self._take(session, _entries(answer), Taken.HERE), partial(self._take_too_late, session)
        )
        self._tell_settled(link, (self._reading_as(_taking(session.consumer), most, STEADY_S), on_reply))
        await read

    def settle(self, delivery: RedisDelivery) -> None:
        if self._reads_soon and delivery.taken is Taken.HERE:
            self._over.append(delivery)
        else:
            super().settle(delivery)

    def _took(self, delivery: RedisDelivery) -> None:
        self._here[delivery.entry] = delivery

    def _removed(self, settled: Sequence[RedisDelivery], reply: Any) -> None:
        super()._removed(settled, reply)
        if not is_error(reply):
            self._forget(settled)

    def _settled(self, steps: Settling, reply: Any) -> None:
        super()._settled(steps, reply)
        if not is_error(reply):
            self._forget([delivery for delivery, _ in steps])

    def _forget(self, settled: Iterable[RedisDelivery]) -> None:
        for delivery in settled:
            self._here.pop(delivery.entry, None)

    def hand_back(self, delivery: RedisDelivery) -> None:
        self._forget([delivery])
        super().hand_back(delivery)

    def reject(self, delivery: RedisDelivery) -> None:
        self._forget([delivery])
        super().reject(delivery)

    def abandon(self, delivery: RedisDelivery) -> None:
        """What a dead server had taken was no try of anybody's since."""
        if delivery.taken is None:
            super().abandon(delivery)

    async def attach(self, session: Session) -> None:
        """What runs still is kept from the others, also when nothing more is read."""
        if self._stopped:
            self._enter(session)
            await self.look_around(session)
            return
        await super().attach(session)

    async def take_abandoned(self, session: Session, most: int, *, alone: bool) -> list[Abandoned]:
        """What is in hand, or over, goes on in this session; what is over and was not found is settled."""
        found = await super().take_abandoned(session, most, alone=alone)
        unknown = [each for each in found if each.taken is not Taken.HERE or not self._goes_on(session, each.entry)]
        self._forget([each for each in self._here.values() if not each.open and each.session is not session])
        return unknown

    def _goes_on(self, session: Session, entry: bytes) -> bool:
        """False for what has never been here: an earlier session was given it on a link that broke."""
        known = self._here.get(entry)
        if known is None:
            return False
        known.session = session
        if known.open:
            self._unsettled += 1
        else:
            super().settle(known)
        return True

    async def stop(self) -> None:
        await super().stop()
        self._read_no_more()

    def pause(self) -> None:
        super().pause()
        self._read_no_more()

    def abandon_all(self) -> None:
        super().abandon_all()
        self._read_no_more()

    def _read_no_more(self) -> None:
        self._reads_soon = False
        if self._session is not None and self._session.alive:
            self._tell_settled(self._session.main)

    def _tell_settled(self, link: Link, *reading: tuple[bytes, OnReply]) -> None:
        """And then read, in the same write."""
        over, self._over = self._over, []
        if commands := [*(self._removing(over) if over else ()), *reading]:
            link.send_together(commands)

    def _take(self, session: Session, entries: Entries, taken: Taken | None = None) -> None:
        self._steady = bool(entries)
        super()._take(session, entries, taken)

    def _take_too_late(self, session: Session, answer: Answer) -> None:
        for entry, fields in _entries(answer):
            args = (GROUP, entry, _envelope(fields))
            self.now(session).main.run(RETURN_STREAM, (self.place.key,), args, _warn_unreturned)

    def _taken(self, by: int) -> Taken | None:
        return Taken.HERE if by == TAKEN_BEFORE else super()._taken(by)


def _taking(consumer: str) -> str:
    """The consumer as which it takes what it need not claim."""
    return consumer + TAKING


def _entries(answer: Answer) -> Entries:
    """Of the one stream that was read."""
    return next(iter(answer.values())) if answer else []


def _given_at(entry: bytes) -> float:
    """In seconds, by Redis's clock."""
    return int(entry.partition(b"-")[0]) / 1000


def _warn_unreturned(reply: Any) -> None:
    if is_error(reply):
        log.warning("a request could not be handed back: %s", reply)


def _envelope(fields: Sequence[bytes]) -> bytes:
    """The envelope in an entry; an entry of somebody else's is its fields, as a JSON object."""
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    if FIELD in pairs:
        return pairs[FIELD]
    return json.dumps({_text(name): _text(value) for name, value in pairs.items()}).encode()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
