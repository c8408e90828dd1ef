"""The way of requests to one address: those of one tick leave as one command, and who serves there is remembered.

Invariant: requests reach the place in the order they were pushed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from rpckit.errors import RpcError
from rpckit.tickwriter import Batch

from ._errors import is_error
from ._keys import Place, PlaceKind
from ._link import Link, OnReply, pack, pack_head
from ._scripts import PUSH_LIST, PUSH_STREAM

__all__ = ["Route", "Taken", "Waiting"]

FRESH_S = 0.25  # seconds for which an address seen served counts as served
MAX_GATHERED = 4 * 1024  # bytes of a request that may wait for others: so a full batch stays a small command

Taken = asyncio.Future[RpcError | None]  # of who waits until Redis has its request: None once it has
Waiting = str | Taken  # a call's correlation id, told of a refusal only
OnRefused = Callable[[Iterable[Waiting], Any], None]  # and the reply: an error, or 0 where nobody serves


class Route:
    """`head`: what a command with one request begins with."""

    __slots__ = ("_asks", "_batch", "_on_refused", "_served_until", "head", "is_channel", "place")

    def __init__(self, place: Place, on_refused: OnRefused) -> None:
        self.place = place
        self.is_channel = place.kind is PlaceKind.CHANNEL
        self.head = pack_head(*_WORDS[place.kind][0], place.key, *_WORDS[place.kind][1])
        self._on_refused = on_refused
        self._batch: Batch[Link, tuple[bytes, Waiting]] = Batch(self._lay_out)
        self._asks = False  # of what is in the batch
        self._served_until = 0.0

    def push(self, link: Link, data: bytes, waiting: Waiting, *, asks: bool) -> None:
        """To a list or stream. `asks`: only if somebody serves there."""
        if asks is not self._asks:
            self._batch.leave(link)
            self._asks = asks
        link.gather(self._batch, (data, waiting))
        if len(data) > MAX_GATHERED:
            self._batch.leave(link)

    def _lay_out(self, link: Link, requests: list[tuple[bytes, Waiting]]) -> None:
        place, on_reply = self.place, partial(self._pushed, requests)
        if self._asks and self._served_until <= link.loop.time():
            self._run(link, place.alive, requests, partial(self._asked, link, requests))
        elif len(requests) == 1:
            data = requests[0][0]
            link.send(b"%b%d\r\n%b\r\n" % (self.head, len(data), data), on_reply)
        elif place.kind is PlaceKind.LIST:
            link.send(pack("RPUSH", place.key, *[data for data, _ in requests]), on_reply)
        else:
            self._run(link, "", requests, on_reply)

    def _run(self, link: Link, alive: str, requests: list[tuple[bytes, Waiting]], on_reply: OnReply) -> None:
        script = PUSH_STREAM if self.place.kind is PlaceKind.STREAM else PUSH_LIST
        link.run(script, (self.place.key,), (alive, *[data for data, _ in requests]), on_reply)

    def _asked(self, link: Link, requests: list[tuple[bytes, Waiting]], reply: Any) -> None:
        self._served_until = link.loop.time() + FRESH_S if reply == 1 else 0.0
        self._pushed(requests, reply)

    def _pushed(self, requests: list[tuple[bytes, Waiting]], reply: Any) -> None:
        if is_error(reply) or reply == 0:
            self._on_refused([waiting for _, waiting in requests], reply)
            return
        for _, waiting in requests:
            if isinstance(waiting, asyncio.Future) and not waiting.done():
                waiting.set_result(None)


_WORDS: dict[PlaceKind, tuple[tuple[str, ...], tuple[str, ...]]] = {  # of a command, before the key and after it
    PlaceKind.STREAM: (("XADD",), ("*", "__data__")),
    PlaceKind.LIST: (("RPUSH",), ()),
    PlaceKind.CHANNEL: (("PUBLISH",), ()),
}
