"""What a copy of a request says: all that the original said, but for what was meant for its own publishing. Pure.

The broker refuses the `user_id` of another user than the publisher's, and closes the channel over it; and it routes
what has the headers CC or BCC to the queues named there too, where the original has been already.
https://www.rabbitmq.com/docs/validated-user-id, https://www.rabbitmq.com/docs/sender-selected
"""

from __future__ import annotations

from collections.abc import Iterator

from ._frames import (
    F_CLUSTER_ID,
    F_CONTENT_TYPE,
    F_DELIVERY_MODE,
    F_HEADERS,
    F_PRIORITY,
    F_TIMESTAMP,
    F_USER_ID,
    ROUTING_HEADERS,
    FrameError,
)

__all__ = ["for_a_copy"]

_ROUTING = tuple(bytes((len(name),)) + name.encode() for name in ROUTING_HEADERS)  # as they stand in a table
_FIXED = {F_DELIVERY_MODE: 1, F_PRIORITY: 1, F_TIMESTAMP: 8}  # bytes of a property; the others are short strings
_VALUES = {  # bytes of a header's value behind its type
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"sUu", 2),
    **dict.fromkeys(b"Iif", 4),
    ord("D"): 5,
    **dict.fromkeys(b"lLdT", 8),
    **dict.fromkeys(b"V\x00", 0),
}
_SIZED = b"SxAF"  # types of values that begin with their size


def for_a_copy(properties: bytes) -> bytes:
    """A property list without that. Raises `FrameError` where a header is of a type that nobody knows."""
    flags = int.from_bytes(properties[:2], "big")
    if not flags & F_USER_ID and not any(name in properties for name in _ROUTING):
        return properties
    fields = dict(_fields(properties, flags))
    fields.pop(F_USER_ID, None)
    if F_HEADERS in fields:
        fields[F_HEADERS] = _not_routed(fields[F_HEADERS])
    return sum(fields).to_bytes(2, "big") + b"".join(fields.values())


def _fields(properties: bytes, flags: int) -> Iterator[tuple[int, bytes]]:
    """Each property by its flag, as it stands there."""
    start, flag = 2, F_CONTENT_TYPE
    while flag >= F_CLUSTER_ID:
        if flags & flag:
            end = start + _size(properties, start, flag)
            yield flag, properties[start:end]
            start = end
        flag >>= 1


def _size(properties: bytes, start: int, flag: int) -> int:
    if flag == F_HEADERS:
        return 4 + int.from_bytes(properties[start : start + 4], "big")
    return _FIXED.get(flag) or 1 + properties[start]


def _not_routed(table: bytes) -> bytes:
    kept = b"".join(entry for entry in _entries(table) if not entry.startswith(_ROUTING))
    return len(kept).to_bytes(4, "big") + kept


def _entries(table: bytes) -> Iterator[bytes]:
    """Each header of a table, as it stands there: name, type and value."""
    start = 4
    while start < len(table):
        value = start + 1 + table[start] + 1
        kind = table[value - 1]
        if kind in _SIZED:
            end = value + 4 + int.from_bytes(table[value : value + 4], "big")
        elif kind in _VALUES:
            end = value + _VALUES[kind]
        else:
            raise FrameError(f"a header is of the unknown type {chr(kind)!r}")
        yield table[start:end]
        start = end
