"""A clock that stands still until a test moves it.

Invariant: time never runs backwards, and never by itself.
"""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Stands in for `time.monotonic`: call it for the seconds, `advance()` it by hand."""

    def __init__(self, now: float = 1_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> float:
        """Move on by `seconds` and return the new time. Raises ValueError when they are negative."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back: advance({seconds!r})")
        self._now += seconds
        return self._now
