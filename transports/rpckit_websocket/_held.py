"""The requests of one peer that wait for their turn. Pure.

Those that calls of ours wait for stand apart: they may pass the others, or nobody would ever get any further.
"""

from __future__ import annotations

from collections import OrderedDict

from rpckit.message import Message

__all__ = ["MAX_WAITING", "MAX_WAITING_BYTES", "HeldRequests"]

MAX_WAITING = 16_384  # requests; as many as a client may have pending
MAX_WAITING_BYTES = 64 * 1024 * 1024


class HeldRequests:
    """In the order they came; each leaves once: taken, dropped or refused."""

    __slots__ = ("_bytes", "_nested", "_plain", "_serial")

    def __init__(self) -> None:
        self._plain: OrderedDict[str, Message] = OrderedDict()
        self._nested: OrderedDict[str, Message] = OrderedDict()
        self._bytes = 0
        self._serial = 0

    def __len__(self) -> int:
        return len(self._plain) + len(self._nested)

    def hold(self, message: Message) -> bool:
        """False: there is no room."""
        size = _size(message)
        if len(self) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return False
        self._serial += 1
        held = self._nested if message.depth else self._plain
        key = message.correlation_id
        held[key if key and key not in held else f"#{self._serial}"] = message
        self._bytes += size
        return True

    def first(self, *, nested: bool) -> Message | None:
        """The one that has waited for longest, left in place."""
        held = self._nested if nested else self._plain
        return next(iter(held.values())) if held else None

    def take_first(self, *, nested: bool) -> Message:
        _, message = (self._nested if nested else self._plain).popitem(last=False)
        self._bytes -= _size(message)
        return message

    def drop(self, correlation_id: str) -> bool:
        """Forget one that was cancelled."""
        message = self._plain.pop(correlation_id, None) or self._nested.pop(correlation_id, None)
        if message is None:
            return False
        self._bytes -= _size(message)
        return True

    def drop_address(self, address: str) -> list[Message]:
        """Take out everything for an address that is served no more."""
        dropped = []
        for held in (self._plain, self._nested):
            for key in [key for key, message in held.items() if message.address == address]:
                dropped.append(held.pop(key))
                self._bytes -= _size(dropped[-1])
        return dropped

    def clear(self) -> None:
        self._plain.clear()
        self._nested.clear()
        self._bytes = 0


def _size(message: Message) -> int:
    """About the bytes that a request takes while it waits; a name may be as long as a frame."""
    texts = (message.address, message.method, message.message_id, message.correlation_id, message.content_type)
    named = sum(len(name) + len(value) for name, value in message.headers.items())
    return len(message.body) + sum(map(len, texts)) + named
