"""What is published to everyone: cancels, and events. At most once: Redis keeps nothing, and nothing is acked."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import hiredis

from rpckit.errors import RpcError, UsageError
from rpckit.message import Kind, Message
from rpckit.transport import OnMessage, Subscribed

from ._channels import Channels
from ._connection import Session
from ._envelope import EnvelopeError, read
from ._errors import explain, is_error
from ._keys import TopicPlace, event_key
from ._link import pack

__all__ = ["Subscription"]

log = logging.getLogger(__name__)

CLAIM_MS = 60_000  # a claim outlives the event's way to every other member
STALE_S = 30.0  # seconds an event can have been on its way: an older one may outlive its claim, and be heard twice


class Subscription(Subscribed):
    """Everything published on one topic. Each member of a group hears it, and the one that claims it hands it over."""

    def __init__(self, channels: Channels, topic: str, place: TopicPlace, on_message: OnMessage, group: str) -> None:
        super().__init__()
        self._channels = channels
        self._topic = topic
        self._place = place
        if group and place.foreign:
            raise UsageError(
                f"{topic!r} has no groups: what other programs tell there has no id that a member could claim"
            )
        self._on_message = on_message
        self._group = group
        self._lost = 0

    async def start(self) -> None:
        """Raises `RpcError`; nothing is left then."""
        try:
            if self._place.is_pattern:
                await self._channels.listen_pattern(self._place.channel, self.on_channel_data)
            else:
                await self._channels.listen(self._place.channel, self.on_data)
        except hiredis.ReplyError as error:
            raise explain(error, f"subscribing to {self._topic!r}") from error

    def on_channel_data(self, channel: str, data: bytes) -> None:
        topic = self._place.topic(channel)
        if topic is not None:
            self._hear(topic, data)

    def on_data(self, data: bytes) -> None:
        self._hear(self._topic, data)

    def _hear(self, topic: str, data: bytes) -> None:
        if self.paused:
            return
        try:
            message = read(data, topic, Kind.EVENT)
        except EnvelopeError as error:
            log.warning("an event of %r cannot be read: %s", topic, error)
            return
        session = self._channels.session
        if not self._group or not message.message_id:  # without an id nothing could be claimed
            self._on_message(message)
        elif session is not None:
            self._claim(session, message)

    async def stop(self) -> None:
        """What was claimed is handed over first: nobody else will have it."""
        self.paused = True
        session = self._channels.session
        try:
            if self._place.is_pattern:
                await self._channels.leave_pattern(self._place.channel, self.on_channel_data)
            else:
                await self._channels.leave(self._place.channel, self.on_data)
            if self._group and session is not None:
                await session.main.ask("PING")  # answered after the claims before it
        except (RpcError, hiredis.ReplyError) as error:
            log.debug("leaving %r: %s", self._topic, error)

    def _claim(self, session: Session, message: Message) -> None:
        if session.main.last_read - session.fresh_since > STALE_S:
            self._lose("it was on its way for too long, and another of the group may have had it")
            return
        key = event_key(self._group, message.message_id, self._topic if self._place.is_pattern else "")
        claim = pack("SET", key, "1", "NX", "PX", CLAIM_MS)
        session.main.send(claim, partial(self._claimed, message))

    def _claimed(self, message: Message, reply: Any) -> None:
        if is_error(reply):
            self._lose(str(reply))
        elif reply is not None:
            self._on_message(message)

    def _lose(self, why: str) -> None:
        self._lost += 1
        if self._lost == 1 or self._lost % 10_000 == 0:
            log.warning("%d events of %r were not claimed, and not heard here: %s", self._lost, self._topic, why)
