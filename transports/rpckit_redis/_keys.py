"""Every key and channel, by name. Pure.

| name                      | type    | lives                          | made by          | deleted by                |
|---------------------------|---------|--------------------------------|------------------|---------------------------|
| rpckit:{x}:stream         | stream  | while requests wait or run     | client, server   | each entry when settled   |
| rpckit:{x}:stream:dead    | stream  | for ever, 1,000 entries        | server           | you                       |
| rpckit:{x}:list           | list    | while requests wait            | client           | Redis, with its last item |
| rpckit:{x}:list:doing:C   | list    | while C runs requests          | server C         | Redis, with its last item |
| rpckit:{x}:list:doing     | set     | while consumers are known      | server           | the reaper                |
| rpckit:{x}:list:tries     | hash    | while abandoned requests exist | server           | settling them             |
| rpckit:{x}:list:dead      | list    | for ever, 1,000 entries        | server           | you                       |
| rpckit:{x}:channel        | channel | while a server is subscribed   |                  |                           |
| rpckit:alive:KEY          | channel | while somebody serves KEY      |                  |                           |
| rpckit:consumer:C         | channel | while C is connected           |                  |                           |
| rpckit:consumer:C         | string  | 5 s after C's last beat        | server C         | Redis, when it expires    |
| rpckit:claim:M:N          | string  | time left + 5 s                | server (Pub/Sub) | Redis, when it expires    |
| rpckit:inbox:bundles:I    | channel | while its client is connected  |                  |                           |
| rpckit:inbox:bundles:I:K  | channel | while its client is connected  |                  |                           |
| rpckit:topic:T            | channel | while somebody is subscribed   |                  |                           |
| rpckit:event:G:M          | string  | 60 s                           | a member of G    | Redis, when it expires    |
| rpckit:event:G:M:P        | string  | 60 s                           | the same on P    | Redis, when it expires    |
| rpckit:reply:R            | either  | 1 h after the last reply       | server           | Redis, or `collect`       |
| rpckit:stored:S           | string  | while S may be sent again      | server           | Redis, when it expires    |

`stream:x`, `list:x` and `channel:x` name the key x as it is, shared with whoever uses it; what belongs
to it lies in the same Cluster slot, as `rpckit:foreign:{x}:list:…`. A topic `channel:x` is the channel x.

Channels know no databases: in database 3 those of addresses, topics and who serves begin with `rpckit:db3:`, so that
its clients and servers are as far from the others as its keys are; KEY behind `alive:` is as in database 0. A channel
`channel:x` is heard in all of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from rpckit.errors import UsageError
from rpckit.topics import foreign_topic, is_pattern, matches

__all__ = [
    "BUNDLE_INBOXES",
    "GROUP",
    "INBOXES",
    "Place",
    "PlaceKind",
    "TopicPlace",
    "claim_key",
    "consumer_key",
    "event_key",
    "inbox_channel",
    "no_store",
    "own_channel",
    "place_of",
    "stored_at",
    "stored_key",
    "topic_place",
]

MAX_ADDRESS = 255  # bytes
REPLIES = "rpckit:reply:"
INBOXES = "rpckit:inbox:"
BUNDLE_INBOXES = f"{INBOXES}bundles:"  # of those who take several replies in one message
GROUP = "rpckit"  # the consumer group on a stream, of all servers together


_MANY_WORDS = re.compile(r"\.?#\.?")


class PlaceKind(StrEnum):
    """What requests wait in."""

    STREAM = "stream"
    LIST = "list"
    CHANNEL = "channel"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the requests of one address are. `own`: nobody but rpckit uses the key."""

    kind: PlaceKind
    key: str
    own: bool
    beside: str  # what the names of its satellites begin with
    channels: str  # what the names of its channels begin with

    @property
    def alive(self) -> str:
        """The channel of those who serve it."""
        return f"{self.channels}alive:{self.beside}"

    @property
    def dead(self) -> str:
        return f"{self.beside}:dead"

    @property
    def consumers(self) -> str:
        return f"{self.beside}:doing"

    @property
    def tries(self) -> str:
        return f"{self.beside}:tries"

    def doing(self, consumer: str) -> str:
        return f"{self.beside}:doing:{consumer}"


def place_of(address: str, default: PlaceKind, database: int = 0) -> Place:
    """`list:x` is the list x itself; without a prefix the key is ours. Raises `UsageError`."""
    if not 0 < len(address.encode(errors="replace")) <= MAX_ADDRESS:
        raise UsageError(f"an address has 1 to {MAX_ADDRESS} bytes; not {address[:40]!r}")
    prefix, colon, rest = address.partition(":")
    if colon and prefix in PlaceKind.__members__.values():
        if not rest:
            raise UsageError(f"{address!r} names no key")
        kind = PlaceKind(prefix)
        beside = f"rpckit:braced:{rest}:{kind}" if "{" in rest else f"rpckit:foreign:{{{rest}}}:{kind}"
        heard_in = 0 if kind is PlaceKind.CHANNEL else database  # a channel of others is one for all databases
        return Place(kind, rest, own=False, beside=beside, channels=_channels_of(heard_in))
    if "{" in address or "}" in address:
        raise UsageError(f"address {address!r} cannot be used: braces choose a Cluster slot, and that is ours to do")
    beside, channels = f"rpckit:{{{address}}}:{default}", _channels_of(database)
    key = f"{channels}{{{address}}}:{default}" if default is PlaceKind.CHANNEL else beside
    return Place(default, key, own=True, beside=beside, channels=channels)


def _channels_of(database: int) -> str:
    """What the channels of a database begin with: Redis's are one for all of them, where keys are apart."""
    return f"rpckit:db{database}:" if database else "rpckit:"


def stored_at(address: str) -> tuple[PlaceKind, str] | None:
    """The list or stream in which replies to `address` are stored; None for a channel.

    Only below `rpckit:reply:`, so that no stranger's request can make a server write elsewhere.
    """
    prefix, _, key = address.partition(":")
    if prefix in (PlaceKind.LIST, PlaceKind.STREAM) and key.startswith(REPLIES):
        return PlaceKind(prefix), key
    return None


def stored_key(unique: str) -> str:
    """Of one reply that is stored: it may be sent again, and is there once."""
    return f"rpckit:stored:{unique}"


def no_store(address: str) -> str:
    return f"replies are stored at list:{REPLIES}… or stream:{REPLIES}…; not at {address[:80]!r}"


def inbox_channel(unique: str) -> str:
    return f"{BUNDLE_INBOXES}{unique}"


def own_channel(inbox: str, correlation_id: str) -> str:
    """Of one plain call. `*` for all of an inbox, as a pattern."""
    return f"{inbox}:{correlation_id}"


@dataclass(frozen=True, slots=True)
class TopicPlace:
    """The channel of a topic, or those of a pattern: then `channel` is a glob that matches them all, and perhaps more.

    prefix: what the channel has before the topic's words.   start: what the topic has there, as users write it.
    """

    prefix: str
    start: str
    words: str

    @property
    def foreign(self) -> bool:
        return bool(self.start)

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.words)

    @property
    def channel(self) -> str:
        """A `#` takes a dot beside it along, as it may stand for nothing: Redis's `*` is any number of characters."""
        if not self.is_pattern:
            return self.prefix + self.words
        return self.prefix + _MANY_WORDS.sub("*", self.words)

    def topic(self, channel: str) -> str | None:
        """On which something was published that came from `channel`; None for what only the glob matches."""
        words = channel.removeprefix(self.prefix)
        fits = matches(self.words, words) if self.is_pattern else words == self.words
        return self.start + words if fits else None


def topic_place(topic: str, database: int = 0) -> TopicPlace:
    foreign = foreign_topic(topic)
    if foreign is not None and foreign.kind == PlaceKind.CHANNEL:
        return TopicPlace("", f"{PlaceKind.CHANNEL}:", foreign.name)
    return TopicPlace(f"{_channels_of(database)}topic:", "", topic)


def consumer_key(consumer: str) -> str:
    return f"rpckit:consumer:{consumer}"


def claim_key(message_id: str, attempt: int) -> str:
    return f"rpckit:claim:{message_id}:{attempt}"


def event_key(group: str, message_id: str, pattern: str = "") -> str:
    """Who of a group has an event: a claim. Who listens to a pattern is apart from who listens to a name."""
    return f"rpckit:event:{group}:{message_id}" + (f":{pattern}" if pattern else "")
