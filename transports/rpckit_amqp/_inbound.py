"""What comes in on a session's data channel: to the handler of its consumer; and the acks that go back."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from rpckit.errors import UsageError
from rpckit.message import Kind, Message

from ._acks import AckBook
from ._connection import Session
from ._driver import FastChannel
from ._frames import ack_frame, parse_properties, reject_frame
from ._mapping import from_properties
from ._shapes import Shapes

__all__ = ["Handler", "Inbound"]

ACK_WITHIN_S = 0.005  # an ack may wait so long for others: nobody waits for it until the prefetch is nearly used up

log = logging.getLogger(__name__)

# a delivery's tag, whether it is redelivered, exchange and routing key, the message and its property list
Handler = Callable[["Inbound", int, bool, bytes, Message, bytes], None]


class _Consumer(NamedTuple):
    handler: Handler
    address: str  # of its messages
    kind: Kind  # of the plain ones
    acked: bool


class Inbound:
    """What comes in on one session's data channel, and the acks that go back."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._consumers: dict[bytes, _Consumer] = {}
        self._shapes = Shapes()
        self.undecodable = 0
        self.book = AckBook()
        self._ack_at_once_from = sys.maxsize  # deliveries not acked: then the broker may be waiting for room
        self._ack_due = False  # at the end of this tick
        self._ack_later: asyncio.TimerHandle | None = None
        self._channel_id = session.data.channel_id
        session.data.take = self._take
        session.data.on_deliver = self._on_deliver

    def _take(self, buffer: bytes, position: int, header: int, end: int) -> int:
        """See `FastChannel.take`."""
        shaped = self._shapes.read(buffer, position, header, end)
        if shaped is None:
            return 0
        consumer_tag, tag, redelivered, route, message, property_list, stop = shaped
        consumer = self._consumers.get(consumer_tag)
        if consumer is None:
            return 0
        handler, message.address, _, acked = consumer
        if acked:
            self.book.add(tag)
        handler(self, tag, redelivered, route, message, property_list)
        return stop

    def _on_deliver(
        self, consumer_tag: bytes, tag: int, redelivered: bool, route: bytes, property_list: bytes, body: bytes
    ) -> None:
        consumer = self._consumers.get(consumer_tag)
        if consumer is None:
            return  # cancelled meanwhile: unsettled, it goes back with the channel
        handler, address, kind, acked = consumer
        try:
            message = from_properties(parse_properties(property_list), body, address, kind)
        except Exception as error:  # any property of a stranger's may be undecodable, in any way
            log.warning("a message whose header cannot be decoded was refused: %s", error)
            self._refuse_undecodable(tag, acked)
            return
        if acked:
            self.book.add(tag)
        handler(self, tag, redelivered, route, message, property_list)

    def _refuse_undecodable(self, tag: int, acked: bool) -> None:
        """Never requeued: the next one could not read it either."""
        self.undecodable += 1
        if acked:
            self.write(reject_frame(self._channel_id, tag, requeue=False))

    async def consume(
        self, tag: str, queue: str, handler: Handler, *, address: str, kind: Kind, acked: bool, prefetch: int = 0
    ) -> None:
        """Deliveries of `queue` to `handler`, from now on. The handler is known before the first one can come.

        Their messages have that `address`; plain ones are of that `kind`.
        """
        self._consumers[tag.encode()] = _Consumer(handler, address, kind, acked)
        if acked:
            self._ack_at_once_from = min(self._ack_at_once_from, prefetch * 3 // 4)

        async def start(channel: FastChannel) -> None:
            if prefetch:
                await channel.basic_qos(prefetch_count=prefetch)
            await channel.basic_consume(_not_called, queue_name=queue, consumer_tag=tag, no_ack=not acked)

        await self.session.on_data(f"consuming from {queue!r}", start)

    def settle(self, tag: int) -> None:
        """Acked within `ACK_WITHIN_S`, together with others: each ack written wakes the broker once more."""
        if not self.book.settle(tag) or self._ack_due:
            return
        loop = self.session.protocol.loop
        if len(self.book.outstanding) >= self._ack_at_once_from:
            self._ack_due = True
            loop.call_soon(self.ack)
        elif self._ack_later is None:
            self._ack_later = loop.call_later(ACK_WITHIN_S, self.ack)

    def reject(self, tag: int) -> None:
        if self.book.drop(tag):
            self.write(reject_frame(self._channel_id, tag, requeue=False))

    def requeue(self, tag: int) -> None:
        if self.book.drop(tag):
            self.write(reject_frame(self._channel_id, tag, requeue=True))

    def write(self, frame: bytes) -> None:
        if self.session.alive:
            self.session.protocol.write(frame)

    def ack(self) -> None:
        """Ack now what is settled."""
        self._ack_due = False
        if self._ack_later is not None:
            self._ack_later.cancel()
            self._ack_later = None
        upto, singles = self.book.take()
        frames = [] if upto is None else [ack_frame(self._channel_id, upto, multiple=True)]
        frames += [ack_frame(self._channel_id, tag, multiple=False) for tag in singles]
        if frames:
            self.write(b"".join(frames))


async def _not_called(*_: Any) -> None:
    """The driver wants a callback; deliveries never get that far."""
    raise UsageError("a delivery reached the driver's slow path")
