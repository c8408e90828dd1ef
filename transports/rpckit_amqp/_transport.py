"""RabbitMQ as a transport: what `rpckit.transport` asks for, over one connection for a client, two for a server.

One connection publishes (requests or replies) and holds the reply queue; a server consumes and acks
on a second one, so that a broker that blocks publishers still takes its acks.

Delivery guarantees: a delivery is acked with its reply, or, where the server asks for it, once its reply is
confirmed. What a dead server left unacked is redelivered, and marked so: it is run again only if it may.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar, cast

from rpckit.errors import ConnectionLost, NoResponder, NotSent, RpcError, UsageError
from rpckit.ids import new_id
from rpckit.message import Kind, Message
from rpckit.transport import (
    Capabilities,
    OnDelivery,
    OnGone,
    OnMessage,
    OnState,
    OnUndelivered,
    State,
    TransportOptions,
)
from rpckit.url import Url

from ._connection import Connection, Session
from ._driver import CloseReason, FastChannel
from ._errors import PRECONDITION_FAILED, Refused
from ._frames import MAX_BODY, DeliverMethod, Properties, ReturnMethod
from ._mapping import from_properties, lay_out
from ._options import AmqpOptions
from ._presence import Presence, passive_look
from ._publisher import MAX_EXPRESS_REPLY, Confirmed, Express, Publication
from ._receiver import AmqpDelivery, AmqpReceiver, AmqpSubscription, Inbound
from ._topology import DIRECT_REPLY_TO, EVENTS_EXCHANGE, QueueSpec, event_key, reply_queue, request_queue

__all__ = ["CAPABILITIES", "AmqpTransport"]

log = logging.getLogger(__name__)

FLUSH_S = 2.0  # seconds for the last replies to be confirmed when closing
REPLY_KEPT_S = 30.0  # seconds a reply is kept for a caller that set no deadline
CONFIRM_S = 30.0  # seconds for a confirm of a message that has no time limit of its own
DIRECT_RETURNS_BEFORE = (4, 2)  # RabbitMQ below returns what it delivers to a direct reply-to

CAPABILITIES = Capabilities(
    name="amqp",
    settles=True,
    redelivers=True,
    balances=True,
    persists=True,
    claims=False,
    queue_wait=True,
    knows_no_responder=True,
    knows_caller_gone=True,
    orders=True,
    max_body=MAX_BODY,
)


class AmqpTransport:
    """`amqp://` and `amqps://`: see `AmqpOptions` for what the URL may say."""

    options_model: ClassVar[type[TransportOptions]] = AmqpOptions

    def __init__(self, url: Url, options: TransportOptions) -> None:
        self.options = cast(AmqpOptions, options)
        # brokers below 4.2 cannot tell that the owner of a direct reply-to has left
        self.capabilities = replace(CAPABILITIES, knows_caller_gone=self.options.reply == "queue")
        self.url = url
        self.inbox = ""
        self._on_state: list[OnState] = []
        self._on_undelivered: list[OnUndelivered] = []
        self._on_gone: list[OnGone] = []
        self._on_message: OnMessage | None = None
        self._presence = Presence()
        self._express = Express(self.options.heartbeat)
        self._confirmed = Confirmed()
        self._outbound_inbound: Inbound | None = None
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
        self._tags = count(1)
        self._exchange_known: Session | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- life -----------------------------------------------------------------------------------

    async def connect(self) -> None:
        await self._publishing.open()

    async def close(self) -> None:
        """Confirm what was sent, for at most `FLUSH_S`; then end both connections."""
        if self._closed:
            return
        self._closed = True
        if self._publishing.session is not None:
            await self._confirmed.flushed(FLUSH_S)
            await asyncio.sleep(0)  # the acks of the last confirms
        for task in list(self._tasks):
            task.cancel()
        self._presence.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._consuming is not None:
            await self._consuming.close()
        await self._publishing.close()
        self._confirmed.detach("the connection was closed")  # whoever still waits for a confirm

    def on_state(self, callback: OnState) -> None:
        self._on_state.append(callback)

    def on_undelivered(self, callback: OnUndelivered) -> None:
        self._on_undelivered.append(callback)

    def on_gone(self, callback: OnGone) -> None:
        self._on_gone.append(callback)

    def own(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """A task that ends with this transport."""
        task = cast("asyncio.Task[None]", asyncio.ensure_future(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- the requesting role ----------------------------------------------------------------------

    async def open_inbox(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        session = self._publishing.session
        if session is None:
            raise NotSent("not connected")
        if not self.inbox:  # else a reconnect has opened it
            await self._open_inbox(session)

    async def send(self, message: Message, *, must_be_served: bool = True) -> None:
        session = self._publishing.session
        if session is None or session.blocked:
            raise NotSent(f"{self.url} is {self._publishing.state}")
        if message.kind is Kind.REQUEST:
            if not must_be_served:
                await self._ensure_queue_in_time(session, message)
            elif not self._presence.fresh(message.address, session.protocol.loop.time()):
                await self._presence.look(session, message.address, _seconds_left(message))
        if session.protocol.congested:
            await self._wait_writable(session, message)
        if message.reply_to and message.reply_to != self.inbox:
            raise NotSent("the connection was lost before the call was sent")
        if message.reply_to:
            self._express.write(self._express.routes.lay_out(message, mandatory=True))
        else:
            await self._publish_confirmed(message, mandatory=must_be_served)

    async def publish(self, topic: str, message: Message) -> None:
        session = self._publishing.session
        if session is None:
            raise NotSent(f"{self.url} is {self._publishing.state}")
        await self.ensure_exchange(session)
        routes = self._express.routes
        self._express.write(
            routes.around(event_key(topic), lay_out(message), message.body, mandatory=False, exchange=EVENTS_EXCHANGE)
        )

    async def _publish_confirmed(self, message: Message, *, mandatory: bool) -> None:
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mandatory = mandatory and self._may_be_mandatory(message.address)
        data = self._confirmed.routes.lay_out(message, mandatory=mandatory)
        self._confirmed.publish(Publication(data, message, _tell_future, confirmed))
        try:
            async with asyncio.timeout(_seconds_left(message) or CONFIRM_S):
                await confirmed
        except TimeoutError:
            raise ConnectionLost(f"the broker did not confirm the message to {message.address!r} in time") from None

    async def _ensure_queue_in_time(self, session: Session, message: Message) -> None:
        try:
            async with asyncio.timeout(_seconds_left(message)):
                await self.ensure_queue(session, message.address)
        except TimeoutError:
            raise NotSent(f"the broker did not say in time whether {message.address!r} exists") from None

    async def _wait_writable(self, session: Session, message: Message) -> None:
        try:
            async with asyncio.timeout(_seconds_left(message)):
                await session.protocol.wait_writable()
        except TimeoutError:
            raise NotSent("the connection is full: 8 MiB wait to be sent") from None

    def _on_return(self, method: ReturnMethod, properties: Properties) -> None:
        """A request that nobody takes did not run; a reply that nobody takes is as good as taken."""
        if properties.reply_to:
            self._presence.forget(method.routing_key)
            error = NoResponder(f"nobody serves {method.routing_key!r}: {method.text}")
            for callback in self._on_undelivered:
                callback(properties.correlation_id, error)
        else:
            self._tell_gone(method.routing_key)

    def _tell_gone(self, reply_to: str) -> None:
        for callback in self._on_gone:
            callback(reply_to)

    # -- the serving role -------------------------------------------------------------------------

    async def receive(self, address: str, on_delivery: OnDelivery, *, prefetch: int) -> AmqpReceiver:
        inbound = await self._open_consuming()
        receiver = AmqpReceiver(self, address, on_delivery, prefetch)
        await receiver.attach(inbound)
        self._receivers.append(receiver)
        return receiver

    async def subscribe(self, topic: str, on_message: OnMessage) -> AmqpSubscription:
        inbound = await self._open_consuming()
        subscription = AmqpSubscription(self, topic, on_message)
        await subscription.attach(inbound)
        self._receivers.append(subscription)
        return subscription

    def publish_reply(self, message: Message, delivery: AmqpDelivery, *, confirmed: bool) -> None:
        """Express and settled at once, or settled when the broker has it.

        Replies are mandatory: a returned one means that the caller is gone.
        """
        mandatory = self._may_be_mandatory(message.address)
        left = delivery.message.time_left_ms
        until = delivery.arrived_at + (REPLY_KEPT_S if left is None else left / 1000)
        if not confirmed and len(message.body) <= MAX_EXPRESS_REPLY and self._express.usable:
            self._express.write_reply(self._express.routes.lay_out(message, mandatory=mandatory), until)
            delivery.settle()
            return
        data = self._confirmed.routes.lay_out(message, mandatory=mandatory)
        publication = Publication(data, message, self._reply_done, delivery)
        publication.until = until
        self._confirmed.publish(publication)

    def publish_copy(self, delivery: AmqpDelivery, properties: bytes) -> None:
        """Hand a request back as a copy; only once that is safe is the original settled."""
        message = delivery.message
        data = self._confirmed.routes.around(message.address, properties, message.body, mandatory=True)
        try:
            self._confirmed.publish(Publication(data, message, _settle_original, delivery))
        except NotSent:
            delivery.requeue()

    def _reply_done(self, publication: Publication, error: RpcError | None, returned: ReturnMethod | None) -> None:
        delivery = cast(AmqpDelivery, publication.owner)
        if error is not None:
            log.warning("a reply was not taken: %s", error)
        delivery.settle()
        if returned is not None:
            self._tell_gone(publication.routing_key)

    def _may_be_mandatory(self, address: str) -> bool:
        if not address.startswith(DIRECT_REPLY_TO):
            return True
        session = self._publishing.session
        return session is not None and session.server_version >= DIRECT_RETURNS_BEFORE

    # -- queues -----------------------------------------------------------------------------------

    def next_consumer_tag(self) -> str:
        return f"c{next(self._tags)}"

    async def ensure_queue(self, session: Session, address: str) -> None:
        """The queue of an address, as it is; declared only where there is none."""
        if await passive_look(session, address) is None:
            await self.declare(session, request_queue(address, self.options.declare))

    async def declare(self, session: Session, queue: QueueSpec) -> None:
        async def ask(channel: FastChannel) -> Any:
            return await channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=queue.arguments,
            )

        try:
            await session.control(f"to declare the queue {queue.name!r}", ask)
        except Refused as refusal:
            # somebody else declared it between our look and this, in another way: it is used as it is
            if refusal.code != PRECONDITION_FAILED or await passive_look(session, queue.name) is None:
                raise

    async def ensure_exchange(self, session: Session) -> None:
        """Once a session: publishing to a missing exchange would close the channel."""
        if self._exchange_known is session:
            return

        async def ask(channel: FastChannel) -> Any:
            return await channel.exchange_declare(EVENTS_EXCHANGE, "topic", durable=True)

        await session.control(f"to declare the exchange {EVENTS_EXCHANGE}", ask)
        self._exchange_known = session

    # -- sessions ---------------------------------------------------------------------------------

    async def _prepare_publishing(self, session: Session) -> None:
        """Before it counts as connected: the reply queue, then the replies that an earlier session left."""
        self._outbound_inbound = Inbound(session)
        # first, so that it has the same number in every session: kept replies are laid out for it
        confirmed = await session.open_confirmed()
        if self._on_message is not None:
            await self._open_inbox(session)
        self._express.attach(session, self._on_return)
        self._confirmed.attach(session, confirmed)

    async def _open_inbox(self, session: Session) -> None:
        direct = self.options.reply == "direct"
        name = DIRECT_REPLY_TO
        if not direct:
            queue = reply_queue(new_id())
            name = queue.name
            await self.declare(session, queue)
        tag = self.next_consumer_tag()
        assert self._outbound_inbound is not None  # made with the session
        self._outbound_inbound.handlers[tag] = (self._deliver_reply, False)

        async def consume(channel: FastChannel) -> Any:
            return await channel.basic_consume(_not_called, queue_name=name, consumer_tag=tag, no_ack=True)

        await session.on_data("to consume replies", consume)
        self.inbox = name

    def _deliver_reply(
        self, inbound: Inbound, method: DeliverMethod, properties: Properties, body: bytes, _: bytes
    ) -> None:
        if self._on_message is not None:
            self._on_message(from_properties(properties, body, self.inbox, Kind.REPLY))

    async def _open_consuming(self) -> Inbound:
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

    async def _prepare_consuming(self, session: Session) -> None:
        inbound = Inbound(session)
        session.data.on_consumer_cancelled = self._consumer_cancelled
        for receiver in self._receivers:
            await receiver.attach(inbound)
        self._inbound = inbound

    def _consumer_cancelled(self, tag: str) -> None:
        """The broker ended a consumer: its queue was deleted. It is declared and consumed again."""
        connection = self._consuming
        if connection is not None and connection.session is not None:
            connection.session.protocol.abort(f"the broker cancelled consumer {tag}: its queue was deleted")

    def _publishing_state(self, state: State, why: str) -> None:
        if state is State.RECONNECTING:
            self.inbox = ""
            self._presence.forget()
            self._express.detach()
            self._confirmed.detach(CloseReason(0, why))
        elif state is State.CONNECTED and len(self._confirmed):
            self._confirmed.flush_backlog()
        self._tell(state, why)

    def _consuming_state(self, state: State, why: str) -> None:
        if state is State.CLOSED and self._closed:
            return
        self._tell(state, why)

    def _tell(self, state: State, why: str) -> None:
        for callback in self._on_state:
            callback(state, why)


def _seconds_left(message: Message) -> float | None:
    return None if message.time_left_ms is None else message.time_left_ms / 1000


def _tell_future(publication: Publication, error: RpcError | None, returned: ReturnMethod | None) -> None:
    confirmed = cast("asyncio.Future[None]", publication.owner)
    if confirmed.done():
        return
    if returned is not None:
        error = NoResponder(f"nobody serves {publication.routing_key!r}: {returned.text}")
    if error is None:
        confirmed.set_result(None)
    else:
        confirmed.set_exception(error)


def _settle_original(publication: Publication, error: RpcError | None, returned: ReturnMethod | None) -> None:
    delivery = cast(AmqpDelivery, publication.owner)
    if error is None and returned is None:
        delivery.settle()
    else:
        delivery.requeue()


async def _not_called(*_: Any) -> None:
    """The driver wants a callback; deliveries never get that far."""
    raise UsageError("a delivery reached the driver's slow path")
