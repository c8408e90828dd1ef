"""Publishing, in two ways: express, and confirmed.

Express is for what its own answer settles: a request ends in its reply, a return or the loss of the
connection, and a confirm would only add to the broker's work (measured: a third more). Confirmed is
for what must be safe before something else happens: notifications, and replies after which an
idempotent delivery is settled. Each of those ends in a confirm, a return, or the loss of the connection.

Replies outlive a lost connection: those that may not have arrived are published again on the next
one, until their caller has stopped waiting. A reply that comes twice is dropped by its caller. What the
broker finds too large is not: it would end the next connection too, and all that waits behind it. Neither is,
after a crash of the broker, what goes to a direct reply-to: that is what a name no broker has made leads to.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from rpckit.bundle import Bundles
from rpckit.errors import ConnectionLost, NotSent, RpcError
from rpckit.message import NATIVE, Message

from ._connection import Session
from ._driver import CloseReason, FastChannel, FastProtocol
from ._frames import Properties, ReturnMethod
from ._framing import Framing
from ._queues import may_be_mandatory
from ._topology import BUNDLE_INBOXES

__all__ = ["Confirmed", "Express", "Publication"]

log = logging.getLogger(__name__)

MAX_REPLIES = 16_384  # express replies remembered, against a link that died unnoticed
MAX_REPLIES_BYTES = 4 * 1024 * 1024  # and so much of them, as bundles are larger
MAX_EXPRESS_REPLY = 16 * 1024  # bytes; larger replies are confirmed, so that little is remembered

Done = Callable[["Publication", RpcError | None, ReturnMethod | None], None]
OnReturn = Callable[[ReturnMethod, Properties], None]


class Express:
    """Written and forgotten, but for the last replies. Small ones of one tick to one client leave in a bundle."""

    def __init__(self, heartbeat: float) -> None:
        self.framing = Framing()
        self._unnoticed_s = 2 * heartbeat  # a dead link is found by then: what was written since may be lost
        self._replies: deque[tuple[float, float, bytes]] = deque()
        self._replies_bytes = 0
        self._bundles = Bundles(BUNDLE_INBOXES, self._publish)
        self._session: Session | None = None
        self._lost_at = 0.0
        self._most_body = MAX_EXPRESS_REPLY

    def limit(self, most_body: int) -> None:
        """See `Framing.limit`. Under a low one replies are confirmed: none grows in a bundle, refused ones are told."""
        self.framing.limit(most_body)
        self._most_body = MAX_EXPRESS_REPLY if most_body >= MAX_EXPRESS_REPLY else -1

    def attach(self, session: Session, on_return: OnReturn) -> None:
        """A new session: the last replies of the old one go out once more."""
        self.framing.attach(session.data)
        session.data.on_return = on_return
        self._session = session
        if session.blocked:
            return
        replies, now = list(self._replies), session.protocol.loop.time()
        self._replies.clear()
        self._replies_bytes = 0
        for written_at, until, data in replies:
            if until <= now or written_at <= self._lost_at - self._unnoticed_s:
                continue
            if refused := self.framing.refusal(data):
                log.error("a reply is lost: %s", refused)
            else:
                self._write(session.protocol, data, until)

    def detach(self) -> None:
        self._session = None
        self._lost_at = asyncio.get_running_loop().time()

    def write(self, data: bytes) -> None:
        """Raises `NotSent` when there is nothing to write to."""
        session = self._session
        if session is None or session.blocked:
            raise NotSent("not connected" if session is None else "the broker takes no messages")
        session.protocol.write(data)

    def reply(self, message: Message, until: float) -> bool:
        """Publish it, and again after a loss unless `until` has passed by then. False when that cannot be done now."""
        session = self._session
        if session is None or session.blocked or len(message.body) > self._most_body:
            return False
        if not self._bundles.take(session.protocol, message, until):
            self._publish(session.protocol, message, until)
        return True

    def _publish(self, protocol: FastProtocol, message: Message, until: float) -> None:
        mandatory = may_be_mandatory(self._session, message.address)
        self._write(protocol, self.framing.lay_out(message, mandatory=mandatory), until)

    def _write(self, protocol: FastProtocol, data: bytes, until: float) -> None:
        protocol.write(data)
        self._replies.append((protocol.loop.time(), until, data))
        self._replies_bytes += len(data)
        while len(self._replies) > MAX_REPLIES or self._replies_bytes > MAX_REPLIES_BYTES:
            self._replies_bytes -= len(self._replies.popleft()[2])


class Publication:
    """One confirmed message on its way. `done(publication, error, returned)` is called exactly once.

    until: publish it again after a loss, up to that moment on the loop's clock; None: never.
    """

    __slots__ = ("correlation_id", "data", "done", "message_id", "owner", "returned", "routing_key", "until")

    def __init__(self, data: bytes, message: Message, done: Done, owner: object) -> None:
        self.data = data
        self.done = done
        self.owner = owner
        self.routing_key = message.address
        self.correlation_id = message.correlation_id
        self.message_id = message.message_id if message.dialect == NATIVE else ""  # as it is laid out
        self.returned: ReturnMethod | None = None
        self.until: float | None = None


class Confirmed:
    """Published on a channel of its own, and told apart by the broker's confirms, over all sessions."""

    def __init__(self) -> None:
        self.framing = Framing()
        self._session: Session | None = None
        self._next_tag = 1
        self._unconfirmed: dict[int, Publication] = {}
        self._backlog: deque[Publication] = deque()  # bounded by the deliveries that wait for their replies
        self._flushed = asyncio.Event()
        self._flushed.set()

    def __len__(self) -> int:
        return len(self._unconfirmed) + len(self._backlog)

    def attach(self, session: Session, channel: FastChannel) -> None:
        """A new session: its tags begin at 1, and the replies left over go out first."""
        self.detach("the connection was lost as it began")  # of an attempt that failed later: it was never lost
        self._session = session
        self._next_tag = 1
        self.framing.attach(channel)
        channel.on_confirm = self._on_confirm
        channel.on_return = self._on_return
        self.flush_backlog()

    def detach(self, reason: CloseReason | str) -> None:
        """The session is gone: replies are kept, everything else is told."""
        self._session = None
        lost, self._unconfirmed = self._unconfirmed, {}
        error = ConnectionLost(str(reason))
        for publication in lost.values():
            if publication.until is None:
                publication.done(publication, self.framing.refusal(publication.data) or error, None)
            else:
                self._backlog.append(publication)
        self._check_flushed()

    def publish(self, publication: Publication) -> None:
        """Write it now, or, if it may be kept, as soon as that can be. Raises `NotSent` otherwise."""
        session = self._session
        if session is not None and not session.blocked and session.alive:
            self._unconfirmed[self._next_tag] = publication
            self._next_tag += 1
            session.protocol.write(publication.data)
        elif publication.until is not None:
            self._backlog.append(publication)
        else:
            raise NotSent(
                "the broker takes no messages" if session is not None and session.blocked else "not connected"
            )
        self._flushed.clear()

    def flush_backlog(self) -> None:
        """Publish what was kept, but for what nobody waits for any more, and what the broker is known not to take."""
        kept, self._backlog = self._backlog, deque()
        now = asyncio.get_running_loop().time()
        for publication in kept:
            if publication.until is not None and publication.until < now:
                publication.done(publication, None, None)
            elif refused := self.framing.refusal(publication.data):
                publication.done(publication, refused, None)
            else:
                self.publish(publication)
        self._check_flushed()

    async def flushed(self, timeout: float) -> bool:
        """Wait until everything is confirmed; False when time ran out."""
        try:
            async with asyncio.timeout(timeout):
                await self._flushed.wait()
        except TimeoutError:
            return False
        return True

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        if multiple:
            while self._unconfirmed and (first := next(iter(self._unconfirmed))) <= tag:
                self._settle(self._unconfirmed.pop(first), accepted)
        else:
            publication = self._unconfirmed.pop(tag, None)
            if publication is not None:
                self._settle(publication, accepted)
        self._check_flushed()

    def _settle(self, publication: Publication, accepted: bool) -> None:
        error = None if accepted else NotSent("the broker refused the message (nack): its queue is full or not well")
        publication.done(publication, error, publication.returned)

    def _on_return(self, method: ReturnMethod, properties: Properties) -> None:
        """Returns come before their confirms, in the order of publishing: the search ends near its beginning."""
        for publication in self._unconfirmed.values():
            if (
                publication.returned is None
                and publication.routing_key == method.routing_key
                and publication.correlation_id == properties.correlation_id
                and publication.message_id in ("", properties.message_id)
            ):
                publication.returned = method
                return

    def _check_flushed(self) -> None:
        if not self._unconfirmed and not self._backlog:
            self._flushed.set()
