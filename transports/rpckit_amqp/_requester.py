"""The requesting role: the inbox, requests with and without a reply, and what is published to everyone."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from rpckit.bundle import BundleError, unbundled
from rpckit.errors import ConnectionLost, NoResponder, NotSent, OutcomeUnknown, RpcError, UsageError
from rpckit.ids import new_id
from rpckit.message import Kind, Message
from rpckit.transport import OnGone, OnMessage, OnUndelivered, sending_ends

from ._connection import Session
from ._driver import FastChannel
from ._frames import Properties, ReturnMethod
from ._framing import Framing
from ._inbound import Inbound
from ._mapping import lay_out
from ._options import AmqpOptions
from ._presence import Presence
from ._publisher import Confirmed, Express, Publication
from ._queues import Queues, may_be_mandatory
from ._topology import DIRECT_REPLY_TO, Route, reply_queue

__all__ = ["Requester"]

log = logging.getLogger(__name__)

MAX_CHANNELS = 16  # taken for one event, each closed by the broker meanwhile: its exchanges come and go without end


class Requester:
    """Sends on whichever session is attached; between two of them everything is `NotSent`."""

    def __init__(
        self,
        options: AmqpOptions,
        queues: Queues,
        express: Express,
        confirmed: Confirmed,
        *,
        on_undelivered: OnUndelivered,
        on_gone: OnGone,
    ) -> None:
        self.inbox = ""
        self.inbound: Inbound | None = None
        self._options = options
        self._queues = queues
        self._express = express
        self._confirmed = confirmed
        self._on_undelivered = on_undelivered
        self._on_gone = on_gone
        self._on_message: OnMessage | None = None
        self._presence = Presence()
        self._session: Session | None = None
        self._abroad = Framing()
        self._abroad_on: FastChannel | None = None

    async def attach(self, session: Session) -> None:
        """A new session, with a new inbox if there was one."""
        self.inbound = Inbound(session)
        if self._on_message is not None:
            await self._open_inbox(session)
        self._session = session

    def detach(self) -> None:
        self._session = None
        self.inbox = ""
        self._presence.forget()

    def end(self) -> None:
        self._presence.end()

    def limit(self, most_body: int) -> None:
        """See `Framing.limit`; the others belong to the publishers."""
        self._abroad.limit(most_body)

    async def open_inbox(self, on_message: OnMessage) -> None:
        session = self._session
        if session is None:
            raise NotSent("not connected")
        self._on_message = on_message
        if self.inbox:  # a reconnect has opened it
            return
        try:
            await self._open_inbox(session)
        except UsageError:  # whoever calls next is to be told the same, and not that there is no connection
            self._on_message = None
            raise

    async def send(self, message: Message, *, must_be_served: bool = True) -> None:
        session = self._session
        if session is None or session.blocked:
            raise NotSent("not connected" if session is None else "the broker takes no messages")
        began = session.protocol.loop.time()
        known = must_be_served and self._presence.fresh(message.address, began)
        if not known and message.kind is Kind.REQUEST:
            await self._check_queue(session, message, must_be_served=must_be_served)
        if session.protocol.congested():
            await session.protocol.wait_writable(sending_ends(message, began))
        if message.reply_to and message.reply_to != self.inbox:
            raise NotSent("the connection was lost before the call was sent")
        if message.reply_to:
            self._express.write(self._express.framing.lay_out(message, mandatory=True))
        else:
            await self._publish_confirmed(session, message, sending_ends(message, began), mandatory=must_be_served)

    async def _check_queue(self, session: Session, message: Message, *, must_be_served: bool) -> None:
        """What is asked before a request is sent: whatever goes wrong here, nothing was."""
        try:
            if must_be_served:
                await self._presence.look(session, message.address, message.seconds_left())
            else:
                async with asyncio.timeout(message.seconds_left()):
                    await self._queues.ensure_queue(session, message.address)
        except TimeoutError:
            raise NotSent(f"the broker did not say in time whether {message.address!r} exists") from None
        except ConnectionLost as error:
            raise NotSent(f"the connection was lost before the call was sent: {error}") from error

    async def publish(self, topic: str, message: Message) -> None:
        session = self._session
        if session is None:
            raise NotSent("not connected")
        route = Route.of(topic)
        framing = self._express.framing
        try:
            if route.foreign:
                framing = await self._ready_abroad(session, route, message)
            else:
                await self._ready(session, route, message)
        except ConnectionLost as error:
            raise NotSent(f"the connection was lost before the event was sent: {error}") from error
        data = framing.around(route.key, lay_out(message), message.body, mandatory=False, exchange=route.exchange.name)
        self._express.write(data)

    async def _ready(self, session: Session, route: Route, message: Message) -> None:
        await self._queues.ensure_exchange(session, route.exchange)
        if session.protocol.congested():
            await session.protocol.wait_writable(sending_ends(message, session.protocol.loop.time()))

    async def _ready_abroad(self, session: Session, route: Route, message: Message) -> Framing:
        """On a channel that is open when all is ready: writing to a closed one would end the connection.

        While this waits, the broker may close it over what others told there.
        """
        for _ in range(MAX_CHANNELS):
            framing = await self._framing_abroad(session)
            await self._ready(session, route, message)
            if self._abroad_on is not None and self._abroad_on.usable:
                return framing
        raise NotSent(
            f"the broker closes each channel before {route.exchange.name!r} is told: "
            "other exchanges that this client tells are deleted again and again"
        )

    async def _framing_abroad(self, session: Session) -> Framing:
        """On the channel for exchanges of other programs. That it is a new one may mean that one of them is gone."""
        channel = await session.foreign_channel()
        if channel is not self._abroad_on:
            self._abroad_on = channel
            self._abroad.attach(channel)
            self._queues.forget_exchanges()
        return self._abroad

    async def _publish_confirmed(self, session: Session, message: Message, end: float, *, mandatory: bool) -> None:
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        mandatory = mandatory and may_be_mandatory(session, message.address)
        data = self._confirmed.framing.lay_out(message, mandatory=mandatory)
        self._confirmed.publish(Publication(data, message, _tell_future, confirmed))
        try:
            async with asyncio.timeout_at(end):
                await confirmed
        except TimeoutError:
            text = f"the broker did not say in time that it has the message to {message.address!r}; it may have run"
            raise OutcomeUnknown(text) from None

    def on_return(self, method: ReturnMethod, properties: Properties) -> None:
        """A request that nobody takes did not run; a reply that nobody takes is as good as taken."""
        if properties.reply_to:
            self._presence.forget(method.routing_key)
            error = NoResponder(f"nobody serves {method.routing_key!r}: {method.text}")
            self._on_undelivered(properties.correlation_id, error)
        else:
            self._on_gone(method.routing_key)

    async def _open_inbox(self, session: Session) -> None:
        name = DIRECT_REPLY_TO
        if self._options.reply == "queue":
            queue = reply_queue(new_id())
            name = queue.name
            await self._queues.declare(session, queue)
        assert self.inbound is not None  # made with the session
        tag = self._queues.next_consumer_tag()
        await self.inbound.consume(tag, name, self._deliver_reply, address=name, kind=Kind.REPLY, acked=False)
        if not session.alive:  # lost as the answer came: detached already, and its inbox is gone
            raise ConnectionLost(str(session.protocol.close_reason))
        self.inbox = name

    def _deliver_reply(
        self, inbound: Inbound, tag: int, redelivered: bool, route: bytes, message: Message, _: bytes
    ) -> None:
        if self._on_message is None:
            return
        try:
            replies = unbundled(message)
        except BundleError as error:
            log.warning("a message to our inbox cannot be read: %s", error)
            return
        for each in replies:
            self._on_message(each)


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
