"""The requesting role: the inbox, requests with and without a reply, and what is published to everyone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sized
from dataclasses import replace
from functools import partial
from typing import Any

import hiredis

from rpckit.bundle import BundleError, unbundled
from rpckit.call import CORRELATION_HEADER
from rpckit.errors import NoResponder, NotSent, OutcomeUnknown, RpcError, UsageError
from rpckit.ids import new_id
from rpckit.message import NATIVE, REPLY, REQUEST, Message
from rpckit.transport import OnMessage, OnUndelivered, sending_ends

from ._channels import Channels
from ._connection import Session
from ._envelope import EnvelopeError, read, write
from ._errors import explain, is_error
from ._keys import INBOXES, PlaceKind, inbox_channel, no_store, own_channel, place_of, stored_at, topic_place
from ._link import Link, pack
from ._route import Route, Taken, Waiting

__all__ = ["Requester"]

log = logging.getLogger(__name__)

MAX_ADDRESSES = 4096  # remembered; then forgotten all at once


class Requester:
    """Sends in whichever session is attached; between two of them everything is `NotSent`."""

    def __init__(self, kind: PlaceKind, channels: Channels, *, database: int, on_undelivered: OnUndelivered) -> None:
        self.inbox = ""
        self._kind = kind
        self._database = database
        self._channels = channels
        channels.on_other_pattern = self._on_own_channel
        self._on_undelivered = on_undelivered
        self._on_message: OnMessage | None = None
        self._pending: Sized = ()
        self._session: Session | None = None
        self._routes: dict[str, Route] = {}
        self._hears_own_channels: Link | None = None

    async def attach(self, session: Session) -> None:
        """A new session, with a new inbox if there was one."""
        self.detach()  # from that of an attempt that failed later: it was never lost
        self._session = session
        session.main.pending = self._pending
        if self._on_message is not None:
            await self._open_inbox()

    def detach(self) -> None:
        self._session = None
        self._routes.clear()
        if self.inbox:
            self._channels.forget(self.inbox)
            self.inbox = ""

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        self._on_message, self._pending = on_message, pending
        session = self._session
        if session is None:
            raise NotSent("not connected")
        session.main.pending = pending
        if not self.inbox:  # else a reconnect has opened it
            await self._open_inbox()

    async def send(self, message: Message, *, must_be_served: bool) -> None:
        session = self._session
        if session is None or not session.alive:
            raise NotSent("not connected")
        link = session.main
        began = link.loop.time()
        if link.congested():
            await link.wait_writable(sending_ends(message, began))
            if not link.alive:
                raise NotSent("the connection was lost before the call was sent")
        if message.kind is not REQUEST:
            link.send(pack("PUBLISH", message.address, write(message)), _ignore)
        elif message.reply_to and message.reply_to == self.inbox:
            if message.dialect != NATIVE:
                message = replace(message, reply_to=self._own_channel(link, message))
            self._push(link, message, must_be_served, message.correlation_id)
        elif not message.reply_to or stored_at(message.reply_to) is not None:
            await self._push_and_wait(link, message, must_be_served, sending_ends(message, began))
        elif not message.reply_to.startswith(INBOXES):
            raise UsageError(no_store(message.reply_to))
        else:
            raise NotSent("the connection was lost before the call was sent")

    async def publish(self, topic: str, message: Message) -> None:
        session = self._session
        if session is None or not session.alive:
            raise NotSent("not connected")
        if session.main.congested():
            await session.main.wait_writable(sending_ends(message, session.main.loop.time()))
            if not session.alive:
                raise NotSent("the connection was lost before the message was sent")
        place = topic_place(topic, self._database)
        session.main.send(pack("PUBLISH", place.channel, _bare(message) if place.foreign else write(message)), _ignore)

    def _push(self, link: Link, message: Message, must_be_served: bool, waiting: Waiting) -> None:
        route = self._routes.get(message.address) or self._route(message.address)
        data = write(message)
        if not route.is_channel:
            route.push(link, data, waiting, asks=must_be_served and (message.dialect == NATIVE or route.place.own))
        elif must_be_served:
            command = b"%b%d\r\n%b\r\n" % (route.head, len(data), data)
            link.send(command, partial(self._published, message.address, waiting))
        else:
            raise UsageError(f"{message.address!r} is a channel, which keeps nothing for a server to come")

    def _own_channel(self, link: Link, message: Message) -> str:
        """Where a plain call is answered: FastStream replaces correlation ids, and knows a reply by its channel.

        One pattern hears them all. It is there before the request is: Redis takes the commands of a link in order.
        """
        if self._hears_own_channels is not link:
            self._hears_own_channels = link
            link.send(pack("PSUBSCRIBE", own_channel(self.inbox, "*")), _warn)
        return own_channel(self.inbox, message.correlation_id)

    def _published(self, address: str, waiting: Waiting, reply: Any) -> None:
        if type(reply) is not int or reply == 0:
            self._refused(address, [waiting], reply)
        elif isinstance(waiting, asyncio.Future):
            _resolve(waiting, None)

    def _refused(self, address: str, waiting: Iterable[Waiting], reply: Any) -> None:
        """The fate of requests: a lost connection is told to all callers at once, and not here."""
        for each in waiting:
            error = (
                explain(reply, f"sending to {address!r}")
                if is_error(reply)
                else NoResponder(f"nobody serves {address!r}")
            )
            if isinstance(each, asyncio.Future):
                _resolve(each, error)
            elif self._session is not None and self._session.alive:
                self._on_undelivered(each, error)

    async def _push_and_wait(self, link: Link, message: Message, must_be_served: bool, end: float) -> None:
        taken: Taken = link.loop.create_future()
        self._push(link, message, must_be_served, taken)
        try:
            async with asyncio.timeout_at(end):
                error = await taken
        except TimeoutError:
            text = f"Redis did not say in time whether it has the message to {message.address!r}; it may have run"
            raise OutcomeUnknown(text) from None
        if error is not None:
            raise error

    def _route(self, address: str) -> Route:
        if len(self._routes) >= MAX_ADDRESSES:
            self._routes.clear()
        place = place_of(address, self._kind, self._database)
        route = self._routes[address] = Route(place, partial(self._refused, address))
        return route

    async def _open_inbox(self) -> None:
        name = inbox_channel(new_id())
        try:
            await self._channels.listen(name, self._on_data)
        except hiredis.ReplyError as error:
            raise explain(error, "subscribing to an inbox") from None
        if self.inbox:  # opened meanwhile, by a reconnect or beside one; calls may wait there
            self._channels.forget(name)
        else:
            self.inbox = name

    def _on_own_channel(self, glob: bytes, channel: bytes, data: bytes) -> None:
        """A plain call's reply: the channel tells whose; a correlation id of the reply's own becomes a header."""
        if glob == own_channel(self.inbox, "*").encode():  # else of a pattern that was left just now
            self._on_data(data, channel.decode(errors="replace").removeprefix(own_channel(self.inbox, "")))

    def _on_data(self, data: bytes, correlation_id: str = "") -> None:
        try:
            message = read(data, self.inbox, REPLY)
            replies = unbundled(message)
        except (EnvelopeError, BundleError) as error:
            log.warning("a message to our inbox cannot be read: %s", error)
            return
        if correlation_id and message.correlation_id != correlation_id:
            if message.correlation_id:
                message.headers = {**message.headers, CORRELATION_HEADER: message.correlation_id}
            message.correlation_id = correlation_id
        if self._on_message is not None:
            for each in replies:
                self._on_message(each)


def _bare(message: Message) -> bytes:
    """What any program reads: the body, and nothing before it."""
    if message.headers:
        raise UsageError(f"headers cannot be told on {message.address!r}: a plain message on Redis is its body alone")
    return message.body


def _resolve(taken: Taken, error: RpcError | None) -> None:
    if not taken.done():
        taken.set_result(error)


def _warn(reply: Any) -> None:
    """Without it plain calls would wait for replies in vain."""
    if is_error(reply):
        log.warning("Redis refused to have plain calls answered: %s", reply)


def _ignore(reply: Any) -> None:
    if is_error(reply):
        log.debug("a message was not taken: %s", reply)
