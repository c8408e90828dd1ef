"""Requests in a stream, read by one consumer group of all servers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ._connection import BLOCK_S, Session
from ._delivery import RedisDelivery
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
    TRIES_STREAM,
)

__all__ = ["StreamReceiver"]

FIELD = b"__data__"


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
        on_reply, taken = link.handing(partial(self._take, session))
        words = ("XREADGROUP", "GROUP", GROUP, session.consumer, "COUNT", most)
        link.send(pack(*words, "BLOCK", int(BLOCK_S * 1000), "STREAMS", self.place.key, ">"), on_reply)
        await taken

    def _take(self, session: Session, answer: Mapping[bytes, Any] | None) -> None:
        now = self._redis_now(session)
        for entries in (answer or {}).values():
            for entry, fields in entries:
                data = fields[1] if fields[0] == FIELD else _envelope(fields)
                self._deliver(session, data, entry, 1, now - _given_at(entry))

    async def take_abandoned(self, session: Session, most: int, *, alone: bool) -> list[Abandoned]:
        args = (GROUP, session.consumer, most, ALIVE_MS, int(alone))
        taken = await session.main.ask_script(REAP_STREAM, (self.place.key, self.place.dead), *args)
        now = self._redis_now(session)
        return [
            Abandoned(_envelope(fields), entry, tries, now - _given_at(entry), buried == 1)
            for entry, fields, tries, buried in taken
        ]

    def lay_out_settling(self, link: Link, steps: Settling) -> None:
        script = SETTLE_OWN_STREAM if self.place.own else SETTLE_STREAM
        args = (GROUP, *[delivery.entry for delivery, _ in steps])
        link.run(script, (self.place.key,), args, partial(self._settled, steps))

    def hand_back(self, delivery: RedisDelivery) -> None:
        args = (GROUP, delivery.entry, delivery.data)
        delivery.session.main.run(RETURN_STREAM, (self.place.key,), args, delivery.log_refusal)

    def note_tries(self, delivery: RedisDelivery, tries: int, on_reply: OnReply) -> None:
        args = (GROUP, delivery.session.consumer, delivery.entry, tries)
        delivery.session.main.run(TRIES_STREAM, (self.place.key,), args, on_reply)

    def reject(self, delivery: RedisDelivery) -> None:
        args = (GROUP, delivery.entry, delivery.data)
        delivery.session.main.run(REJECT_STREAM, (self.place.key, self.place.dead), args, delivery.log_refusal)

    def _redis_now(self, session: Session) -> float:
        """Seconds by Redis's clock alone, as entries are numbered: what they differ by is an entry's age."""
        return session.main.loop.time() + self._clock_ahead


def _given_at(entry: bytes) -> float:
    """In seconds, by Redis's clock."""
    return int(entry.partition(b"-")[0]) / 1000


def _envelope(fields: Sequence[bytes]) -> bytes:
    """The envelope in an entry; an entry of somebody else's is its fields, as a JSON object."""
    pairs = dict(zip(fields[::2], fields[1::2], strict=True))
    if FIELD in pairs:
        return pairs[FIELD]
    return json.dumps({_text(name): _text(value) for name, value in pairs.items()}).encode()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
