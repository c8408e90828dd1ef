"""The seam: what a transport is. A transport carries messages and never opens a body.

Callbacks are plain calls that return at once; user code never runs in them. Everything a transport
cannot do stands in its `Capabilities`; a service that demands it is refused at start-up with a sentence.
Whoever writes a transport runs `rpckit.testing.conformance` against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

from rpckit.errors import RpcError
from rpckit.message import Message
from rpckit.url import Url

if TYPE_CHECKING:
    from rpckit.options import TransportOptions

__all__ = [
    "CONFIRM_S",
    "Capabilities",
    "Delivery",
    "Observed",
    "OnBegun",
    "OnDelivery",
    "OnGone",
    "OnMessage",
    "OnState",
    "OnUndelivered",
    "Receiver",
    "ReplyStore",
    "SessionInfo",
    "Sessions",
    "State",
    "Subscribed",
    "Transport",
    "TransportFactory",
    "TransportOptions",
    "begins",
    "sending_ends",
]

CONFIRM_S = 30.0  # seconds for the other side to take a message that has no time limit of its own

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """The base of options, once somebody asks for it: a model of pydantic takes long to make."""
        if name == "TransportOptions":
            from rpckit.options import TransportOptions

            return TransportOptions
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class State(StrEnum):
    """Where a transport's connection stands. Only `CONNECTED` takes messages."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"  # what was in flight is lost; it comes back by itself
    BLOCKED = "blocked"  # the broker takes nothing for now; what was sent is still answered
    CLOSED = "closed"  # for good: closed by us, or refused in a way that trying again cannot mend


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a transport promises.

    settles:            a delivery stays the broker's until it is settled.
    redelivers:         what a dead server left unsettled goes to another.
    keeps_unbegun:      so does what it had not begun, also where nothing may run twice.
    balances:           servers of one address share its work.
    persists:           idempotent calls outlive a restart of the broker.
    claims:             `begin` is a claim that only one server wins.
    queue_wait:         a call may wait in a queue for its server.
    knows_no_responder: an unserved address is reported at once.
    knows_caller_gone:  a reply to a caller that left is reported.
    orders:             requests of one caller arrive in the order sent.
    stores_replies:     a reply may wait for a caller that comes back later; see `ReplyStore`.
    sessions:           no broker: a server listens, clients dial it, and either side calls the other; see `Sessions`.
    event_groups:       an event reaches one member of each group, wherever the members run.
    event_patterns:     one may listen to a pattern of topics.
    foreign_topics:     the kinds of other programs' topics that it knows; see `rpckit.topics`.
    takes_begun:        where nothing may run twice, what is handed out may count as begun: no other server runs it, not
                        even if this one dies. So the prefetch is no more than can begin, which changes all the time.
    max_body:           bytes; None for no limit of the transport's own.
    """

    name: str
    settles: bool
    redelivers: bool
    keeps_unbegun: bool
    balances: bool
    persists: bool
    claims: bool
    queue_wait: bool
    knows_no_responder: bool
    knows_caller_gone: bool
    orders: bool
    max_body: int | None = None
    stores_replies: bool = False
    sessions: bool = False
    event_groups: bool = True
    event_patterns: bool = True
    foreign_topics: tuple[str, ...] = ()
    takes_begun: bool = False


class Delivery(Protocol):
    """One request handed to this process, until it is settled."""

    @property
    def message(self) -> Message: ...

    @property
    def redelivered(self) -> bool:
        """It was handed to a server before, and may have run there."""
        ...

    def begin(self, told: OnBegun, *, again: bool = False) -> None:
        """Asked before each start that may not happen twice, and before what was redelivered; `told` is called once.

        again: it was redelivered and may run twice. That claims nothing; but a transport that counts the servers that
        died over a request may count from here. Redis does; memory and RabbitMQ count deliveries.

        With True: start. False: somebody else has it; do not. An `RpcError`: it cannot be known, and was not begun.
        """
        ...

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        """Send the reply and settle; with `confirmed` only once the reply is as safe as the transport can make it.

        Raises `UsageError` for a message that can never be sent; nothing was written then.
        """
        ...

    def settle(self) -> None:
        """Done with it, without a reply."""
        ...

    def hand_back(self) -> None:
        """Not begun here: another server may run it, as if it had never been delivered."""
        ...

    def reject(self) -> None:
        """Nobody can ever run it: to the dead letters, where there are any."""
        ...


def sending_ends(message: Message, now: float) -> float:
    """The moment on the clock of `now` when a message is to be taken by the other side: one limit for all it takes."""
    return now + (message.seconds_left() or CONFIRM_S)


async def begins(delivery: Delivery, *, again: bool = False) -> bool:
    """Whether it is to be started. Raises `RpcError`."""
    outcome: asyncio.Future[bool | RpcError] = asyncio.get_running_loop().create_future()
    delivery.begin(lambda told: None if outcome.done() else outcome.set_result(told), again=again)
    answer = await outcome
    if isinstance(answer, bool):
        return answer
    raise answer


OnBegun = Callable[[bool | RpcError], None]
OnMessage = Callable[[Message], None]
OnDelivery = Callable[[Delivery], None]
OnState = Callable[[State, str], None]
OnUndelivered = Callable[[str, RpcError], None]
OnGone = Callable[[str], None]


class Receiver(Protocol):
    """Requests at one address. Survives reconnects."""

    def set_prefetch(self, prefetch: int) -> None:
        """At least this many deliveries may be unsettled at once from now on."""
        ...

    def pause(self) -> None:
        """No more deliveries for now; what was delivered stays."""
        ...

    def resume(self) -> None: ...

    async def stop(self) -> None:
        """No more deliveries, for good. What was delivered can still be settled."""
        ...


class Transport(Protocol):
    """A connection to one broker, kept alive until `close`.

    `Transport(url, options)` does no I/O. All of it runs in the event loop that called `connect`.
    """

    options_model: ClassVar[type[TransportOptions]]

    @property
    def options(self) -> TransportOptions: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def capabilities_at(self, address: str) -> Capabilities:
        """Of what is served there, where addresses differ."""
        ...

    @property
    def inbox(self) -> str:
        """Where this process can be reached now; a new one after each reconnect. Empty before `open_inbox`."""
        ...

    async def connect(self, *, serve: bool = False) -> None:
        """Connect, once. Raises `NotSent` when it cannot, `UsageError` when trying again cannot help.

        serve: this side serves: where there is no broker between, it listens.
        A connection lost later comes back by itself, as `on_state` tells.
        """
        ...

    async def close(self) -> None:
        """End everything this transport started. Unsettled deliveries go back. Twice is once."""
        ...

    def on_state(self, callback: OnState) -> None:
        """`callback(state, why)` at each change; `why` is a sentence without secrets."""
        ...

    def on_undelivered(self, callback: OnUndelivered) -> None:
        """`callback(correlation_id, error)` for a request that left and came back: it did not run."""
        ...

    def on_gone(self, callback: OnGone) -> None:
        """`callback(reply_to)` when a caller is found to have left."""
        ...

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        """Receive replies, faults and cancels addressed to this process. Raises `NotSent`, `ConnectionLost`.

        pending: the calls that wait for a reply, by whose number a transport may divide what it writes.
        """
        ...

    async def send(self, message: Message, *, must_be_served: bool = True) -> None:
        """Send a request, reply or fault to `message.address`.

        With a `reply_to` it returns when written; a refusal comes through `on_undelivered`. Without
        one it returns when the broker has it. `must_be_served=False` queues for a server to come.
        Raises `NotSent`, `NoResponder`, `ConnectionLost`; `OutcomeUnknown` when nobody says in its time, or in
        `CONFIRM_S`, that the broker has it; `UsageError` for what can never be sent. Cancelling is safe.
        """
        ...

    async def receive(
        self, address: str, on_delivery: OnDelivery, *, prefetch: int, at_most_once: bool = False
    ) -> Receiver:
        """Requests at `address`, at most `prefetch` of them unsettled.

        at_most_once: nothing there may run twice, so what is handed out may count as begun; see `takes_begun`.
        Raises `NotSent`, `ConnectionLost`; `UsageError` for an address that can never be served.
        """
        ...

    async def publish(self, topic: str, message: Message) -> None:
        """Tell everyone subscribed to `topic`; at most once, and to nobody when nobody listens.

        Raises `NotSent`; `UsageError` for what can never be told.
        """
        ...

    async def subscribe(self, topic: str, on_message: OnMessage, *, group: str = "") -> Receiver:
        """Every message published on `topic` from now on, or on a topic that it matches: see `rpckit.topics`.

        The message's address is the topic it was published on. Of the subscriptions to the same topic or pattern
        with the same `group`, one gets it. Raises `NotSent`, `ConnectionLost`, `UsageError`.
        """
        ...


class Observed:
    """A base for transports: keeps the callbacks of the seam, and calls them."""

    capabilities: Capabilities

    def __init__(self) -> None:
        self._on_state: list[OnState] = []
        self._on_undelivered: list[OnUndelivered] = []
        self._on_gone: list[OnGone] = []

    def on_state(self, callback: OnState) -> None:
        self._on_state.append(callback)

    def on_undelivered(self, callback: OnUndelivered) -> None:
        self._on_undelivered.append(callback)

    def on_gone(self, callback: OnGone) -> None:
        self._on_gone.append(callback)

    def capabilities_at(self, address: str) -> Capabilities:
        return self.capabilities

    def tell_state(self, state: State, why: str) -> None:
        for callback in self._on_state:
            callback(state, why)

    def tell_undelivered(self, correlation_id: str, error: RpcError) -> None:
        for callback in self._on_undelivered:
            callback(correlation_id, error)

    def tell_gone(self, reply_to: str) -> None:
        for callback in self._on_gone:
            callback(reply_to)


class Subscribed:
    """A base for subscriptions. What is published is not settled, so nothing limits it; paused, one hears nothing."""

    def __init__(self) -> None:
        self.paused = False

    def set_prefetch(self, prefetch: int) -> None: ...

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


class ReplyStore(Protocol):
    """What a transport that `stores_replies` has beyond `Transport`."""

    async def collect(self, address: str, timeout: float | None) -> Message:
        """Wait for the oldest reply at `address`, for `timeout` seconds, and take it away.

        Raises `DeadlineExceeded`, `ConnectionLost`; `UsageError` for an address where no replies are stored.
        Cancelled while it is being taken away, a reply is lost.
        """
        ...


class SessionInfo(Protocol):
    """One session as its transport knows it.

    id:      the reply address of the other side.   name: what it calls itself; empty when it says nothing.
    dialect: the form it speaks.                    headers: of its opening request, names in lower case.
    rtt:     seconds, of the last heartbeat it answered; None before the first.
    """

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def dialect(self) -> str: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def rtt(self) -> float | None: ...


class Sessions(Protocol):
    """What a transport with `sessions` has beyond `Transport`. A request names its session in `Message.to`."""

    @property
    def sessions(self) -> Mapping[str, SessionInfo]:
        """Those that are open, by id."""
        ...

    def on_session(self, callback: Callable[[SessionInfo, bool], None]) -> None:
        """`callback(session, True)` when one is open, and `False` when it is gone."""
        ...

    def end_session(self, session_id: str, reason: str = "") -> None:
        """Close one in good order."""
        ...


class TransportFactory(Protocol):
    """What an entry point of the group `rpckit.transports` names: usually the transport's class."""

    options_model: type[TransportOptions]

    def __call__(self, url: Url, options: TransportOptions) -> Transport: ...
