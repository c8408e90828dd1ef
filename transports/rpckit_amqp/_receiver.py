"""The receiving role: consumers of request queues and subscriptions, and their deliveries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from rpckit.errors import RpcError
from rpckit.ids import new_id
from rpckit.message import Kind, Message
from rpckit.transport import OnBegun, OnDelivery, OnMessage, Subscribed

from ._driver import FastChannel
from ._frames import routing_key
from ._inbound import Inbound
from ._queues import Queues
from ._replier import Replier
from ._topology import Route, events_queue, group_queue

__all__ = ["AmqpDelivery", "AmqpReceiver", "AmqpSubscription"]

log = logging.getLogger(__name__)

MAX_CONSUMERS = 64  # of one receiver: each adds a prefetch for handlers that wait for nested calls


class AmqpDelivery:
    """One request. Settling one of a lost connection does nothing: the broker has delivered it again."""

    __slots__ = ("_inbound", "_property_list", "_replier", "_tag", "arrived_at", "message", "redelivered")

    def __init__(
        self,
        replier: Replier,
        inbound: Inbound,
        tag: int,
        redelivered: bool,
        message: Message,
        property_list: bytes,
    ) -> None:
        self._replier = replier
        self._inbound = inbound
        self._tag = tag
        self._property_list = property_list
        self.message = message
        self.redelivered = redelivered
        self.arrived_at = inbound.session.protocol.last_read  # on the loop's clock

    def begin(self, told: OnBegun, *, again: bool = False) -> None:
        """AMQP has no claim: what was redelivered is refused by the server instead."""
        told(True)

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        self._replier.reply(message, self, confirmed=confirmed)

    def settle(self) -> None:
        self._inbound.settle(self._tag)

    def hand_back(self) -> None:
        """As a copy behind the others: requeued, it would come marked as redelivered, and count as a try."""
        self._replier.hand_back(self, self._property_list)

    def reject(self) -> None:
        self._inbound.reject(self._tag)

    def requeue(self) -> None:
        self._inbound.requeue(self._tag)


class _Consuming:
    """A consumer or several, on whichever session is current. `attach` is repeated after each reconnect."""

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._inbound: Inbound | None = None
        self._tags: list[str] = []
        self._stopped = False

    async def _cancel(self, tags: list[str]) -> None:
        inbound = self._inbound
        if inbound is None or not inbound.session.alive:
            return
        for tag in tags:
            await inbound.session.on_data("cancelling a consumer", partial(_basic_cancel, tag))


class AmqpReceiver(_Consuming):
    """Requests at one address."""

    def __init__(
        self,
        queues: Queues,
        replier: Replier,
        own: Callable[[Awaitable[None]], asyncio.Task[None]],
        address: str,
        on_delivery: OnDelivery,
        prefetch: int,
    ) -> None:
        super().__init__(queues)
        self._replier = replier
        self._own = own
        self.address = address
        self._on_delivery = on_delivery
        self._step = prefetch
        self._consumers = 1  # each with a prefetch of one step
        self._names: list[str] = []  # of consumers, used again: what the driver keeps for a name it keeps for ever
        self._paused = False
        self._adjusting: asyncio.Task[None] | None = None
        self._reaching = asyncio.Lock()  # two at once would use the same name

    async def attach(self, inbound: Inbound) -> None:
        """Find or declare the queue, and consume. Raises `UsageError` when that cannot work."""
        if self._stopped:
            return
        await self._queues.ensure_queue(inbound.session, self.address)
        self._inbound, self._tags = inbound, []
        await self._reach_wanted()

    def set_prefetch(self, prefetch: int) -> None:
        self._consumers = min(MAX_CONSUMERS, -(-prefetch // self._step))
        self._start_adjusting()

    def pause(self) -> None:
        self._paused = True
        self._start_adjusting()

    def resume(self) -> None:
        self._paused = False
        self._start_adjusting()

    async def stop(self) -> None:
        self._stopped = True
        if self._adjusting is not None:
            await asyncio.gather(self._adjusting, return_exceptions=True)
        await self._reach_wanted()

    @property
    def _wanted(self) -> int:
        return 0 if self._paused or self._stopped else self._consumers

    def _start_adjusting(self) -> None:
        if len(self._tags) == self._wanted or self._stopped:
            return
        if self._adjusting is None or self._adjusting.done():
            self._adjusting = self._own(self._adjust())

    async def _adjust(self) -> None:
        try:
            await self._reach_wanted()
        except RpcError as error:  # the connection is gone; attaching again brings the number wanted
            log.debug("prefetch not adjusted: %s", error)

    def _name(self, index: int) -> str:
        if index == len(self._names):
            self._names.append(self._queues.next_consumer_tag())
        return self._names[index]

    async def _reach_wanted(self) -> None:
        async with self._reaching:
            inbound = self._inbound
            while inbound is not None and inbound.session.alive and len(self._tags) != self._wanted:
                if len(self._tags) < self._wanted:
                    await self._add_consumer(inbound)
                else:
                    await self._cancel([self._tags.pop()])

    async def _add_consumer(self, inbound: Inbound) -> None:
        tag = self._name(len(self._tags))
        await inbound.consume(
            tag,
            self.address,
            self._deliver,
            address=self.address,
            kind=Kind.REQUEST,
            acked=True,
            prefetch=self._step,
        )
        self._tags.append(tag)

    def _deliver(
        self, inbound: Inbound, tag: int, redelivered: bool, route: bytes, message: Message, property_list: bytes
    ) -> None:
        self._on_delivery(AmqpDelivery(self._replier, inbound, tag, redelivered, message, property_list))


class AmqpSubscription(_Consuming, Subscribed):
    """What is published on one topic, through a queue of its own or its group's. At most once: nothing is acked."""

    def __init__(self, queues: Queues, topic: str, on_message: OnMessage, group: str) -> None:
        _Consuming.__init__(self, queues)
        Subscribed.__init__(self)
        self.topic = topic
        self.group = group
        self._route = Route.of(topic)
        self._on_message = on_message

    async def attach(self, inbound: Inbound) -> None:
        if self._stopped:
            return
        self._inbound = inbound
        queue = group_queue(self.topic, self.group) if self.group else events_queue(new_id())
        route = self._route
        await self._queues.ensure_exchange(inbound.session, route.exchange)
        await self._queues.declare(inbound.session, queue)

        async def bind(channel: FastChannel) -> None:
            await channel.queue_bind(queue.name, route.exchange.name, route.key)

        await inbound.session.control(f"binding to the exchange {route.exchange.name!r}", bind)
        tag = self._queues.next_consumer_tag()
        await inbound.consume(tag, queue.name, self._deliver, address=self.topic, kind=Kind.EVENT, acked=False)
        self._tags = [tag]

    async def stop(self) -> None:
        self._stopped = True
        tags, self._tags = self._tags, []
        await self._cancel(tags)

    def _deliver(self, inbound: Inbound, tag: int, redelivered: bool, route: bytes, message: Message, _: bytes) -> None:
        if not self.paused:
            message.address = self._route.topic(routing_key(route))  # ours may be a pattern
            self._on_message(message)


async def _basic_cancel(tag: str, channel: FastChannel) -> None:
    await channel.basic_cancel(tag)
