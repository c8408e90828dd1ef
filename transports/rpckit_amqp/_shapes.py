"""Native property lists, read at one go. Pure.

Those of one sender differ in what they say, hardly ever in how long it is. So a list whose flags and lengths were
seen before is taken apart by one compiled `Struct`; any other goes the general way, which also finds what is wrong
with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from rpckit.message import REQUEST, Message

from ._frames import (
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
)
from ._mapping import APP_ID, KINDS

__all__ = ["Shapes"]

MAX_SHAPES = 256  # remembered; then all are learnt anew

_FIELDS = (F_CONTENT_TYPE, F_HEADERS, F_CORRELATION_ID, F_REPLY_TO, F_EXPIRATION, F_MESSAGE_ID, F_TYPE)
_KNOWN = sum(_FIELDS) | F_DELIVERY_MODE | F_APP_ID
_END = bytes((len(APP_ID),)) + APP_ID.encode()


@dataclass(frozen=True, slots=True)
class _Shape:
    """The struct yields at even places what is the same in all such lists, at odd ones the values of `_FIELDS`."""

    struct: Struct
    same: tuple[bytes, ...]
    deadline: bool


class Shapes:
    """The shapes of the lists that came by one connection, by length: the last one of each."""

    def __init__(self) -> None:
        self._shapes: dict[int, _Shape] = {}

    def read(self, properties: bytes, body: bytes, address: str) -> Message | None:
        """A native message as `from_properties` would give it; None for a shape that is not known yet.

        Raises `UnicodeDecodeError`.
        """
        shape = self._shapes.get(len(properties))
        if shape is None:
            self._learn(properties)
            return None
        fields = shape.struct.unpack(properties)
        if fields[::2] != shape.same:
            del self._shapes[len(properties)]  # the next one is learnt
            return None
        _, content_type, _, deadline, _, correlation_id, _, reply_to, _, left, _, message_id, _, type_, _ = fields
        if (left and not left.isdigit()) or (shape.deadline and deadline < 0):
            return None
        name = type_.decode()
        kind = KINDS.get(name, REQUEST)
        return Message(
            kind,
            address,
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
            body,
        )

    def _learn(self, properties: bytes) -> None:
        shape = _shape_of(properties)
        if shape is None:
            return
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        self._shapes[len(properties)] = shape


def _shape_of(properties: bytes) -> _Shape | None:
    """None for a list of a stranger, or with anything that native messages seldom have."""
    flags = int.from_bytes(properties[:2], "big")
    if flags & ~_KNOWN or not properties.endswith(_END):
        return None
    layout, at, same = ">", 2, 2  # `same`: bytes since the last value
    for flag in _FIELDS:
        if flag == F_CORRELATION_ID and flags & F_DELIVERY_MODE:
            at, same = at + 1, same + 1
        if not flags & flag:
            head, size, value = 0, 0, "0s"
        elif flag == F_HEADERS:
            if not properties.startswith(DEADLINE_HEAD, at):
                return None
            head, size, value = len(DEADLINE_HEAD), 8, "q"
        else:
            if at >= len(properties):
                return None
            head, size = 1, properties[at]
            value = f"{size}s"
        layout += f"{same + head}s{value}"
        at, same = at + head + size, 0
    if at + len(_END) != len(properties):
        return None
    struct = Struct(f"{layout}{len(_END)}s")
    return _Shape(struct, struct.unpack(properties)[::2], bool(flags & F_HEADERS))
