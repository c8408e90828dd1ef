"""Publishing with confirms: each message ends in a confirm, a return, or the loss of the connection.

Replies outlive a lost connection: those not confirmed are published again on the next one, until
their caller has stopped waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from rpckit.errors import ConnectionLost, NotSent, RpcError
from rpckit.message import Message

from ._connection import Session
from ._driver import CloseReason
from ._frames import Properties, ReturnMethod, content_frames, publish_frame, raw_content_frames
from ._mapping import to_properties

__all__ = ["Publication", "Publisher"]

MAX_ROUTES = 4096  # publish frames remembered; then forgotten all at once
REPLY_KEPT_S = 30.0  # seconds a reply is kept for a caller that set no deadline

Done = Callable[["Publication", RpcError | None, ReturnMethod | None], None]


class Publication:
    """One message on its way. `done(publication, error, returned)` is called exactly once."""

    __slots__ = ("correlation_id", "data", "done", "message_id", "owner", "returned", "routing_key", "until")

    def __init__(self, data: bytes, routing_key: str, done: Done, owner: object = None) -> None:
        self.data = data
        self.routing_key = routing_key
        self.done = done
        self.owner = owner
        self.correlation_id = ""
        self.message_id = ""
        self.returned: ReturnMethod | None = None
        self.until: float | None = None  # republish until then after a loss; None: never


class Publisher:
    """The outgoing half of a connection's data channel, over all its sessions."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._channel_id = 0
        self._frame_max = 0
        self._next_tag = 1
        self._unconfirmed: dict[int, Publication] = {}
        self._backlog: deque[Publication] = deque()
        self._routes: dict[tuple[str, str, bool], bytes] = {}
        self._flushed = asyncio.Event()
        self._flushed.set()

    def __len__(self) -> int:
        return len(self._unconfirmed) + len(self._backlog)

    def attach(self, session: Session) -> None:
        """A new session: its tags begin at 1, and the replies left over go out first."""
        self._session = session
        self._channel_id = session.data.channel_id
        self._frame_max = session.protocol.server_frame_max or 131_072
        self._next_tag = 1
        self._routes.clear()
        session.data.on_confirm = self._on_confirm
        session.data.on_return = self._on_return
        self.flush_backlog()

    def detach(self, reason: CloseReason | str) -> None:
        """The session is gone: replies are kept, everything else is told."""
        self._session = None
        lost, self._unconfirmed = self._unconfirmed, {}
        error = ConnectionLost(str(reason))
        for publication in lost.values():
            if publication.until is None:
                publication.done(publication, error, None)
            else:
                self._backlog.append(publication)
        self._check_flushed()

    def prepare(self, message: Message, done: Done, *, mandatory: bool, exchange: str = "") -> Publication:
        """Lay out a message, completely. Raises `UsageError` for what does not fit."""
        data = self._route(exchange, message.address, mandatory) + content_frames(
            self._channel_id, to_properties(message), message.body, self._frame_max or 131_072
        )
        publication = Publication(data, message.address, done)
        publication.correlation_id = message.correlation_id
        publication.message_id = message.message_id
        return publication

    def prepare_copy(self, address: str, property_list: bytes, body: bytes, done: Done) -> Publication:
        """The same message once more, to the letter."""
        data = self._route("", address, True) + raw_content_frames(
            self._channel_id, property_list, body, self._frame_max or 131_072
        )
        return Publication(data, address, done)

    def publish(self, publication: Publication) -> None:
        """Write it now, or as soon as there is a session again if it may be kept. Raises `NotSent` otherwise."""
        session = self._session
        if session is None or session.blocked or not session.alive:
            if publication.until is None:
                raise NotSent(
                    "not connected"
                    if session is None or not session.alive
                    else "the broker takes no messages"
                )
            self._backlog.append(publication)
        else:
            self._unconfirmed[self._next_tag] = publication
            self._next_tag += 1
            session.protocol.write(publication.data)
        if self._flushed.is_set():
            self._flushed.clear()

    def flush_backlog(self) -> None:
        """Publish what was kept, but for what nobody waits for any more."""
        kept, self._backlog = self._backlog, deque()
        now = asyncio.get_running_loop().time()
        for publication in kept:
            if publication.until is not None and publication.until < now:
                publication.done(publication, None, None)
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

    def _route(self, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        key = (exchange, routing_key, mandatory)
        frame = self._routes.get(key)
        if frame is None:
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            frame = self._routes[key] = publish_frame(
                self._channel_id, exchange, routing_key, mandatory=mandatory
            )
        return frame

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        if multiple:
            while self._unconfirmed and (first := next(iter(self._unconfirmed))) <= tag:
                self._settle(self._unconfirmed.pop(first), accepted)
        else:
            publication = self._unconfirmed.pop(tag, None)
            if publication is not None:
                self._settle(publication, accepted)
        if not self._unconfirmed:
            self._check_flushed()

    def _settle(self, publication: Publication, accepted: bool) -> None:
        error = (
            None
            if accepted
            else NotSent("the broker refused the message (nack): its queue is full or not well")
        )
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
