"""How long to wait before connecting again. Pure: randomness and elapsed time come in as arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """0.05 → 0.5 s with jitter for five minutes, then up to 5 s, for ever. All in seconds.

    Jitter takes away up to half of each delay, so that clients of a restarted broker do not come in step.
    """

    first: float = 0.05
    most: float = 0.5
    patience: float = 300.0
    most_later: float = 5.0

    def delay(self, attempt: int, elapsed: float, uniform: Callable[[], float]) -> float:
        """Seconds before the next try. attempt: 0 for the first; elapsed: seconds since the loss; 0 ≤ uniform() < 1."""
        cap = self.most if elapsed < self.patience else self.most_later
        full = min(cap, self.first * 2.0 ** min(attempt, 16))
        return full * (1.0 - 0.5 * uniform())
