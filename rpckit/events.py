"""Events on their way to their handlers: what they have of a delivery, and how many may wait. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rpckit.message import Message

__all__ = ["MAX_WAITING", "EventBacklog", "EventDelivery"]

log = logging.getLogger(__name__)

MAX_WAITING = 16_384  # events without a slot; as many as calls may be pending in a client
MAX_WAITING_BYTES = 64 * 1024 * 1024  # of their bodies


class EventDelivery:
    """An event as a delivery: nobody keeps it, so there is nothing to settle, and nobody to answer."""

    __slots__ = ("message",)

    redelivered = False

    def __init__(self, message: Message) -> None:
        self.message = message

    def begin(self, told: Callable[[bool], None], *, again: bool = False) -> None:
        told(True)

    def reply(self, message: Message, *, confirmed: bool = False) -> None: ...

    def settle(self) -> None: ...

    def hand_back(self) -> None: ...

    def reject(self) -> None: ...


class EventBacklog:
    """Counts the events that wait for a slot. Over the limit they are dropped: at most once permits it.

    A burst of dropped events is over when half of those that waited have begun.
    """

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self.waiting = 0
        self.waiting_bytes = 0  # of bodies
        self.dropped = 0
        self._limit = limit
        self._in_burst = False

    def admit(self, size: int) -> bool:
        """Whether there is room for one more of `size` bytes; else it is counted, and warned of once a burst."""
        if self.waiting < self._limit and self.waiting_bytes + size <= MAX_WAITING_BYTES:
            self.waiting += 1
            self.waiting_bytes += size
            return True
        self.dropped += 1
        if not self._in_burst:
            self._in_burst = True
            log.warning("events are dropped: %d wait for their handlers (%d dropped)", self.waiting, self.dropped)
        return False

    def begin(self, size: int) -> None:
        """One that waited waits no more."""
        self.waiting -= 1
        self.waiting_bytes -= size
        if self.waiting <= self._limit // 2:
            self._in_burst = False
