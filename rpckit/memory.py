"""The memory transport: the reference reading of `rpckit.transport`, and what users test with.

`memory://name` names a broker of this process: clients and servers with the same name meet. It has
prefetch, redelivery, dead letters and expiry on a clock that a test may own. A broker lives as
long as somebody is connected to it or holds it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from typing import ClassVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from rpckit.errors import NoResponder, NotSent, UsageError
from rpckit.ids import new_id
from rpckit.message import Message
from rpckit.topics import TopicTable
from rpckit.transport import (
    Capabilities,
    Observed,
    OnBegun,
    OnDelivery,
    OnMessage,
    State,
    Subscribed,
    TransportOptions,
)
from rpckit.url import Url

__all__ = ["MAX_DELIVERIES", "MAX_QUEUE", "MemoryBroker", "MemoryTransport"]

MAX_DELIVERIES = 20  # RabbitMQ's default delivery limit of quorum queues
MAX_QUEUE = 65_536  # messages waiting at one address; then NotSent
MAX_DEAD_LETTERS = 1_000  # an address; the oldest leave

CAPABILITIES = Capabilities(
    name="memory",
    settles=True,
    redelivers=True,
    keeps_unbegun=True,
    balances=True,
    persists=False,
    claims=True,
    queue_wait=True,
    knows_no_responder=True,
    knows_caller_gone=True,
    orders=True,
)


@dataclass(slots=True, eq=False)
class _Queued:
    message: Message
    expires_at: float | None
    serial: int
    deliveries: int = 0
    redelivered: bool = False


class MemoryBroker:
    """Queues, inboxes and topics of one name. `clock()` is in seconds; the event loop's unless given."""

    _named: ClassVar[WeakValueDictionary[str, MemoryBroker]] = WeakValueDictionary()

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._queues: dict[str, _Queue] = {}
        self.inboxes: dict[str, OnMessage] = {}
        self.topics: TopicTable[_MemorySubscription] = TopicTable()
        self.dead_letters: dict[str, deque[Message]] = {}
        self.next_serial = itertools.count().__next__
        self._loops: WeakKeyDictionary[MemoryTransport, asyncio.AbstractEventLoop] = WeakKeyDictionary()

    @classmethod
    def named(cls, name: str) -> MemoryBroker:
        broker = cls._named.get(name)
        if broker is None:
            broker = cls._named[name] = cls()
        return broker

    @classmethod
    def register(cls, name: str, broker: MemoryBroker) -> None:
        """Make `memory://name` mean this broker, as long as you hold it."""
        cls._named[name] = broker

    def join(self, transport: MemoryTransport) -> None:
        """Raises `UsageError` for a second event loop: what comes from another thread does not wake it."""
        loop = asyncio.get_running_loop()
        if any(other is not loop and other.is_running() for other in self._loops.values()):
            raise UsageError(
                f"{transport.url} is in use in another thread's event loop: memory:// is for one; share one "
                "BlockingClient among the threads, and enter the server in it, or use a broker"
            )
        self._loops[transport] = loop

    def leave(self, transport: MemoryTransport) -> None:
        self._loops.pop(transport, None)

    def now(self) -> float:
        return self._clock() if self._clock else asyncio.get_running_loop().time()

    def queue(self, address: str) -> _Queue:
        queue = self._queues.get(address)
        if queue is None:
            queue = self._queues[address] = _Queue(address, self)
        return queue

    def depth(self, address: str) -> int:
        """Messages waiting at an address, delivered ones not counted."""
        return len(self._queues[address].waiting) if address in self._queues else 0

    def served(self, address: str) -> bool:
        return address in self._queues and bool(self._queues[address].receivers)

    def listeners(self, topic: str) -> list[_MemorySubscription]:
        """Who hears the next message: all without a group, and of each group the one whose turn it is."""
        return [each for subscriptions in self.topics.hearing(topic) for each in _whose_turn(subscriptions)]

    def bury(self, address: str, message: Message) -> None:
        self.dead_letters.setdefault(address, deque(maxlen=MAX_DEAD_LETTERS)).append(message)

    def forget_if_idle(self, address: str) -> None:
        queue = self._queues.get(address)
        if queue is not None and not queue.receivers and not queue.waiting:
            del self._queues[address]


def _whose_turn(subscriptions: list[_MemorySubscription]) -> list[_MemorySubscription]:
    """Of those to one topic or pattern."""
    chosen: list[_MemorySubscription] = []
    served: set[str] = set()
    for subscription in list(subscriptions):
        if not subscription.listening or subscription.group in served:
            continue
        chosen.append(subscription)
        if subscription.group:
            served.add(subscription.group)
            subscriptions.remove(subscription)  # to the end: the others of its group have their turn first
            subscriptions.append(subscription)
    return chosen


class _Queue:
    """Messages waiting at an address, dealt in turn to receivers that have room."""

    def __init__(self, address: str, broker: MemoryBroker) -> None:
        self.address = address
        self.broker = broker
        self.waiting: deque[_Queued] = deque()
        self.receivers: deque[_MemoryReceiver] = deque()

    def put(self, message: Message) -> None:
        if len(self.waiting) >= MAX_QUEUE:
            raise NotSent(f"the queue {self.address!r} is full ({MAX_QUEUE} messages)")
        left = message.time_left_ms
        expires_at = None if left is None else self.broker.now() + left / 1000
        self.waiting.append(_Queued(replace(message), expires_at, self.broker.next_serial()))
        self.deal()

    def put_back(self, queued: _Queued, *, redelivered: bool) -> None:
        """To its old place: redelivered after a loss, or as if never delivered when handed back."""
        if redelivered and queued.deliveries >= MAX_DELIVERIES:
            self.broker.bury(self.address, queued.message)
            return
        queued.redelivered = queued.redelivered or redelivered
        queued.deliveries -= 0 if redelivered else 1
        queue = self.broker.queue(self.address)  # this one may be forgotten: its last receiver has stopped
        behind = (at for at, other in enumerate(queue.waiting) if other.serial > queued.serial)
        queue.waiting.insert(next(behind, len(queue.waiting)), queued)
        queue.deal()

    def deal(self) -> None:
        while self.waiting:
            receiver = self._next_receiver()
            if receiver is None:
                return
            queued = self.waiting.popleft()
            if queued.expires_at is None or queued.expires_at > self.broker.now():
                queued.deliveries += 1
                receiver.deliver(queued)

    def _next_receiver(self) -> _MemoryReceiver | None:
        for _ in range(len(self.receivers)):
            receiver = self.receivers[0]
            self.receivers.rotate(-1)
            if receiver.has_room:
                return receiver
        return None


class _MemoryReceiver:
    def __init__(self, queue: _Queue, on_delivery: OnDelivery, prefetch: int, transport: MemoryTransport) -> None:
        self.queue = queue
        self.transport = transport
        self.unsettled: dict[int, _MemoryDelivery] = {}
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._paused = False
        self._stopped = False

    @property
    def has_room(self) -> bool:
        return not self._paused and len(self.unsettled) < self._prefetch

    def deliver(self, queued: _Queued) -> None:
        delivery = _MemoryDelivery(queued, self)
        self.unsettled[id(delivery)] = delivery
        asyncio.get_running_loop().call_soon(self._hand_over, delivery)

    def _hand_over(self, delivery: _MemoryDelivery) -> None:
        if delivery.open:
            self._on_delivery(delivery)

    def set_prefetch(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self.queue.deal()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.queue.deal()

    async def stop(self) -> None:
        self.detach()
        await asyncio.sleep(0)  # what was already on its way is handed over before this returns

    def detach(self) -> None:
        self._paused = self._stopped = True
        if self in self.queue.receivers:
            self.queue.receivers.remove(self)
        if not self.unsettled:  # otherwise the transport still has to put that back when it closes
            self.transport.receivers.discard(self)
        self.queue.broker.forget_if_idle(self.queue.address)

    def attach(self) -> None:
        if self._stopped:
            return
        self.queue = self.transport.broker.queue(self.queue.address)
        self.queue.receivers.append(self)
        self.transport.receivers.add(self)
        self.resume()

    def lose(self) -> None:
        """The connection is gone: what is unsettled goes back, in order, marked as redelivered."""
        for delivery in reversed(self.unsettled.values()):
            if not delivery.claimed:
                delivery.open = False
                self.queue.put_back(delivery.queued, redelivered=True)
        self.unsettled.clear()


class _MemoryDelivery:
    """Begun, it is claimed: after a loss nobody else gets it, and its reply still goes out from here."""

    __slots__ = ("_receiver", "claimed", "message", "open", "queued")

    def __init__(self, queued: _Queued, receiver: _MemoryReceiver) -> None:
        self.queued = queued
        self.message = replace(queued.message)
        self.open = True
        self.claimed = False
        self._receiver = receiver

    @property
    def redelivered(self) -> bool:
        return self.queued.redelivered

    def begin(self, told: OnBegun, *, again: bool = False) -> None:
        self.claimed = self.open and not again
        told(self.open)

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        self._receiver.transport.route_reply(message)
        self.settle()

    def settle(self) -> None:
        if self._close():
            self._receiver.queue.deal()

    def hand_back(self) -> None:
        if self._close():
            self._receiver.queue.put_back(self.queued, redelivered=False)

    def reject(self) -> None:
        if self._close():
            self._receiver.queue.broker.bury(self._receiver.queue.address, self.message)
            self._receiver.queue.deal()

    def _close(self) -> bool:
        was_open, self.open = self.open, False
        self._receiver.unsettled.pop(id(self), None)
        return was_open


class _MemorySubscription(Subscribed):
    def __init__(self, transport: MemoryTransport, topic: str, on_message: OnMessage, group: str) -> None:
        super().__init__()
        self.group = group
        self._transport = transport
        self._topic = topic
        self._on_message = on_message
        self._stopped = False
        transport.broker.topics.add(topic, self)

    @property
    def listening(self) -> bool:
        return not self.paused and self._transport.hears

    def deliver(self, message: Message) -> None:
        if not self._stopped:
            self._on_message(message)

    async def stop(self) -> None:
        self._transport.broker.topics.remove(self._topic, self)
        await asyncio.sleep(0)  # what was already on its way is handed over before this returns
        self._stopped = True


class MemoryTransport(Observed):
    """One connection to a `MemoryBroker`."""

    options_model: ClassVar[type[TransportOptions]] = TransportOptions
    capabilities = CAPABILITIES

    def __init__(self, url: Url, options: TransportOptions) -> None:
        super().__init__()
        self.url = url
        self.options = options
        self.broker = MemoryBroker.named(str(url.hosts[0]) if url.hosts else "")
        self.receivers: set[_MemoryReceiver] = set()
        self.inbox = ""
        self._subscriptions: list[_MemorySubscription] = []
        self._on_message: OnMessage | None = None
        self._state = State.CONNECTING
        self._dropped = False

    async def connect(self, *, serve: bool = False) -> None:
        self.broker.join(self)
        self._enter(State.CONNECTED, "connected")

    async def close(self) -> None:
        if self._state is State.CLOSED:
            return
        self._leave_broker()
        self.broker.leave(self)
        for receiver in list(self.receivers):
            receiver.detach()
        for subscription in self._subscriptions:
            await subscription.stop()
        self._enter(State.CLOSED, "closed by this process")

    def drop(self, why: str = "dropped by the test") -> None:
        """Lose the connection, as a broker's restart would; it stays away until `restore`."""
        receivers = list(self.receivers)
        self._leave_broker()
        for receiver in receivers:
            if receiver in receiver.queue.receivers:
                receiver.queue.receivers.remove(receiver)
        self._dropped = True
        self._enter(State.RECONNECTING, why)

    def restore(self) -> None:
        """Come back after `drop`: a new inbox, the same receivers. After `block` alone nothing was lost."""
        if self._dropped:
            self._dropped = False
            self._open_inbox()
            for receiver in list(self.receivers):
                receiver.attach()
        self._enter(State.CONNECTED, "connected again")

    def block(self, why: str = "blocked by the test") -> None:
        """Take no more messages until `restore`, as a broker short of memory would."""
        self._enter(State.BLOCKED, why)

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        self._on_message = on_message
        self._open_inbox()

    async def send(self, message: Message, *, must_be_served: bool = True) -> None:
        self._check_connected()
        if message.address in self.broker.inboxes:
            self.route_reply(message)
            return
        if must_be_served and not self.broker.served(message.address):
            error = NoResponder(f"nobody serves {message.address!r} in this process")
            error.add_note("memory:// is inside one process: no server of another one can be reached. Use a broker.")
            raise error
        self.broker.queue(message.address).put(message)

    async def receive(
        self, address: str, on_delivery: OnDelivery, *, prefetch: int, at_most_once: bool = False
    ) -> _MemoryReceiver:
        self._check_connected()
        receiver = _MemoryReceiver(self.broker.queue(address), on_delivery, prefetch, self)
        receiver.attach()
        return receiver

    async def publish(self, topic: str, message: Message) -> None:
        self._check_connected()
        for subscription in self.broker.listeners(topic):
            asyncio.get_running_loop().call_soon(subscription.deliver, replace(message))

    async def subscribe(self, topic: str, on_message: OnMessage, *, group: str = "") -> _MemorySubscription:
        subscription = _MemorySubscription(self, topic, on_message, group)
        self._subscriptions.append(subscription)
        return subscription

    @property
    def hears(self) -> bool:
        """Whether what is published now arrives here: a broker that takes nothing still delivers."""
        return self._state in (State.CONNECTED, State.BLOCKED)

    def route_reply(self, message: Message) -> None:
        """To the caller's inbox; an inbox that is gone is told to `on_gone`."""
        if not message.address:
            return
        on_message = self.broker.inboxes.get(message.address)
        if on_message is not None:
            asyncio.get_running_loop().call_soon(on_message, replace(message))
            return
        self.tell_gone(message.address)

    def _check_connected(self) -> None:
        if self._state is not State.CONNECTED:
            raise NotSent(f"memory transport is {self._state}")

    def _open_inbox(self) -> None:
        if self._on_message is None:
            return
        if self.inbox:
            self.broker.inboxes.pop(self.inbox, None)
        self.inbox = f"inbox.{new_id()}"
        self.broker.inboxes[self.inbox] = self._on_message

    def _leave_broker(self) -> None:
        self.broker.inboxes.pop(self.inbox, None)
        self.inbox = ""
        for receiver in list(self.receivers):
            receiver.pause()
            receiver.lose()

    def _enter(self, state: State, why: str) -> None:
        self._state = state
        self.tell_state(state, why)
