"""The WebSocket transport: the seam over sessions, on the side that listens and on the side that dials."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sized
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import ClassVar, cast

from rpckit.errors import NotSent, OutcomeUnknown, UsageError
from rpckit.message import NATIVE, Kind, Message
from rpckit.transport import (
    Capabilities,
    Observed,
    OnDelivery,
    OnMessage,
    SessionInfo,
    State,
    TransportOptions,
    sending_ends,
)
from rpckit.url import Url

from ._dialler import Dialler
from ._hub import ENVELOPE, Hub
from ._link import Link
from ._listener import Listener
from ._options import WebSocketOptions
from ._receiver import SessionReceiver, Subscription
from ._wires import GOING_AWAY, NORMAL, Wire

__all__ = ["WebSocketTransport"]

LISTENING_INBOX = "sessions"  # the reply address of a side that has many: each session knows its way back
LATE_S = 1.0  # seconds after its time in which an answer may still come
POLL_S = 0.01  # seconds between two looks whether a connection has room again
NOTICE_S = 1.0  # seconds for answers written last to leave, when closing

CAPABILITIES = Capabilities(
    name="websocket",
    settles=False,
    redelivers=False,
    keeps_unbegun=False,
    balances=False,
    persists=False,
    claims=False,
    queue_wait=False,
    knows_no_responder=True,
    knows_caller_gone=True,
    orders=True,
    sessions=True,
    event_groups=False,
)


class WebSocketTransport(Observed):
    """`ws://host:port/path`: a server listens there, a client dials it, and either calls the other.

    endpoint: connections come from a web framework; nothing is listened to or dialled here.
    """

    options_model: ClassVar[type[TransportOptions]] = WebSocketOptions

    def __init__(self, url: Url, options: TransportOptions, *, endpoint: bool = False) -> None:
        super().__init__()
        self.url = url
        self.options = cast(WebSocketOptions, options)
        self.capabilities = replace(CAPABILITIES, max_body=max(1, self.options.max_message - ENVELOPE))
        self._endpoint = endpoint
        self._hub: Hub | None = None
        self._dialler: Dialler | None = None
        self._listener: Listener | None = None
        self._watching: asyncio.Task[None] | None = None
        self._on_session: list[Callable[[SessionInfo, bool], None]] = []
        self._inbox_open = False
        self._closed = False
        self._serves = endpoint

    # -- life -------------------------------------------------------------------------------------

    @property
    def inbox(self) -> str:
        """On the side that dials: the session's id. A listening side has one name for all its sessions."""
        if not self._inbox_open:
            return ""
        if self._serves:
            return LISTENING_INBOX
        link = self._dialler.link if self._dialler is not None else None
        return link.id if link is not None else ""

    async def connect(self, *, serve: bool = False) -> None:
        self._serves = serve or self._endpoint
        hub = self._the_hub
        hub.relays = self._serves  # a hub may be older than this call: services and inboxes come before connections
        if self._endpoint:
            self.tell_state(State.CONNECTED, "waiting for connections")
        elif serve:
            self._listener = Listener(self.url, self.options, hub)
            self.tell_state(State.CONNECTED, await self._listener.open())
        else:
            self._dialler = self._dialler or Dialler(self.url, self.options, hub, self.tell_state)
            await self._dialler.open()
        if self._watching is None:
            self._watching = hub.loop.create_task(self._watch(hub))

    async def close(self) -> None:
        """In good order: the other side is told, and what was written leaves first."""
        if self._closed:
            return
        self._closed = True
        if self._dialler is not None:
            await self._dialler.close()
        if self._listener is not None:
            await self._listener.close()
        if self._hub is not None:
            for link in list(self._hub.every):
                link.shut(GOING_AWAY, "the server is stopping")
            await self._all_gone(self._hub)
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self.tell_state(State.CLOSED, "closed by this process")

    async def _watch(self, hub: Hub) -> None:
        try:
            await hub.watch()
        except asyncio.CancelledError:
            if not self._closed:  # only a loop that ends cancels it: a new task would never run
                self._closed = True
                if self._dialler is not None:
                    self._dialler.give_up()
                for link in list(hub.every):
                    link.lose("its event loop is ending")
                self.tell_state(State.CLOSED, "its event loop is ending")
            raise

    async def _all_gone(self, hub: Hub) -> None:
        if hub.every:
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTICE_S):
                    await hub.empty.wait()
        for link in list(hub.every):
            link.lose("closed by this process")

    @property
    def _the_hub(self) -> Hub:
        if self._hub is None:
            self._hub = Hub(
                self.options,
                on_undelivered=self.tell_undelivered,
                on_gone=self.tell_gone,
                relays=self._serves,
            )
            self._hub.on_link = self._link_changed
        return self._hub

    # -- the seam ---------------------------------------------------------------------------------

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        self._the_hub.on_message = on_message
        self._inbox_open = True

    async def send(self, message: Message, *, must_be_served: bool = True) -> None:
        if not must_be_served:
            raise UsageError("nobody keeps a request for a server to come: a WebSocket has no queue")
        link = self._link_to(message)
        if message.kind is not Kind.REQUEST:
            link.write(message)
            return
        began = link.hub.loop.time()
        if link.congested():
            await _wait_writable(link, sending_ends(message, began))
        if message.reply_to:
            if not self._serves and message.reply_to != link.id:
                raise NotSent("the connection was lost before the call was sent")
            link.write(message)
            left = message.time_left_ms
            link.sent[message.correlation_id] = inf if left is None else link.hub.loop.time() + left / 1000 + LATE_S
        else:
            await self._send_with_receipt(link, message, sending_ends(message, began))

    async def receive(
        self, address: str, on_delivery: OnDelivery, *, prefetch: int, at_most_once: bool = False
    ) -> SessionReceiver:
        return self._the_hub.receive(address, on_delivery, prefetch)

    async def publish(self, topic: str, message: Message) -> None:
        hub = self._the_hub
        if not self._serves and (self._dialler is None or self._dialler.link is None):
            raise NotSent("not connected")
        hub.publish(topic, message)

    async def subscribe(self, topic: str, on_message: OnMessage, *, group: str = "") -> Subscription:
        if group:
            raise UsageError("a WebSocket has no groups: every subscriber hears every event")
        return await self._the_hub.subscribe(topic, on_message)

    # -- sessions ---------------------------------------------------------------------------------

    @property
    def sessions(self) -> Mapping[str, SessionInfo]:
        return self._hub.links if self._hub is not None else {}

    def on_session(self, callback: Callable[[SessionInfo, bool], None]) -> None:
        self._on_session.append(callback)

    def end_session(self, session_id: str, reason: str = "") -> None:
        link = self._hub.links.get(session_id) if self._hub is not None else None
        if link is not None:
            link.shut(NORMAL, reason)

    def adopt(self, wire: Wire, headers: dict[str, str]) -> Link:
        """Of a connection that a web framework accepted."""
        return self._the_hub.new_link(wire, headers)

    def _link_changed(self, link: Link, joined: bool, why: str) -> None:
        for callback in self._on_session:
            callback(link, joined)
        if not joined and self._dialler is not None:
            self._dialler.lost(link, why)

    def _link_to(self, message: Message) -> Link:
        """Where a message goes: to the session it names, or to the one there is."""
        if self._hub is not None:
            if not self._serves and self._dialler is not None:
                if self._dialler.link is not None:
                    return self._dialler.link
                raise NotSent("not connected")
            link = self._hub.links.get(message.to or message.address)
            if link is not None:
                return link
            if message.to:
                raise NotSent("that session is gone")
        raise NotSent("a server has many sessions, and the message names none of them")

    async def _send_with_receipt(self, link: Link, message: Message, end: float) -> None:
        """Returns when the other side has it, in a dialect that can say so."""
        link.write(message)
        if link.dialect != NATIVE or not message.message_id:
            return
        receipt: asyncio.Future[None] = link.hub.loop.create_future()
        link.receipts[message.message_id] = receipt
        try:
            async with asyncio.timeout_at(end):
                await receipt
        except TimeoutError:
            raise OutcomeUnknown(
                "the other side did not say in time that it has the message; it may have run"
            ) from None
        finally:
            link.receipts.pop(message.message_id, None)


async def _wait_writable(link: Link, end: float) -> None:
    while link.congested() and not link.gone:
        if link.hub.loop.time() > end:
            raise NotSent("the connection is full: the other side does not read")
        await asyncio.sleep(POLL_S)
