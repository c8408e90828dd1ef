"""Deliveries of native messages, read at one go. Pure.

Those from one sender to one consumer differ in what they say, hardly ever in how long it is. So a delivery whose
frames have the sizes, flags and lengths of one seen before is taken apart by one compiled `Struct`. Any other goes
the general way, which also finds what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from rpckit.message import REQUEST, Message

from ._frames import (
    BODY,
    DEADLINE_HEAD,
    F_APP_ID,
    F_CONTENT_TYPE,
    F_CORRELATION_ID,
    F_DELIVERY_MODE,
    F_EXPIRATION,
    F_HEADERS,
    F_MESSAGE_ID,
    F_REPLY_TO,
    F_TYPE,
    FRAME_END,
    HEAD_SIZE,
    HEADER,
    HEADER_START,
    TAG_BIT,
)
from ._mapping import APP_ID, KINDS, MAX_DIGITS

__all__ = ["Shapes"]

MAX_SHAPES = 256  # remembered; then all are learnt anew
MAX_RELEARNT = 256  # times that one of the same sizes takes the place of another

_FIELDS = (F_CONTENT_TYPE, F_HEADERS, F_CORRELATION_ID, F_REPLY_TO, F_EXPIRATION, F_MESSAGE_ID, F_TYPE)
_KNOWN = sum(_FIELDS) | F_DELIVERY_MODE | F_APP_ID
_APP_ID = bytes((len(APP_ID),)) + APP_ID.encode()
_TAG_AT = HEAD_SIZE + 5  # of the consumer tag in a method frame: after class, method and its length
_kind_of = KINDS.get  # looked up once, not for each delivery

# consumer tag, delivery tag, redelivered, exchange and routing key, the message without an address, its property list,
# where it ends
Shaped = tuple[bytes, int, bool, bytes, Message, bytes, int]


@dataclass(frozen=True, slots=True)
class _Shape:
    """The struct yields at even places what is the same in all such deliveries, up to the bytes of the body.

    At odd ones: delivery tag, size of the body, the values of `_FIELDS`, size of the body frame.
    """

    struct: Struct
    size: int  # of the struct, which is slow to say it
    same: tuple[bytes, ...]
    consumer_tag: bytes
    redelivered: bool
    route: bytes  # exchange and routing key, as they come
    properties: int  # where the property list begins
    deadline: bool


class Shapes:
    """The shapes of one channel's deliveries, by the sizes of their frames: the last one of each."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, bytes], _Shape] = {}
        self._relearnt = 0

    def read(self, buffer: bytes, position: int, header: int, end: int) -> Shaped | None:
        """The delivery whose method frame begins at `position` and ends at `header`; None: the general way."""
        key = (header - position, buffer[header : header + HEAD_SIZE])
        shape = self._shapes.get(key)
        if shape is None:
            self._learn(key, buffer, position, header, end)
            return None
        start = position + shape.size
        if start >= end:
            return None
        fields = shape.struct.unpack_from(buffer, position)
        if fields[::2] != shape.same:
            if self._relearnt < MAX_RELEARNT:
                self._relearnt += 1
                del self._shapes[key]  # the next one is learnt
            return None
        tag, whole, content_type, deadline, correlation_id, reply_to, left, message_id, type_, size = fields[1::2]
        stop: int = start + size
        if stop >= end or size != whole or buffer[stop] != FRAME_END:
            return None
        if (left and not left.isdigit()) or len(left) > MAX_DIGITS or (shape.deadline and deadline < 0):
            return None
        try:
            name = type_.decode()
            kind = _kind_of(name, REQUEST)
            message = Message(
                kind,
                "",
                name if kind is REQUEST else "",
                message_id.decode(),
                correlation_id.decode(),
                reply_to.decode(),
                content_type.decode(),
                int(left) if left else None,
                deadline if shape.deadline else None,
                1,
                0,
                {},
                buffer[start:stop],
            )
        except UnicodeDecodeError:
            return None
        properties = buffer[position + shape.properties : start - HEAD_SIZE - 1]
        return shape.consumer_tag, tag, shape.redelivered, shape.route, message, properties, stop + 1

    def _learn(self, key: tuple[int, bytes], buffer: bytes, position: int, header: int, end: int) -> None:
        if end - header < HEADER_START.size:
            return
        kind, _, size, _ = HEADER_START.unpack_from(buffer, header)
        body = header + HEAD_SIZE + size + 1
        if kind != HEADER or end - body < HEAD_SIZE or buffer[body - 1] != FRAME_END or buffer[body] != BODY:
            return
        channel = buffer[position + 1 : position + 3]
        if not (channel == buffer[header + 1 : header + 3] == buffer[body + 1 : body + 3]):
            return
        shape = _shape_of(buffer[position : body + HEAD_SIZE], header - position)
        if shape is None:
            return
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        self._shapes[key] = shape


def _shape_of(delivery: bytes, header: int) -> _Shape | None:
    """Of a delivery up to its body, `header` bytes of it a method frame.

    None for that of a stranger, or with anything that native messages seldom have.
    """
    properties = header + HEADER_START.size
    flags = int.from_bytes(delivery[properties : properties + 2], "big")
    if flags & ~_KNOWN or not flags & F_APP_ID:
        return None
    tag_at = _TAG_AT + delivery[_TAG_AT - 1]
    if tag_at + TAG_BIT.size >= header:
        return None
    layout = f">{tag_at}sQ{header + HEADER_START.size - 8 - tag_at - 8}sQ"
    at, same = properties + 2, 2  # `same`: bytes since the last value
    for flag in _FIELDS:
        if flag == F_CORRELATION_ID and flags & F_DELIVERY_MODE:
            at, same = at + 1, same + 1
        if not flags & flag:
            head, size, value = 0, 0, "0s"
        elif flag == F_HEADERS:
            if not delivery.startswith(DEADLINE_HEAD, at):
                return None
            head, size, value = len(DEADLINE_HEAD), 8, "q"
        else:
            head, size = 1, delivery[at]
            value = f"{size}s"
        layout += f"{same + head}s{value}"
        at, same = at + head + size, 0
        if at >= len(delivery):
            return None
    rest = len(_APP_ID) + 1 + HEAD_SIZE - 4  # to the size of the body frame: the end of the header frame is among it
    if not delivery.startswith(_APP_ID, at) or at + rest + 4 != len(delivery):
        return None
    struct = Struct(f"{layout}{rest}sI")
    return _Shape(
        struct,
        struct.size,
        struct.unpack(delivery)[::2],
        consumer_tag=delivery[_TAG_AT:tag_at],
        redelivered=delivery[tag_at + 8] & 1 == 1,
        route=delivery[tag_at + TAG_BIT.size : header - 1],
        properties=properties,
        deadline=bool(flags & F_HEADERS),
    )
