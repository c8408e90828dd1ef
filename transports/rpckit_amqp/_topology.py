"""Every exchange and queue as data: name, type, lifetime, who creates it, who deletes it.

| name                       | what                          | lives as long as | made by              | deleted by |
|----------------------------|-------------------------------|------------------|----------------------|------------|
| `<address>`                | requests, durable             | for ever         | server, waiting call | operator   |
| `rpckit.inbox.<128 bits>`  | a client's replies, exclusive | its connection   | client               | broker     |
| `rpckit.events.<128 bits>` | one subscriber, exclusive     | its connection   | subscriber           | broker     |
| `rpckit.group.<n>.<g>.<t>` | a group on a topic, durable   | 10 s unused      | its members          | broker     |
| `rpckit.events`            | topic exchange, durable       | for ever         | whoever is first     | operator   |
| `<foreign>`                | exchange, not durable         | till a restart   | whoever is first     | operator   |

`<foreign>` is the NAME of a topic `fanout:NAME`, `direct:NAME/KEY` or `topic:NAME/KEY`; used as it is if it exists.
`<n>` is the length of the group's name `<g>`, `<t>` the topic; a name that would be too long, or have a star in it, is
its SHA-256 instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

from rpckit.errors import UsageError
from rpckit.topics import foreign_topic

__all__ = [
    "BUNDLE_INBOXES",
    "DIRECT_REPLY_TO",
    "EVENTS",
    "Declare",
    "ExchangeSpec",
    "QueueSpec",
    "Route",
    "events_queue",
    "group_queue",
    "reply_queue",
    "request_queue",
]

GROUP_IDLE_MS = 10_000  # x-expires: outlives its last member's reconnect, and no more of what nobody hears piles up
MAX_NAME_BYTES = 255  # of a queue
BUNDLE_INBOXES = "rpckit.inbox."  # what a queue is named whose owner takes several replies in one message
DIRECT_REPLY_TO = "amq.rabbitmq.reply-to"  # https://www.rabbitmq.com/docs/direct-reply-to

Declare = Literal["classic", "quorum", "transient", "never"]


@dataclass(frozen=True, slots=True)
class QueueSpec:
    name: str
    durable: bool = False
    exclusive: bool = False
    auto_delete: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    name: str
    type: str
    durable: bool = False


EVENTS = ExchangeSpec("rpckit.events", "topic", durable=True)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a topic is in AMQP's terms: `key` is what one publishes with, or binds to."""

    exchange: ExchangeSpec
    key: str

    @classmethod
    def of(cls, topic: str) -> Route:
        foreign = foreign_topic(topic)
        if foreign is None:
            return cls(EVENTS, topic)
        return cls(ExchangeSpec(foreign.name, foreign.kind), foreign.key)

    @property
    def foreign(self) -> bool:
        return self.exchange is not EVENTS

    def topic(self, routing_key: str) -> str:
        """On which something was published that came by this route."""
        if not self.foreign:
            return routing_key
        start = f"{self.exchange.type}:{self.exchange.name}"
        return f"{start}/{routing_key}" if self.key else start


def request_queue(address: str, declare: Declare) -> QueueSpec:
    """The queue of an address where none exists yet. RabbitMQ 4.3 refuses transient shared queues by default."""
    if declare == "never":
        raise UsageError(f"the queue {address!r} does not exist, and declare=never forbids creating it")
    if declare == "quorum":
        return QueueSpec(address, durable=True, arguments={"x-queue-type": "quorum"})
    return QueueSpec(address, durable=declare == "classic")


def reply_queue(unique: str) -> QueueSpec:
    return QueueSpec(f"{BUNDLE_INBOXES}{unique}", exclusive=True, auto_delete=True)


def events_queue(unique: str) -> QueueSpec:
    return QueueSpec(f"rpckit.events.{unique}", exclusive=True, auto_delete=True)


def group_queue(topic: str, group: str) -> QueueSpec:
    """What the members of a group share. Durable, since RabbitMQ 4.3 refuses transient queues that are shared.

    Not auto-delete: it could vanish between a new member's declaration and its consuming.
    """
    name = f"rpckit.group.{len(group)}.{group}.{topic}"  # the length: a.b on c is not a on b.c
    if len(name.encode()) > MAX_NAME_BYTES or "*" in name:  # which client libraries refuse in a name
        name = f"rpckit.group.{sha256(name.encode()).hexdigest()}"
    return QueueSpec(name, durable=True, arguments={"x-expires": GROUP_IDLE_MS})
