"""Topics of events: names for those who tell, names or patterns for those who listen. Pure.

A topic is words with dots between them. In what one listens to, `*` stands for one word and `#` for any number of them,
none included: AMQP's rule (https://www.rabbitmq.com/tutorials/tutorial-five-python). Nobody tells a pattern.

| topic              | what it is                                                            | where    |
|--------------------|-----------------------------------------------------------------------|----------|
| `user.created`     | rpckit's own                                                          | anywhere |
| `fanout:NAME`      | the exchange NAME, shared with programs that know nothing of rpckit   | RabbitMQ |
| `direct:NAME/KEY`  | the same, with a routing key                                          | RabbitMQ |
| `topic:NAME/KEY`   | the same; KEY may be a pattern                                        | RabbitMQ |
| `channel:NAME`     | the Pub/Sub channel NAME; it may be a pattern                         | Redis    |

The last four are foreign: what is told there is written plain, its body the one argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from rpckit.errors import UsageError

__all__ = [
    "EVENTS",
    "ForeignTopic",
    "TopicTable",
    "check_topic",
    "event_topic",
    "foreign_topic",
    "in_bounds",
    "is_pattern",
    "matches",
    "user_topic",
]

MAX_TOPIC_BYTES = 240  # with `rpckit.event.` before it, it fits AMQP's short string
MAX_WORDS = 32  # of a topic: a pattern may take the product of both numbers of words to match
EVENTS = "rpckit.event."  # before the topics of users, on every transport
FOREIGN = ("fanout", "direct", "topic", "channel")
_KEYED = ("direct", "topic")
_TOPIC = re.compile(r"[A-Za-z0-9_\-.:@#*,/+ ]+")  # what an address may have, and the star

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ForeignTopic:
    """An exchange or channel of other programs; `key` is the routing key, empty where there is none."""

    kind: str
    name: str
    key: str = ""

    @property
    def words(self) -> str:
        """In which `*` and `#` stand for others."""
        return {"channel": self.name, "topic": self.key}.get(self.kind, "")


def foreign_topic(topic: str) -> ForeignTopic | None:
    """What a topic means to other programs; None for one of rpckit's own. Raises `UsageError` for half a name."""
    kind, colon, rest = topic.partition(":")
    if not colon or kind not in FOREIGN:
        return None
    name, _, key = rest.partition("/") if kind in _KEYED else (rest, "", "")
    if not name or (kind in _KEYED and not key):
        wanted = f"{kind}:NAME/KEY" if kind in _KEYED else f"{kind}:NAME"
        raise UsageError(f"topic {topic!r:.80} cannot be used: it is written {wanted}")
    return ForeignTopic(kind, name, key)


def event_topic(topic: str) -> str:
    """What the transports call a topic of the user's: never one of ours. Foreign ones keep their names."""
    return topic if foreign_topic(topic) else f"{EVENTS}{topic}"


def user_topic(topic: str) -> str:
    """What the user calls a topic of the transports'."""
    return topic.removeprefix(EVENTS)


def check_topic(topic: object, *, listening: bool = False) -> str:
    """`topic` if every transport can carry it, else `UsageError`; a pattern only for who is `listening`."""
    if not isinstance(topic, str) or not _TOPIC.fullmatch(topic) or len(topic) > MAX_TOPIC_BYTES:
        allowed = f"1 to {MAX_TOPIC_BYTES} ASCII letters, digits or any of _ - . : @ , / + and space"
        raise UsageError(f"topic {topic!r:.80} cannot be used: {allowed}; * and # for other words")
    if topic.count(".") >= MAX_WORDS:
        raise UsageError(f"topic {topic!r:.80} cannot be used: a topic has at most {MAX_WORDS} words, parted by dots")
    foreign = foreign_topic(topic)
    words = topic if foreign is None else foreign.words
    fixed = topic.removesuffix(words)
    if any(sign in fixed or (sign in word and word != sign) for sign in "*#" for word in words.split(".")):
        raise UsageError(f"topic {topic!r:.80} cannot be used: * and # stand for words, and alone between two dots")
    if not listening and is_pattern(words):
        raise UsageError(f"topic {topic!r:.80} cannot be used here: it is a pattern, for those who listen")
    return topic


def in_bounds(topic: str) -> bool:
    """Whether a topic of the transports', as a stranger wrote it, is no longer than any of ours."""
    words = user_topic(topic)
    return len(words) <= MAX_TOPIC_BYTES and words.count(".") < MAX_WORDS


def is_pattern(topic: str) -> bool:
    """Whether a word of it stands for others."""
    return ("*" in topic or "#" in topic) and any(word in ("*", "#") for word in topic.split("."))


def matches(pattern: str, topic: str) -> bool:
    """Whether who listens to `pattern` hears what is told on `topic`.

    Each `#` takes as few words as it can, and one more whenever the rest does not fit: only the last one met needs
    to, so this takes at most the product of both lengths, whatever a stranger writes.
    """
    wanted, words = pattern.split("."), topic.split(".")
    at = word = 0
    retry: tuple[int, int] | None = None  # behind the last #, and the first word it does not take
    while word < len(words):
        if at < len(wanted) and wanted[at] == "#":
            at += 1
            retry = (at, word)
        elif at < len(wanted) and wanted[at] in ("*", words[word]):
            at, word = at + 1, word + 1
        elif retry is not None:
            at, word = retry[0], retry[1] + 1
            retry = (at, word)
        else:
            return False
    return all(left == "#" for left in wanted[at:])


class TopicTable(Generic[T]):
    """Listeners by what they listen to, names and patterns, in the order they came."""

    def __init__(self) -> None:
        self._names: dict[str, list[T]] = {}
        self._patterns: dict[str, list[T]] = {}

    def __iter__(self) -> Iterator[str]:
        yield from self._names
        yield from self._patterns

    def __contains__(self, topic: str) -> bool:
        return topic in self._table(topic)

    def add(self, topic: str, listener: T) -> None:
        self._table(topic).setdefault(topic, []).append(listener)

    def remove(self, topic: str, listener: T) -> bool:
        """Whether it was the last one there. Twice is once."""
        table = self._table(topic)
        listeners = table.get(topic, [])
        if listener not in listeners:
            return False
        listeners.remove(listener)
        if not listeners:
            del table[topic]
        return not listeners

    def hearing(self, topic: str) -> list[list[T]]:
        """Who hears what is told on `topic`: the lists themselves, one for each name or pattern."""
        named = self._names.get(topic)
        found = [] if named is None else [named]
        if self._patterns:
            found += [listeners for pattern, listeners in self._patterns.items() if matches(pattern, topic)]
        return found

    def _table(self, topic: str) -> dict[str, list[T]]:
        return self._patterns if is_pattern(topic) else self._names
