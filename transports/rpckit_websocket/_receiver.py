"""The receiving role: requests at an address and what is published on a topic, and a request in hand."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rpckit.errors import Code, NotSent
from rpckit.fault import TOOLKIT, Fault, fault_message
from rpckit.message import Message
from rpckit.transport import OnBegun, OnDelivery, OnMessage, Subscribed

from ._dialect import Settled
from ._link import Link

if TYPE_CHECKING:
    from ._hub import Hub

__all__ = ["SessionReceiver", "Subscription", "WebSocketDelivery"]

log = logging.getLogger(__name__)


class WebSocketDelivery:
    """One request in hand. Its session may be gone by the time it is answered."""

    __slots__ = ("_link", "_nested", "_open", "_receiver", "message", "redelivered")

    def __init__(self, link: Link, receiver: SessionReceiver, message: Message, nested: bool) -> None:
        self._link = link
        self._nested = nested
        self._receiver = receiver
        self._open = True
        self.message = message
        self.redelivered = False

    def begin(self, told: OnBegun, *, again: bool = False) -> None:
        """A session has one server, so nobody else can have it."""
        told(True)

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        if not self._link.gone:  # else its going was told
            try:
                self._link.write(message)
            except NotSent as error:
                log.info("a reply was not sent: %s", error)
        self._close()

    def settle(self) -> None:
        if self._open and self.message.reply_to:
            self._link.write_control(Settled(self.message.correlation_id))
        self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._receiver.settled(self._link, self._nested)

    def hand_back(self) -> None:
        """Nobody else can run it: its caller is told that it did not run, and may send it again."""
        if not self._open:
            return
        if self.message.reply_to:
            text = f"the server of {self.message.address!r} is stopping"
            self.reply(fault_message(self.message, Fault(Code.UNAVAILABLE, text, origin=TOOLKIT)))
        self.settle()

    def reject(self) -> None:
        self.settle()


class SessionReceiver:
    """Requests at one address, from all sessions; each peer has its turn."""

    def __init__(self, hub: Hub, address: str, on_delivery: OnDelivery, prefetch: int) -> None:
        self.hub = hub
        self.address = address
        self.unsettled = 0
        self._on_delivery = on_delivery
        self._own_prefetch = self._prefetch = prefetch
        self._paused = False

    @property
    def has_room(self) -> bool:
        return not self._paused and self.unsettled < self._prefetch

    @property
    def lent(self) -> int:
        """About how many handlers wait for nested calls: the prefetch has grown by as much."""
        return max(0, self._prefetch - self._own_prefetch)

    def deliver(self, link: Link, message: Message, *, nested: bool) -> None:
        self.unsettled += 1
        if nested:
            link.nested_in_hand += 1
        else:
            link.in_hand += 1
        self._on_delivery(WebSocketDelivery(link, self, message, nested))

    def settled(self, link: Link, nested: bool) -> None:
        self.unsettled -= 1
        if nested:
            link.nested_in_hand -= 1
        else:
            link.in_hand -= 1
        if self.hub.holding:
            self.hub.deal()

    def set_prefetch(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self.hub.deal()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.hub.deal()

    async def stop(self) -> None:
        self._paused = True
        self.hub.forget(self)


class Subscription(Subscribed):
    def __init__(self, hub: Hub, topic: str, on_message: OnMessage) -> None:
        super().__init__()
        self.topic = topic
        self._hub = hub
        self._on_message = on_message

    def hear(self, message: Message) -> None:
        if not self.paused:
            self._on_message(message)

    async def stop(self) -> None:
        self.paused = True
        self._hub.unsubscribe(self)
