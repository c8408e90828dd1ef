"""Native messages, laid out by one formatting. Pure.

Requests to one method differ in ids, times and body only, and replies or bundles to one caller in id and body. So
the first one's frames, laid out the general way, become a template that the next ones are filled into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from rpckit.message import BUNDLE, NATIVE, REPLY, REQUEST, Message

from ._frames import FRAME_HEAD, HEAD_SIZE, OVERHEAD

__all__ = ["Templates"]

MAX_TEMPLATES = 4096  # of each kind; then they are made anew
ID = 32  # characters of the ids that there is room for
MAX_LEFT_MS = 10**9  # written as it is

# What stands in the places to be filled while a template is made; a message that says so itself gets none.
_CORRELATION_ID, _MESSAGE_ID, _DEADLINE, _BODY = "\x01" * ID, "\x02" * ID, 0x0304_0304_0304_0304, b"\x05"
_SIZE_AT = HEAD_SIZE + 4  # of the body's size in a header frame: after class and weight
_END = 1

LayOut = Callable[[Message, bool], bytes]  # all frames of a message, that may be mandatory
K = TypeVar("K")
Hole = tuple[int, int]  # where, and how long


class Templates:
    """Those of one channel, whose frames carry bodies of `most_body` bytes; `lay_out` is the general way."""

    def __init__(self, lay_out: LayOut, most_body: int) -> None:
        self._lay_out = lay_out
        self._most_body = most_body
        self._requests: dict[tuple[str, str, str, str, bool, bool, int], bytes] = {}
        self._replies: dict[tuple[bool, str, str, bool], bytes] = {}

    def fill(self, message: Message, mandatory: bool) -> bytes | None:
        """All frames of a message; None for one that is to go the general way."""
        body, correlation_id = message.body, message.correlation_id
        if (
            message.dialect != NATIVE
            or message.headers
            or len(correlation_id) != ID
            or not correlation_id.isascii()
            or not 0 < len(body) <= self._most_body
        ):
            return None
        if message.kind is REPLY or message.kind is BUNDLE:
            return self._reply(message, mandatory, correlation_id.encode(), body)
        if message.kind is REQUEST:
            return self._request(message, mandatory, correlation_id.encode(), body)
        return None

    def _reply(self, message: Message, mandatory: bool, correlation_id: bytes, body: bytes) -> bytes | None:
        if message.message_id or message.reply_to or message.persistent:
            return None
        key = (message.kind is BUNDLE, message.address, message.content_type, mandatory)
        template = self._replies.get(key)
        if template is None:
            template = self._remember(self._replies, key, message, mandatory)
        if not template:
            return None
        size = len(body)
        return template % (size.to_bytes(8, "big"), correlation_id, size.to_bytes(4, "big"), body)

    def _request(self, message: Message, mandatory: bool, correlation_id: bytes, body: bytes) -> bytes | None:
        left_ms, deadline_ms, message_id = message.time_left_ms, message.deadline_ms, message.message_id
        if (
            left_ms is None
            or deadline_ms is None
            or left_ms >= MAX_LEFT_MS
            or message.attempt != 1
            or message.depth
            or len(message_id) != ID
            or not message_id.isascii()
        ):
            return None
        left = b"%d" % left_ms
        key = (
            message.address,
            message.method,
            message.reply_to,
            message.content_type,
            message.persistent,
            mandatory,
            len(left),
        )
        template = self._requests.get(key)
        if template is None:
            template = self._remember(self._requests, key, message, mandatory)
        if not template:
            return None
        size, deadline = len(body).to_bytes(8, "big"), deadline_ms.to_bytes(8, "big")
        return template % (size, deadline, correlation_id, left, message_id.encode(), size[4:], body)

    def _remember(self, templates: dict[K, bytes], key: K, message: Message, mandatory: bool) -> bytes:
        template = self._make(message, mandatory)
        if len(templates) >= MAX_TEMPLATES:
            templates.clear()
        templates[key] = template
        return template

    def _make(self, message: Message, mandatory: bool) -> bytes:
        """Empty for a message that cannot be told from its sample."""
        request = message.kind is REQUEST
        sample = replace(message, correlation_id=_CORRELATION_ID, body=_BODY)
        if request:
            sample = replace(sample, message_id=_MESSAGE_ID, deadline_ms=_DEADLINE)
        data = self._lay_out(sample, mandatory)
        correlation_id = _only(data, _CORRELATION_ID.encode())
        message_id, deadline = _only(data, _MESSAGE_ID.encode()), _only(data, _DEADLINE.to_bytes(8, "big"))
        if not correlation_id or (request and not (message_id and deadline)):
            return b""
        publish = OVERHEAD + int(FRAME_HEAD.unpack_from(data)[2])
        holes = [(publish + _SIZE_AT, 8), (correlation_id, ID)]
        if request:
            left = len(str(message.time_left_ms))  # it stands before the message id and its length
            holes[1:1] = [(deadline, 8)]
            holes += [(message_id - 1 - left, left), (message_id, ID)]
        holes += [(len(data) - _END - 1 - 4, 4), (len(data) - _END - 1, 1)]
        return _with_holes(data, holes)


def _only(data: bytes, part: bytes) -> int:
    """Where it stands, if it does so once; else 0."""
    return data.index(part) if data.count(part) == 1 else 0


def _with_holes(data: bytes, holes: Sequence[Hole]) -> bytes:
    """A template for `%`."""
    parts, at = [], 0
    for start, size in holes:
        parts.append(data[at:start].replace(b"%", b"%%"))
        at = start + size
    return b"%b".join((*parts, data[at:].replace(b"%", b"%%")))
