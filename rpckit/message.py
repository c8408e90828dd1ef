"""The one envelope: what a transport carries and the core reads. A transport never opens the body.

Stream kinds (item, end, credit) are reserved here so that the wire need not change for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["BUNDLE", "CONTRACT_HEADER", "FAULT", "NATIVE", "PLAIN", "REPLY", "REQUEST", "VERSION", "Kind", "Message"]

VERSION = 1
NATIVE = "native"  # our own form, with deadline, attempt and method
PLAIN = "plain"  # a foreign program's form: the body is the argument
CONTRACT_HEADER = "x-rpckit-contract"  # of a call: the fingerprint of its method as its client knows it


class Kind(StrEnum):
    REQUEST = "request"
    REPLY = "reply"
    FAULT = "fault"
    CANCEL = "cancel"
    ITEM = "item"
    END = "end"
    CREDIT = "credit"
    EVENT = "event"
    BUNDLE = "bundle"  # of replies; see `rpckit.bundle`


# for what runs each call: up to Python 3.11 a look at a member of an Enum costs as much as a call
REQUEST, REPLY, FAULT, BUNDLE = Kind.REQUEST, Kind.REPLY, Kind.FAULT, Kind.BUNDLE


@dataclass(slots=True)
class Message:
    """One message of a call.

    address:        queue, channel, list or stream; for replies the reply_to of their request.
    method:         the method's name; empty for the service's only or default one.
    message_id:     stable over attempts and redelivery.
    correlation_id: joins replies to one attempt of a call.
    reply_to:       where the caller can be reached; empty when no reply is wanted.
    time_left_ms, deadline_ms: the deadline in its two forms; see `rpckit.deadline.deadline_on_arrival`.
    attempt:        1 for the first.   depth: calls nested above this one.
    headers:        the user's own, strings both ways.
    dialect:        the form it came in; replies mirror it.
    persistent:     a broker that can should keep it over a restart; not on the wire.
    maxlen:         of a reply to a stored list or stream: how many it keeps; not on the wire.
    to:             on a transport with sessions, the one it goes to or came by; not on the wire.
    """

    kind: Kind
    address: str = ""
    method: str = ""
    message_id: str = ""
    correlation_id: str = ""
    reply_to: str = ""
    content_type: str = ""
    time_left_ms: int | None = None
    deadline_ms: int | None = None
    attempt: int = 1
    depth: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    dialect: str = NATIVE
    persistent: bool = False
    maxlen: int | None = None
    to: str = ""

    def __repr__(self) -> str:
        """Short, and without the body: messages end up in logs."""
        target = f"{self.address}.{self.method}" if self.method else self.address
        return f"<Message {self.kind} {target!r:.200} correlation_id={self.correlation_id!r:.64} {len(self.body)} B>"

    def seconds_left(self) -> float | None:
        """Its time limit when it was sent; None without one."""
        return None if self.time_left_ms is None else self.time_left_ms / 1000

    def reply(self, kind: Kind, body: bytes, content_type: str = "") -> Message:
        """An answer to this request: to its reply_to, with its correlation_id, in its dialect."""
        return Message(
            kind,
            self.reply_to,
            "",
            "",
            self.correlation_id,
            "",
            content_type,
            None,
            None,
            1,
            0,
            {},
            body,
            self.dialect,
        )
