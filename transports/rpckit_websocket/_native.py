"""`rpckit.v1`: each binary frame is a msgpack array that begins with its code. Pure.

====  ============  =======================================================================================
code  what          then
====  ============  =======================================================================================
0     hello         version, session id, name
1     request       correlation id, address, method, message id, content type, time left (ms), deadline
                    (unix ms), attempt, depth, headers, body
2-7   answers       reply, fault, item, end, credit, cancel: correlation id, address, message id, content type,
                    headers, body
8     event         topic, correlation id, message id, content type, headers, body, kind's name
9/10  (un)subscribe topic
11/12 ping, pong    token
13    receipt       message id, refusal, its code
14    undelivered   correlation id, why
====  ============  =======================================================================================

64 is added to the code of a request or answer in the plain form, whose body is the argument itself. A request
without correlation id wants no reply, but a receipt under its message id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from rpckit import codec
from rpckit.errors import UsageError
from rpckit.message import NATIVE, PLAIN, Kind, Message

from ._dialect import (
    BadFrame,
    Control,
    Frame,
    Hello,
    Incoming,
    Ping,
    Pong,
    Receipt,
    Settled,
    Subscribe,
    Undelivered,
    Unsubscribe,
)

__all__ = ["VERSION", "Native"]

VERSION = 1
MAX_FIELDS = 32  # over twice what a frame has; room for a list is made before its items are read
PLAIN_BIT = 64
HELLO, REQUEST, EVENT = 0, 1, 8
MAX_HEADERS = 256

_CODE_OF = {Kind.REPLY: 2, Kind.FAULT: 3, Kind.ITEM: 4, Kind.END: 5, Kind.CREDIT: 6, Kind.CANCEL: 7}
_KIND_OF = {code: kind for kind, code in _CODE_OF.items()}
_CONTROL_OF: dict[int, type[Control]] = {
    9: Subscribe,
    10: Unsubscribe,
    11: Ping,
    12: Pong,
    13: Receipt,
    14: Undelivered,
}
_CODE_OF_CONTROL = {control: code for code, control in _CONTROL_OF.items()}


class Native:
    """`peer` is the reply address that requests of the other side get."""

    name = NATIVE
    greets = True

    __slots__ = ("peer",)

    def __init__(self, peer: str = "") -> None:
        self.peer = peer

    def read(self, frame: Frame) -> Sequence[Incoming]:
        if type(frame) is not bytes:
            raise BadFrame("rpckit.v1 has binary frames only")
        try:
            fields = msgpack.unpackb(frame, max_array_len=MAX_FIELDS, max_map_len=MAX_HEADERS)
            return (self._incoming(fields),)
        except BadFrame:
            raise
        except Exception as error:  # msgpack and the fields of a stranger raise many kinds
            raise BadFrame(f"not a frame of rpckit.v1: {error!s:.200}") from error

    def _incoming(self, fields: list[Any]) -> Incoming:
        code = fields[0]
        plain = code >= PLAIN_BIT
        code &= ~PLAIN_BIT
        if code == REQUEST:
            return self._request(fields, plain)
        kind = _KIND_OF.get(code)
        if kind is not None:
            return self._answer(kind, fields, plain)
        if code == EVENT:
            return _event(fields, self.peer)
        if code == HELLO:
            return _hello(fields)
        return _CONTROL_OF[code](*map(_text, fields[1:]))

    def _request(self, fields: list[Any], plain: bool) -> Message:
        _, correlation_id, address, method, message_id, content_type, left, deadline, attempt, depth, headers, body = (
            fields
        )
        if not (
            type(correlation_id) is type(address) is type(method) is type(message_id) is type(content_type) is str
            and type(body) is bytes
            and type(attempt) is type(depth) is int
            and attempt > 0
            and depth >= 0
        ):
            raise BadFrame("a request with a field of the wrong type")
        return Message(
            Kind.REQUEST,
            address,
            method,
            message_id,
            correlation_id,
            self.peer if correlation_id else "",
            content_type,
            _milliseconds(left),
            _milliseconds(deadline),
            attempt,
            depth,
            _headers(headers) if headers else {},
            body,
            PLAIN if plain else NATIVE,
        )

    def _answer(self, kind: Kind, fields: list[Any], plain: bool) -> Message:
        _, correlation_id, address, message_id, content_type, headers, body = fields
        if type(body) is not bytes or type(correlation_id) is not str or type(content_type) is not str:
            raise BadFrame("an answer with a field of the wrong type")
        return Message(
            kind,
            _text(address),
            "",
            _text(message_id),
            correlation_id,
            self.peer if kind is Kind.CANCEL else "",
            content_type,
            headers=_headers(headers) if headers else {},
            body=body,
            dialect=PLAIN if plain else NATIVE,
        )

    def write(self, message: Message) -> Frame:
        plain = PLAIN_BIT if message.dialect != NATIVE else 0
        headers = _written(message.headers) if message.headers else None
        try:
            if message.kind is Kind.REQUEST:
                wants_reply = message.reply_to != ""
                fields: list[Any] = [
                    REQUEST | plain,
                    message.correlation_id if wants_reply else "",
                    message.address,
                    message.method,
                    message.message_id,
                    message.content_type,
                    message.time_left_ms,
                    message.deadline_ms,
                    message.attempt,
                    message.depth,
                    headers,
                    message.body,
                ]
            elif message.kind is Kind.EVENT:
                return self.event(message.address, message)
            else:
                address = message.address if message.kind is Kind.CANCEL else ""
                fields = [_CODE_OF[message.kind] | plain, message.correlation_id, address, message.message_id]
                fields += [message.content_type, headers, message.body]
            return _pack(fields)
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"this cannot be sent: {error!s:.200}") from error

    def event(self, topic: str, message: Message) -> Frame:
        """A message of any kind as something published on a topic."""
        fields = [EVENT, topic, message.correlation_id, message.message_id, message.content_type]
        headers = _written(message.headers) if message.headers else None
        try:
            return _pack([*fields, headers, message.body, message.kind.value])
        except (ValueError, TypeError, OverflowError) as error:
            raise UsageError(f"this cannot be published: {error!s:.200}") from error

    def write_control(self, control: Control) -> Frame | None:
        if isinstance(control, Hello):
            return _pack([HELLO, VERSION, control.id, control.name])
        if isinstance(control, Settled):
            return None  # who cancels does not wait for an answer
        fields = [getattr(control, name) for name in control.__slots__]
        return _pack([_CODE_OF_CONTROL[type(control)], *fields])


def _pack(fields: list[Any]) -> bytes:
    return codec.encode(codec.MSGPACK, fields)


def _hello(fields: list[Any]) -> Hello:
    version, session, name = fields[1:4]  # what a later version adds behind is not for us
    if version != VERSION:
        raise BadFrame(f"version {version!r:.20} of rpckit is not spoken here; {VERSION} is")
    return Hello(_text(session), _text(name)[:200])


def _event(fields: list[Any], peer: str) -> Message:
    _, topic, correlation_id, message_id, content_type, headers, body, kind = fields
    if type(body) is not bytes:
        raise BadFrame("an event whose body is not bytes")
    event = Message(Kind(kind), _text(topic), "", _text(message_id), _text(correlation_id), "", _text(content_type))
    event.reply_to = peer if event.kind is Kind.CANCEL else ""
    event.headers = _headers(headers) if headers else {}
    event.body = body
    return event


def _text(value: Any) -> str:
    if type(value) is not str:
        raise BadFrame(f"text expected, not {type(value).__name__}")
    return value


def _milliseconds(value: Any) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise BadFrame("milliseconds are whole numbers from 0")
    return value


def _written(headers: Mapping[str, str]) -> dict[str, str]:
    """Refused here, for there it would end the session."""
    pairs = dict(headers)
    if len(pairs) > MAX_HEADERS or not all(isinstance(text, str) for pair in pairs.items() for text in pair):
        raise UsageError(f"headers are at most {MAX_HEADERS} pairs of strings")
    return pairs


def _headers(headers: Any) -> dict[str, str]:
    if (
        not isinstance(headers, dict)
        or len(headers) > MAX_HEADERS
        or not all(type(text) is str for pair in headers.items() for text in pair)
    ):
        raise BadFrame(f"headers are at most {MAX_HEADERS} pairs of strings")
    return headers
