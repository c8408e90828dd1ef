"""Where sessions meet: requests to the receivers of their address, answers to the inbox, events to subscribers.

Invariant: a request taken is handed to a receiver once, held until it has its turn, or refused with an
answer; what a peer that leaves had waiting goes with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from rpckit.call import cancel_topic
from rpckit.errors import Code, ConnectionLost, RpcError, UsageError
from rpckit.fault import TOOLKIT, Fault, fault_message
from rpckit.ids import new_id
from rpckit.message import NATIVE, Kind, Message
from rpckit.topics import TopicTable, in_bounds, is_pattern, user_topic
from rpckit.transport import OnDelivery, OnGone, OnMessage, OnUndelivered

from ._dialect import Receipt, Settled, Subscribe, Undelivered, Unsubscribe
from ._link import Link
from ._options import JSONRPC, WebSocketOptions
from ._receiver import SessionReceiver, Subscription
from ._session import MAX_PATTERNS, MAX_TOPICS, Session
from ._wires import Wire

__all__ = ["Hub"]

log = logging.getLogger(__name__)

CANCELLED_S = 30.0  # seconds in which a cancelled call may still be answered
ENVELOPE = 16_384  # bytes of a message that are not its body, headers counted


class Hub:
    """The sessions of one transport. On the side that listens, events of one peer go to the others too."""

    def __init__(
        self, options: WebSocketOptions, *, on_undelivered: OnUndelivered, on_gone: OnGone, relays: bool
    ) -> None:
        self.options = options
        self.max_body = max(1, options.max_message - ENVELOPE)
        self.loop = asyncio.get_running_loop()
        self.links: dict[str, Link] = {}  # those that are open, by session id
        self.every: set[Link] = set()  # those that are not yet open as well
        self.empty = asyncio.Event()
        self.holding: dict[Link, None] = {}  # links with requests that wait, the next one first
        self.on_message: OnMessage | None = None
        self.on_link: Callable[[Link, bool, str], None] = _ignore
        self.tell_undelivered = on_undelivered
        self.tell_gone = on_gone
        self.relays = relays
        self._receivers: dict[str, SessionReceiver] = {}
        self._subscriptions: TopicTable[Subscription] = TopicTable()
        self._dealing = False

    # -- sessions come and go ---------------------------------------------------------------------

    def new_link(self, wire: Wire, headers: dict[str, str], *, dialled: bool = False) -> Link:
        """For a connection that is there; its session is yet to begin. headers: of the opening request."""
        options = self.options
        session = Session(
            new_id(),
            dialled=dialled,
            name=options.name,
            binary=dialled and options.binary,  # who listens answers in kind
            max_message=options.max_message,
        )
        link = Link(self, session, wire, headers)
        self.admit(link)
        return link

    def admit(self, link: Link) -> None:
        self.every.add(link)
        self.empty.clear()

    def joined(self, link: Link) -> None:
        self.links[link.id] = link
        for topic in self._subscriptions:
            if not self.relays:
                link.write_control(Subscribe(topic))
        self.on_link(link, True, "")

    def left(self, link: Link, why: str, *, was_open: bool) -> None:
        self.every.discard(link)
        if not self.every:
            self.empty.set()
        self.holding.pop(link, None)
        link.held.clear()
        if not was_open:
            return
        if self.links.get(link.id) is link:
            del self.links[link.id]
        sent, link.sent = link.sent, {}
        for correlation_id in sent:
            self.tell_undelivered(correlation_id, ConnectionLost(f"the session was lost: {why}"))
        self.tell_gone(link.id)
        self.on_link(link, False, why)

    # -- receiving ----------------------------------------------------------------------------------

    def receive(self, address: str, on_delivery: OnDelivery, prefetch: int) -> SessionReceiver:
        receiver = self._receivers[address] = SessionReceiver(self, address, on_delivery, prefetch)
        return receiver

    def forget(self, receiver: SessionReceiver) -> None:
        """It serves no more: what waits for it is refused."""
        if self._receivers.get(receiver.address) is receiver:
            del self._receivers[receiver.address]
        for link in list(self.holding):
            for message in link.held.drop_address(receiver.address):
                self._refuse(link, message)
            if not link.held:
                self.holding.pop(link, None)

    def take(self, link: Link, message: Message) -> None:
        """A message of a peer. Runs in a reader, so nothing here waits."""
        kind = message.kind
        if kind is Kind.REQUEST:
            receiver = self._receivers.get(message.address)
            if receiver is None:
                self._refuse(link, message)
                return
            message.to = link.id
            nested = message.depth > 0 and link.nested_has_turn(receiver.lent)
            if receiver.has_room and (nested or (link.has_turn and not link.held)):
                receiver.deliver(link, message, nested=nested)
            elif link.held.hold(message):
                self.holding[link] = None
            else:
                self._refuse_overloaded(link, message)
                return
            if not message.reply_to and message.message_id:
                link.write_control(Receipt(message.message_id))
        elif kind is Kind.EVENT:
            self._take_event(link, message)
        elif kind is Kind.CANCEL and message.address != link.id:
            self._cancel(link, message)
        else:
            link.sent.pop(message.correlation_id, None)
            if self.on_message is not None:
                message.address = link.id
                self.on_message(message)

    def _take_event(self, link: Link, message: Message) -> None:
        """Every pattern is tried on its topic: of what nobody may subscribe to, nobody hears."""
        topic = message.address
        if not in_bounds(topic):
            log.warning("dropped an event of %s: its topic has %d characters", link.name or link.id, len(topic))
            return
        self._hear(topic, message)
        if self.relays:
            self._push(topic, message, but=link)

    def deal(self) -> None:
        """Hand out what waits, a request of each peer in turn, as far as there is room."""
        if self._dealing:
            return
        self._dealing = True
        try:
            stuck = 0
            while (
                self.holding and stuck < len(self.holding) and any(each.has_room for each in self._receivers.values())
            ):
                link = next(iter(self.holding))
                del self.holding[link]
                stuck = 0 if self._deal_one(link) else stuck + 1
                if link.held:
                    self.holding[link] = None
        finally:
            self._dealing = False

    def _deal_one(self, link: Link) -> bool:
        """The request of a peer that is next, if it can go: one that a call of ours waits for, else the first one."""
        for nested in (True, False):
            message = link.held.first(nested=nested)
            receiver = self._receivers.get(message.address) if message is not None else None
            if receiver is None or not receiver.has_room:
                continue
            passes = nested and link.nested_has_turn(receiver.lent)
            if passes or link.has_turn:
                receiver.deliver(link, link.held.take_first(nested=nested), nested=passes)
                return True
        return False

    def _refuse(self, link: Link, message: Message) -> None:
        why = (
            f"nobody serves {message.address!r:.200} here"
            if message.address
            else f"the other side has no method {message.method!r:.200}"
        )
        if message.correlation_id:
            link.write_control(Undelivered(message.correlation_id, why))
        elif message.message_id:
            link.write_control(Receipt(message.message_id, why, Code.UNAVAILABLE.value))

    def _refuse_overloaded(self, link: Link, message: Message) -> None:
        text = f"{len(link.held)} requests of this peer wait here already"
        fault = Fault(Code.RESOURCE_EXHAUSTED, text, details={"retry_after": 1.0}, retryable=True, origin=TOOLKIT)
        if message.reply_to:
            try:
                link.write(fault_message(message, fault))
            except RpcError as error:
                log.info("a refusal was not sent: %s", error)
        elif message.message_id:
            link.write_control(Receipt(message.message_id, text, Code.RESOURCE_EXHAUSTED.value))

    def _cancel(self, link: Link, message: Message) -> None:
        if link.held.drop(message.correlation_id):
            link.write_control(Settled(message.correlation_id))
            if not link.held:
                self.holding.pop(link, None)
            self.deal()  # it may have stood before one that can go
            return
        topic = message.address
        if topic not in self._subscriptions:  # a dialect whose cancels name no address: each leads to one table
            topic = next((each for each in self._subscriptions if each.startswith(cancel_topic(""))), "")
        self._hear(topic, message)

    # -- publishing -----------------------------------------------------------------------------------

    def publish(self, topic: str, message: Message) -> None:
        """A cancel goes where its request went; everything else to whoever wants it."""
        if message.kind is Kind.CANCEL:
            for link in self.links.values():
                if message.correlation_id in link.sent:
                    if link.dialect == NATIVE:  # the others answer it all the same
                        link.sent.pop(message.correlation_id, None)
                    elif link.dialect == JSONRPC:  # if its program knows of cancels
                        until = self.loop.time() + CANCELLED_S
                        link.sent[message.correlation_id] = min(link.sent[message.correlation_id], until)
                    link.cancel(topic, message)
                    return
        if not self.relays:
            for link in list(self.links.values()):
                link.event(topic, message)
            return
        self._push(topic, message, but=None)
        self._hear(topic, message)

    async def subscribe(self, topic: str, on_message: OnMessage) -> Subscription:
        """Returns when the other side knows of it, on the side that dials. Raises `UsageError` for one too many."""
        if not self.relays:
            self._check_room(topic)
        subscription = Subscription(self, topic, on_message)
        self._subscriptions.add(topic, subscription)
        if self.relays:
            return subscription
        try:
            for link in list(self.links.values()):
                link.write_control(Subscribe(topic))
                await link.caught_up()
        except BaseException:
            self.unsubscribe(subscription)
            raise
        return subscription

    def _check_room(self, topic: str) -> None:
        """The other side passes over what is beyond its limits."""
        topics = {*self._subscriptions, topic}
        patterns = sum(map(is_pattern, topics))
        if len(topics) > MAX_TOPICS or patterns > MAX_PATTERNS:
            raise UsageError(
                f"{user_topic(topic)!r} is one too many: a session hears {MAX_TOPICS} topics, and {MAX_PATTERNS} "
                "patterns among them; a wider pattern may take the place of several"
            )

    def unsubscribe(self, subscription: Subscription) -> None:
        if self._subscriptions.remove(subscription.topic, subscription) and not self.relays:
            for link in list(self.links.values()):
                link.write_control(Unsubscribe(subscription.topic))

    def _hear(self, topic: str, message: Message) -> None:
        for subscriptions in self._subscriptions.hearing(topic):
            for subscription in list(subscriptions):
                subscription.hear(message)

    def _push(self, topic: str, message: Message, *, but: Link | None) -> None:
        for link in list(self.links.values()):
            if link is not but and link.wants(topic):
                try:
                    link.event(topic, message)
                except RpcError as error:  # this peer's trouble, and neither the publisher's nor the others'
                    log.warning("an event on %.200s was not sent to %s: %s", topic, link.name or link.id, error)

    # -- keeping ----------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """Look after every session, four times in a heartbeat."""
        heartbeat = self.options.heartbeat
        while True:
            began = self.loop.time()
            await asyncio.sleep(heartbeat / 4)
            now = self.loop.time()
            for link in list(self.every):
                if now - began > heartbeat / 2:
                    link.slept(now)
                _look(link, now, heartbeat)


def _look(link: Link, now: float, heartbeat: float) -> None:
    """What is wrong with one session ends that one: the others are still looked after."""
    try:
        link.look(now, heartbeat)
    except Exception as error:
        log.exception("the session of %s is lost: it could not be looked after", link.name or link.id)
        link.lose(f"it could not be looked after: {error!r:.200}")


def _ignore(*_: object) -> None:
    """Nobody wants to know."""
