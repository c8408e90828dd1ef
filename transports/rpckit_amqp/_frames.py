"""AMQP 0-9-1 frames for the hot path: publish, deliver, ack, confirm and return, straight from and to bytes.

Pure. Everything else is the driver's. Everything is laid out and checked before the first byte is
written, since half a message kills the connection with all that is on it.
https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pamqp.decode

from rpckit.errors import UsageError

__all__ = [
    "BODY",
    "DEADLINE_HEAD",
    "FRAME_END",
    "FRAME_HEAD",
    "F_APP_ID",
    "F_CLUSTER_ID",
    "F_CONTENT_TYPE",
    "F_CORRELATION_ID",
    "F_DELIVERY_MODE",
    "F_EXPIRATION",
    "F_HEADERS",
    "F_MESSAGE_ID",
    "F_PRIORITY",
    "F_REPLY_TO",
    "F_TIMESTAMP",
    "F_TYPE",
    "F_USER_ID",
    "HEADER",
    "HEADER_START",
    "HEAD_SIZE",
    "HEARTBEAT_FRAME",
    "H_DEADLINE",
    "MAX_BODY",
    "METHOD",
    "OVERHEAD",
    "ROUTING_HEADERS",
    "TAG_BIT",
    "FrameError",
    "Properties",
    "ReturnMethod",
    "ack_frame",
    "addressed_to",
    "body_size",
    "content_frames",
    "parse_ack",
    "parse_properties",
    "parse_return",
    "property_list",
    "publish_frame",
    "reject_frame",
    "routing_key",
]

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
FRAME_HEAD = struct.Struct(">BHI")  # type, channel, size of the payload
HEADER_START = struct.Struct(">BHI4xQ")  # the head of a header frame, and the size of the body
HEAD_SIZE = FRAME_HEAD.size  # bytes of a frame before its payload
OVERHEAD = HEAD_SIZE + 1  # bytes of a frame around its payload
HEARTBEAT_FRAME = FRAME_HEAD.pack(HEARTBEAT, 0, 0) + b"\xce"

SHORT_MAX = 255  # bytes of a short string
MAX_BODY = 16 * 1024 * 1024  # bytes; RabbitMQ's limit from 4.0 on (max_message_size)
ROUTING_HEADERS = ("CC", "BCC")  # lists of more queues; https://www.rabbitmq.com/docs/sender-selected
MAX_SHORTS = 1024  # short strings remembered as bytes: addresses, content types, header names
_END = b"\xce"
_METHOD_ID = struct.Struct(">HH")
TAG_BIT = struct.Struct(">QB")
_CLASS_BASIC = 60
_PUBLISH = _METHOD_ID.pack(60, 40) + b"\x00\x00"
_KEY_AT = FRAME_HEAD.size + len(_PUBLISH) + 2  # of a routing key by the default exchange: behind two lengths
_ACK = struct.Struct(">BHIHHQBB")
_LONG = struct.Struct(">I")
_INT64 = struct.Struct(">q")

F_CONTENT_TYPE, F_ENCODING, F_HEADERS, F_DELIVERY_MODE = 1 << 15, 1 << 14, 1 << 13, 1 << 12
F_PRIORITY, F_CORRELATION_ID, F_REPLY_TO, F_EXPIRATION = 1 << 11, 1 << 10, 1 << 9, 1 << 8
F_MESSAGE_ID, F_TIMESTAMP, F_TYPE, F_USER_ID = 1 << 7, 1 << 6, 1 << 5, 1 << 4
F_APP_ID, F_CLUSTER_ID = 1 << 3, 1 << 2


class FrameError(ValueError):
    """Bytes that are no frame of a kind we know."""


@dataclass(slots=True)
class Properties:
    """The properties of a message that mean something to an envelope. Empty means absent."""

    content_type: str = ""
    headers: Mapping[str, Any] | None = None
    delivery_mode: int = 0
    correlation_id: str = ""
    reply_to: str = ""
    expiration: str = ""
    message_id: str = ""
    type: str = ""
    app_id: str = ""


@dataclass(slots=True)
class ReturnMethod:
    code: int
    text: str
    routing_key: str


def publish_frame(channel: int, exchange: str, routing_key: str, *, mandatory: bool) -> bytes:
    payload = _PUBLISH + _short(exchange, "exchange") + _short(routing_key, "address") + bytes((1 if mandatory else 0,))
    return FRAME_HEAD.pack(METHOD, channel, len(payload)) + payload + _END


def content_frames(channel: int, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Header and body frames around a property list. Raises `UsageError` for what does not fit."""
    size = 12 + len(properties)
    if size + OVERHEAD > frame_max:
        raise UsageError(f"the headers take {size} bytes; this broker's frames hold {frame_max - OVERHEAD}")
    head = FRAME_HEAD.pack(HEADER, channel, size) + _CONTENT_START.pack(_CLASS_BASIC, 0, len(body)) + properties
    if not body:
        return head + _END
    if len(body) + OVERHEAD <= frame_max:
        return b"".join((head, _END, FRAME_HEAD.pack(BODY, channel, len(body)), body, _END))
    return head + _END + _body_frames(channel, body, frame_max - OVERHEAD)


def _body_frames(channel: int, body: bytes, most: int) -> bytes:
    if len(body) > MAX_BODY:
        raise UsageError(f"the body has {len(body)} bytes; RabbitMQ carries {MAX_BODY}")
    parts = []
    for start in range(0, len(body), most):
        chunk = body[start : start + most]
        parts += [FRAME_HEAD.pack(BODY, channel, len(chunk)), chunk, _END]
    return b"".join(parts)


def body_size(frames: bytes) -> int:
    """Of a message as it was laid out: it stands in the header frame, behind the method frame."""
    header = OVERHEAD + FRAME_HEAD.unpack_from(frames)[2]
    return int(HEADER_START.unpack_from(frames, header)[3])


def addressed_to(frames: bytes, beginning: bytes) -> bool:
    """Whether a message, as it was laid out, goes by the default exchange to an address that begins so."""
    return frames.startswith(beginning, _KEY_AT)


def ack_frame(channel: int, delivery_tag: int, *, multiple: bool) -> bytes:
    return _ACK.pack(METHOD, channel, 13, _CLASS_BASIC, 80, delivery_tag, 1 if multiple else 0, FRAME_END)


def reject_frame(channel: int, delivery_tag: int, *, requeue: bool) -> bytes:
    return _ACK.pack(METHOD, channel, 13, _CLASS_BASIC, 90, delivery_tag, 1 if requeue else 0, FRAME_END)


def routing_key(route: bytes) -> str:
    """Of the end of a deliver method: exchange and routing key."""
    start = route[0] + 2
    return route[start : start + route[start - 1]].decode(errors="replace")


def parse_ack(payload: bytes) -> tuple[int, bool]:
    """Delivery tag and multiple, of a confirm or a nack."""
    tag, bits = TAG_BIT.unpack_from(payload, 4)
    return tag, bool(bits & 1)


def parse_return(payload: bytes) -> ReturnMethod:
    code = int.from_bytes(payload[4:6], "big")
    text, offset = _read_short(payload, 6)
    _, offset = _read_short(payload, offset)
    routing_key, _ = _read_short(payload, offset)
    return ReturnMethod(code, text, routing_key)


def parse_properties(payload: bytes) -> Properties:
    """What a property list says. Raises any exception for one that cannot be decoded.

    Written out rather than looped: it takes a third of the time so.
    """
    flags = int.from_bytes(payload[:2], "big")
    properties = Properties()
    offset = 2
    if flags & F_CONTENT_TYPE:
        end = offset + 1 + payload[offset]
        properties.content_type, offset = payload[offset + 1 : end].decode(), end
    if flags & F_ENCODING:
        offset += 1 + payload[offset]
    if flags & F_HEADERS:
        properties.headers, offset = _read_table(payload, offset)
    if flags & F_DELIVERY_MODE:
        properties.delivery_mode, offset = payload[offset], offset + 1
    if flags & F_PRIORITY:
        offset += 1
    if flags & F_CORRELATION_ID:
        end = offset + 1 + payload[offset]
        properties.correlation_id, offset = payload[offset + 1 : end].decode(), end
    if flags & F_REPLY_TO:
        end = offset + 1 + payload[offset]
        properties.reply_to, offset = payload[offset + 1 : end].decode(), end
    if flags & F_EXPIRATION:
        end = offset + 1 + payload[offset]
        properties.expiration, offset = payload[offset + 1 : end].decode(), end
    if flags & F_MESSAGE_ID:
        end = offset + 1 + payload[offset]
        properties.message_id, offset = payload[offset + 1 : end].decode(), end
    if flags & F_TIMESTAMP:
        offset += 8
    if flags & F_TYPE:
        end = offset + 1 + payload[offset]
        properties.type, offset = payload[offset + 1 : end].decode(), end
    if flags & F_USER_ID:
        offset += 1 + payload[offset]
    if flags & F_APP_ID:
        end = offset + 1 + payload[offset]
        properties.app_id, offset = payload[offset + 1 : end].decode(), end
    if offset > len(payload):
        raise FrameError("a property runs past its frame")
    return properties


def property_list(
    content_type: str,
    headers: Mapping[str, Any] | None,
    delivery_mode: int,
    correlation_id: str,
    reply_to: str,
    expiration: str,
    message_id: str,
    type_: str,
    app_id: str,
) -> bytes:
    """Flags and fields of a header frame, laid out and checked; what is empty is absent.

    Raises `UsageError` for what does not fit.
    """
    flags = 0
    head = b""
    if content_type:
        flags = F_CONTENT_TYPE
        head = _short(content_type, "content type")
    if headers:
        flags |= F_HEADERS
        head += _table(headers)
    if delivery_mode:
        flags |= F_DELIVERY_MODE
        head += bytes((delivery_mode,))
    tail = ""
    if correlation_id:
        flags |= F_CORRELATION_ID
        tail = chr(len(correlation_id)) + correlation_id
    if reply_to:
        flags |= F_REPLY_TO
        tail += chr(len(reply_to)) + reply_to
    if expiration:
        flags |= F_EXPIRATION
        tail += chr(len(expiration)) + expiration
    if message_id:
        flags |= F_MESSAGE_ID
        tail += chr(len(message_id)) + message_id
    if type_:
        flags |= F_TYPE
        tail += chr(len(type_)) + type_
    if app_id:
        flags |= F_APP_ID
        tail += chr(len(app_id)) + app_id
    if tail.isascii():  # to the last: then no length is over 127, and all of it can be encoded at once
        return flags.to_bytes(2, "big") + head + tail.encode()
    texts = (correlation_id, reply_to, expiration, message_id, type_, app_id)
    return flags.to_bytes(2, "big") + head + _long_tail(texts)


def _long_tail(texts: tuple[str, ...]) -> bytes:
    return b"".join(_short(text, what) for text, what in zip(texts, _TEXT_NAMES, strict=True) if text)


def _short(text: str, what: str) -> bytes:
    known = _SHORTS.get(text)
    if known is not None:
        return known
    data = _utf8(text, what)
    if len(data) > SHORT_MAX:
        raise UsageError(f"the {what} has {len(data)} bytes; AMQP carries {SHORT_MAX}")
    if len(_SHORTS) >= MAX_SHORTS:
        _SHORTS.clear()
    short = _SHORTS[text] = bytes((len(data),)) + data
    return short


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the {what} cannot be written as UTF-8: {error.reason}") from error


def _table(headers: Mapping[str, Any]) -> bytes:
    if len(headers) == 1 and type(deadline := headers.get(H_DEADLINE)) is int:
        return DEADLINE_HEAD + _INT64.pack(deadline)
    parts = []
    for name, value in headers.items():
        if name in ROUTING_HEADERS:
            raise UsageError(f"no header can be named {name} here: to RabbitMQ that is a list of queues")
        parts.append(_short(name, f"header name {name[:40]!r}"))
        if isinstance(value, int):
            parts.append(b"l" + _INT64.pack(value))
        else:
            data = _utf8(str(value), f"header {name[:40]!r}")
            parts.append(b"S" + _LONG.pack(len(data)) + data)
    table = b"".join(parts)
    return _LONG.pack(len(table)) + table


def _read_short(payload: bytes, offset: int) -> tuple[str, int]:
    start = offset + 1
    end = start + payload[offset]
    if end > len(payload):
        raise FrameError("a string runs past its frame")
    return payload[start:end].decode(), end


def _read_table(payload: bytes, offset: int) -> tuple[Mapping[str, Any], int]:
    """Ours is strings and one integer, read here; a table with anything else is read by pamqp."""
    start = offset + 4
    size = _LONG.unpack_from(payload, offset)[0]
    end = start + size
    if end > len(payload):
        raise FrameError("a table runs past its frame")
    if size == _DEADLINE_TABLE and payload.startswith(_DEADLINE_FIELD, start):  # nothing but ours: most requests
        return {H_DEADLINE: _INT64.unpack_from(payload, end - 8)[0]}, end
    return _read_fields(payload, offset, start, end), end


def _read_fields(payload: bytes, offset: int, position: int, end: int) -> Mapping[str, Any]:
    table: dict[str, Any] = {}
    while position < end:
        name, position = _read_short(payload, position)
        kind = payload[position]
        position += 1
        if kind == 0x53:  # S: long string
            stop = position + 4 + _LONG.unpack_from(payload, position)[0]
            table[name] = payload[position + 4 : stop].decode()
            position = stop
        elif kind == 0x6C:  # l: 64 bits, signed
            table[name] = _INT64.unpack_from(payload, position)[0]
            position += 8
        else:
            everything: dict[str, Any] = pamqp.decode.field_table(payload[offset:end])[1]
            return everything
    if position != end:
        raise FrameError("a table ends in the middle of a field")
    return table


H_DEADLINE = "x-deadline"  # unix milliseconds
_DEADLINE_FIELD = b"\x0a" + H_DEADLINE.encode() + b"l"
_DEADLINE_TABLE = len(_DEADLINE_FIELD) + 8  # bytes
DEADLINE_HEAD = _LONG.pack(_DEADLINE_TABLE) + _DEADLINE_FIELD

_TEXT_NAMES = ("correlation id", "reply_to", "expiration", "message id", "method", "app_id")
_SHORTS: dict[str, bytes] = {}
_CONTENT_START = struct.Struct(">HHQ")  # class, weight, body size
