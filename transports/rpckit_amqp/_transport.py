"""RabbitMQ as a transport: what `rpckit.transport` asks for, over one connection for a client, two for a server.

One connection publishes (requests or replies) and holds the reply queue; a server consumes and acks
on a second one, so that a broker that blocks publishers still takes its acks.

Delivery guarantees: a delivery is acked with its reply, or, where the server asks for it, once its reply is
confirmed. What a dead server left unacked is redelivered, and marked so: it is run again only if it may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sized
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

from rpckit.errors import NotSent
from rpckit.message import Message
from rpckit.transport import (
    Capabilities,
    Observed,
    OnDelivery,
    OnMessage,
    State,
    TransportOptions,
)
from rpckit.url import Url

from ._connection import Connection, Session
from ._driver import CloseReason
from ._errors import has_crashed, told_limit
from ._frames import MAX_BODY
from ._inbound import Inbound
from ._options import AmqpOptions
from ._publisher import Confirmed, Express
from ._queues import Queues
from ._receiver import AmqpReceiver, AmqpSubscription
from ._replier import Replier
from ._requester import Requester

__all__ = ["CAPABILITIES", "AmqpTransport"]

FLUSH_S = 2.0  # seconds for the last replies to be confirmed when closing

CAPABILITIES = Capabilities(
    name="amqp",
    settles=True,
    redelivers=True,
    keeps_unbegun=True,
    balances=True,
    persists=True,
    claims=False,
    queue_wait=True,
    knows_no_responder=True,
    knows_caller_gone=True,
    orders=True,
    max_body=MAX_BODY,
    foreign_topics=("fanout", "direct", "topic"),
)


class AmqpTransport(Observed):
    """`amqp://` and `amqps://`: see `AmqpOptions` for what the URL may say."""

    options_model: ClassVar[type[TransportOptions]] = AmqpOptions

    def __init__(self, url: Url, options: TransportOptions) -> None:
        super().__init__()
        self.options = cast(AmqpOptions, options)
        # brokers below 4.2 cannot tell that the owner of a direct reply-to has left
        self.capabilities = replace(CAPABILITIES, knows_caller_gone=self.options.reply == "queue")
        self.url = url
        self._queues = Queues(self.options.declare)
        self._express = Express(self.options.heartbeat)
        self._confirmed = Confirmed()
        self._replier = Replier(self._express, self._confirmed, on_gone=self.tell_gone)
        self._requester = Requester(
            self.options,
            self._queues,
            self._express,
            self._confirmed,
            on_undelivered=self.tell_undelivered,
            on_gone=self.tell_gone,
        )
        self._publishing = Connection(
            url,
            self.options,
            name="rpckit publishing",
            prepare=self._prepare_publishing,
            on_state=self._publishing_state,
        )
        self._consuming: Connection | None = None
        self._inbound: Inbound | None = None
        self._receivers: list[AmqpReceiver | AmqpSubscription] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def inbox(self) -> str:
        return self._requester.inbox

    async def connect(self, *, serve: bool = False) -> None:
        await self._publishing.open()

    async def close(self) -> None:
        """Confirm what was sent, for at most `FLUSH_S`; then end both connections."""
        if self._closed:
            return
        self._closed = True
        if self._publishing.session is not None:
            await self._confirmed.flushed(FLUSH_S)
        for task in list(self._tasks):
            task.cancel()
        self._requester.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._inbound is not None:
            self._inbound.ack()
        if self._consuming is not None:
            await self._consuming.close()
        await self._publishing.close()
        self._confirmed.detach("the connection was closed")  # whoever still waits for a confirm

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        await self._requester.open_inbox(on_message)

    def send(self, message: Message, *, must_be_served: bool = True) -> Coroutine[Any, Any, None]:
        return self._requester.send(message, must_be_served=must_be_served)

    async def publish(self, topic: str, message: Message) -> None:
        await self._requester.publish(topic, message)

    async def receive(
        self, address: str, on_delivery: OnDelivery, *, prefetch: int, at_most_once: bool = False
    ) -> AmqpReceiver:
        receiver = AmqpReceiver(self._queues, self._replier, self._own, address, on_delivery, prefetch)
        await self._attach(receiver)
        return receiver

    async def subscribe(self, topic: str, on_message: OnMessage, *, group: str = "") -> AmqpSubscription:
        subscription = AmqpSubscription(self._queues, topic, on_message, group)
        await self._attach(subscription)
        return subscription

    async def _attach(self, receiver: AmqpReceiver | AmqpSubscription) -> None:
        """Now, and again after each reconnect from here on."""
        inbound = await self._open_consuming()
        self._receivers.append(receiver)
        try:
            await receiver.attach(inbound)
        except BaseException:
            self._receivers.remove(receiver)
            raise

    async def _open_consuming(self) -> Inbound:
        """The second connection, opened on first need."""
        if self._consuming is None:
            self._consuming = Connection(
                self.url,
                self.options,
                name="rpckit consuming",
                prepare=self._prepare_consuming,
                on_state=self._consuming_state,
            )
        await self._consuming.open()
        if self._inbound is None or self._consuming.session is None:
            raise NotSent(f"{self.url} is {self._consuming.state}")
        return self._inbound

    async def _prepare_publishing(self, session: Session) -> None:
        """Before it counts as connected: the reply queue, then the replies that an earlier session left."""
        # first, so that it has the same number in every session: kept replies are laid out for it
        confirmed = await session.open_confirmed()
        session.data.on_consumer_cancelled = partial(_consumer_cancelled, session)
        await self._requester.attach(session)
        self._replier.attach(session)
        self._express.attach(session, self._requester.on_return)
        self._confirmed.attach(session, confirmed)
        if self._inbound is not None:
            self._inbound.session.protocol.answered_on = session.protocol

    async def _prepare_consuming(self, session: Session) -> None:
        inbound = Inbound(session)
        session.data.on_consumer_cancelled = partial(_consumer_cancelled, session)
        # subscriptions first: the cancel of a call that comes at once must be heard
        for receiver in sorted(self._receivers, key=lambda each: isinstance(each, AmqpReceiver)):
            await receiver.attach(inbound)
        self._inbound = inbound
        if self._publishing.session is not None:
            session.protocol.answered_on = self._publishing.session.protocol

    def _publishing_state(self, state: State, why: str) -> None:
        if state is State.RECONNECTING:
            self._heed_limit(told_limit(why))
            self._express.framing.broker_crashed = self._confirmed.framing.broker_crashed = has_crashed(why)
            self._requester.detach()
            self._replier.attach(None)
            self._express.detach()
            self._confirmed.detach(CloseReason(0, why))
        elif state is State.CONNECTED and len(self._confirmed):
            self._confirmed.flush_backlog()
        self.tell_state(state, why)

    def _heed_limit(self, most_body: int) -> None:
        """Before what was lost is told. A loss that tells of no limit ends one: it may have been raised meanwhile."""
        self._express.limit(most_body)
        self._confirmed.framing.limit(most_body)
        self._requester.limit(most_body)

    def _consuming_state(self, state: State, why: str) -> None:
        if state is State.CLOSED and self._closed:
            return
        self.tell_state(state, why)

    def _own(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """A task that ends with this transport."""
        task = cast("asyncio.Task[None]", asyncio.ensure_future(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _consumer_cancelled(session: Session, tag: str) -> None:
    """The broker ended a consumer: its queue was deleted. A new connection declares and consumes it again."""
    session.protocol.abort(f"the broker cancelled consumer {tag}: its queue was deleted")
