"""Which deliveries of a channel are settled, and the fewest acks that say so. Pure."""

from __future__ import annotations

__all__ = ["AckBook"]


class AckBook:
    """Delivery tags handed out and not yet acked. Acks of one tick leave together."""

    __slots__ = ("_settled", "outstanding")

    def __init__(self) -> None:
        self.outstanding: dict[int, None] = {}  # the tags not yet acked, in their order
        self._settled: set[int] = set()

    def add(self, tag: int) -> None:
        """Tags come in ascending order."""
        self.outstanding[tag] = None

    def settle(self, tag: int) -> bool:
        """False for a tag already settled or not of this channel."""
        if tag not in self.outstanding or tag in self._settled:
            return False
        self._settled.add(tag)
        return True

    def drop(self, tag: int) -> bool:
        """Take a tag out that was rejected instead; False as in `settle`."""
        if tag in self._settled:
            return False
        return self.outstanding.pop(tag, tag) is None

    def take(self) -> tuple[int | None, list[int]]:
        """What to ack: everything up to the first (None: nothing), and single tags beyond it."""
        settled, outstanding = self._settled, self.outstanding
        upto: int | None = None
        while settled:
            first = next(iter(outstanding))
            if first not in settled:
                break
            del outstanding[first]
            settled.remove(first)
            upto = first
        singles = sorted(settled)
        for tag in singles:
            del outstanding[tag]
        settled.clear()
        return upto, singles
