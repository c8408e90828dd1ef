"""Redis as a transport: the seam on one main connection and one for each address that is read by waiting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Sequence, Sized
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, cast

import hiredis

from rpckit.errors import BadReply, NotSent, RpcError, UsageError
from rpckit.message import Kind, Message
from rpckit.transport import (
    Capabilities,
    Observed,
    OnDelivery,
    OnMessage,
    State,
    TransportOptions,
)
from rpckit.url import Host, Url

from ._channels import Channels
from ._connection import Connection, Session, Target
from ._embedded import EmbeddedRedis, is_embedded
from ._envelope import EnvelopeError, read
from ._keys import PlaceKind, consumer_key, place_of, topic_place
from ._lists import ListReceiver, PoppingReceiver
from ._options import RedisOptions
from ._pulling import PullingReceiver
from ._replier import Replier
from ._requester import Requester
from ._sentinel import find_master, is_sentinel, service_of
from ._stored import collect
from ._streams import StreamReceiver, TakingReceiver
from ._subscribers import ChannelReceiver
from ._topics import Subscription

__all__ = ["CAPABILITIES", "RedisTransport"]

log = logging.getLogger(__name__)

BEAT_EVERY_S = 1.0  # seconds between two signs of life of a server
FLUSH_S = 2.0  # seconds for Redis to read what was written last, when closing

_QUEUED = Capabilities(
    name="redis+stream",
    settles=True,
    redelivers=True,
    keeps_unbegun=True,
    takes_begun=True,
    balances=True,
    persists=False,
    claims=True,
    queue_wait=True,
    knows_no_responder=True,
    knows_caller_gone=True,
    orders=True,
    stores_replies=True,
    foreign_topics=("channel",),
)
CAPABILITIES = {
    PlaceKind.STREAM: _QUEUED,
    PlaceKind.LIST: replace(_QUEUED, name="redis+list", keeps_unbegun=False),
    PlaceKind.CHANNEL: replace(
        _QUEUED,
        name="redis+pubsub",
        settles=False,
        redelivers=False,
        keeps_unbegun=False,
        takes_begun=False,
        balances=False,
        queue_wait=False,
    ),
}
_KINDS = {"stream": PlaceKind.STREAM, "list": PlaceKind.LIST, "pubsub": PlaceKind.CHANNEL}

AnyReceiver = StreamReceiver | ListReceiver | ChannelReceiver


class RedisTransport(Observed):
    """`redis+stream://`, `redis+list://`, `redis+pubsub://`: where addresses without a prefix are."""

    options_model: ClassVar[type[TransportOptions]] = RedisOptions

    def __init__(self, url: Url, options: TransportOptions) -> None:
        super().__init__()
        self.options = cast(RedisOptions, options)
        self.url = url
        self.kind = _KINDS.get(url.scheme.rpartition("+")[2], PlaceKind.STREAM)
        self.capabilities = CAPABILITIES[self.kind]
        if self.kind is PlaceKind.CHANNEL and self.options.share == "broadcast":
            self.capabilities = replace(self.capabilities, claims=False)
        self._database = _database_of(url)
        self._channels = Channels()
        self._replier = Replier(on_gone=self.tell_gone)
        self._requester = Requester(
            self.kind, self._channels, database=self._database, on_undelivered=self.tell_undelivered
        )
        self._embedded = EmbeddedRedis() if is_embedded(url) else None
        self._connection = Connection(
            url,
            self.options,
            database=self._database,
            prepare=self._prepare,
            on_state=self._connection_state,
            locate=self._locate,
        )
        self._receivers: list[AnyReceiver] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None
        self._reap_now = asyncio.Event()
        self._serving_in: Session | None = None
        self._warned = False
        self._serves = False
        self._closed = False

    def capabilities_at(self, address: str) -> Capabilities:
        kind = place_of(address, self.kind).kind
        return self.capabilities if kind is self.kind else CAPABILITIES[kind]

    @property
    def inbox(self) -> str:
        return self._requester.inbox

    async def connect(self, *, serve: bool = False) -> None:
        self._serves = serve
        await self._connection.open()

    async def close(self) -> None:
        """Redis has read what was written before it returns, if it does so within `FLUSH_S`."""
        if self._closed:
            return
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for receiver in self._receivers:
            if isinstance(receiver, PullingReceiver):
                receiver.abandon_all()
        try:
            await self._flush()
        finally:
            await self._connection.close()
            if self._embedded is not None:
                await asyncio.to_thread(self._embedded.stop)

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        await self._requester.open_inbox(on_message, pending)

    def send(self, message: Message, *, must_be_served: bool = True) -> Coroutine[Any, Any, None]:
        return self._requester.send(message, must_be_served=must_be_served)

    async def collect(self, address: str, timeout: float | None) -> Message:
        session = self._connection.session
        if session is None:
            raise NotSent(f"{self.url} is {self._connection.state}")
        data = await collect(session, address, timeout)
        try:
            return read(data, address, Kind.REPLY)
        except EnvelopeError as error:
            raise BadReply(f"the reply at {address!r} cannot be read: {error}") from error

    async def publish(self, topic: str, message: Message) -> None:
        await self._requester.publish(topic, message)

    async def receive(
        self, address: str, on_delivery: OnDelivery, *, prefetch: int, at_most_once: bool = False
    ) -> AnyReceiver:
        place = place_of(address, self.kind, self._database)
        parts = (place, address, on_delivery, prefetch, self._replier, self._channels)
        receiver: AnyReceiver
        if place.kind is PlaceKind.CHANNEL:
            receiver = ChannelReceiver(*parts, broadcast=self.options.share == "broadcast")
        else:
            pulling = _pulling(place.kind, at_most_once)
            receiver = pulling(*parts, own=self._own, reap_soon=self._reap_now.set)
        session = self._connection.session
        if session is None:
            raise NotSent(f"{self.url} is {self._connection.state}")
        await self._attach(receiver, session)
        self._receivers.append(receiver)
        return receiver

    async def subscribe(self, topic: str, on_message: OnMessage, *, group: str = "") -> Subscription:
        subscription = Subscription(self._channels, topic, topic_place(topic, self._database), on_message, group)
        await subscription.start()
        if group:
            self._ensure_beating()
        return subscription

    async def _locate(self) -> Sequence[Target]:
        """Where to dial. The embedded broker is started if this side serves and there is none."""
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.start if self._serves else self._embedded.attach)
            return [str(self._embedded.path)]
        if is_sentinel(self.url):
            return [await find_master(self.url, self.options.sentinel_password)]
        if self.options.unix:
            return [self.options.unix]
        return self.url.hosts or (Host("localhost"),)

    async def _flush(self) -> None:
        """Until Redis has read what was written: it may not leave any more once our event loop has ended."""
        session = self._connection.session
        if session is not None and session.main.awaiting:
            with suppress(RpcError, hiredis.ReplyError, TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await session.main.ask("PING")

    async def _prepare(self, session: Session) -> None:
        """Before it counts as connected: subscriptions, the inbox, the receivers, the replies left over."""
        for receiver in self._receivers:
            if isinstance(receiver, ChannelReceiver):
                await receiver.announce(session)
        await self._channels.attach(session)
        await self._requester.attach(session)
        for receiver in self._receivers:
            await self._attach(receiver, session)
        self._replier.attach(session)

    async def _attach(self, receiver: AnyReceiver, session: Session) -> None:
        if isinstance(receiver, PullingReceiver) and self._serving_in is not session:
            self._serving_in = session
            await session.main.subscribe(consumer_key(session.consumer))
            await self._warn_of_eviction(session)
        await receiver.attach(session)
        self._ensure_beating()

    def _ensure_beating(self) -> None:
        if self._beating is None or self._beating.done():
            self._beating = self._own(self._beat())

    async def _warn_of_eviction(self, session: Session) -> None:
        """Once: a Redis that is full should refuse requests, not forget those that wait."""
        if self._warned:
            return
        self._warned = True
        with suppress(hiredis.ReplyError):  # INFO may be forbidden
            memory = (await session.main.ask("INFO", "memory")).decode()
            policy = memory.partition("maxmemory_policy:")[2].partition("\r")[0]
            if policy not in ("", "noeviction"):
                log.warning(
                    "%s evicts keys when it is full (%s): requests may be lost; set noeviction", self.url, policy
                )

    async def _beat(self) -> None:
        """Once a second a look around at each address, or a PING.

        At once after a request that must run alone. The answer says how old what is read can be at most.
        """
        while True:
            try:
                async with asyncio.timeout(BEAT_EVERY_S):
                    await self._reap_now.wait()
            except TimeoutError:
                pass
            self._reap_now.clear()
            session = self._connection.session
            if session is None:
                continue
            asked_at = session.main.loop.time()
            try:
                if self._receivers:
                    await asyncio.gather(*(receiver.look_around(session) for receiver in self._receivers))
                else:
                    await session.main.ask("PING")
                session.fresh_since = asked_at
                if session.main.loop.time() - asked_at > BEAT_EVERY_S:
                    self._reap_now.set()  # so late an answer says little
            except (RpcError, hiredis.ReplyError) as error:  # the connection is gone; attaching again reaps
                log.debug("looking for abandoned requests: %s", error)

    def _connection_state(self, state: State, why: str) -> None:
        if state is State.RECONNECTING:
            self._channels.detach()
            self._requester.detach()
            self._replier.detach()
        self.tell_state(state, why)

    def _own(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """A task that ends with this transport; should it fail, nothing would be read any more, so we dial again."""
        task = cast("asyncio.Task[None]", asyncio.ensure_future(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        log.error("a task of the transport failed; it connects anew", exc_info=task.exception())
        if self._connection.session is not None:
            self._connection.session.abort(f"a task of the transport failed: {task.exception()}")


def _database_of(url: Url) -> int:
    """The number in a URL's path; 0 without one. Raises `UsageError`."""
    path = service_of(url)[1] if is_sentinel(url) else url.path or ""
    if path and not path.isdecimal():
        raise UsageError(f"the path of a Redis URL is the number of a database, such as /0; not {path!r:.60}")
    return int(path or 0)


def _pulling(kind: PlaceKind, at_most_once: bool) -> type[StreamReceiver | ListReceiver]:
    if kind is PlaceKind.STREAM:
        return TakingReceiver if at_most_once else StreamReceiver
    return PoppingReceiver if at_most_once else ListReceiver
