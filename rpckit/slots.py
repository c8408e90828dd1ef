"""The concurrency limit of a server. Pure: it counts and queues, the shell starts.

A handler that awaits a nested call lends its slot, so that nested calls cannot starve each other
at any limit; one that resumes goes before work that has not begun.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable

__all__ = ["Slots"]

Start = Callable[[], None]


class Slots:
    """`limit` slots; starts are called as slots come free, resuming handlers first, each kind in order."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._taken = 0
        self._dealing = False
        self._resuming: deque[Start] = deque()
        self._waiting: OrderedDict[Hashable, Start] = OrderedDict()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def take(self) -> bool:
        """Whether there was a slot; if not, `wait`."""
        if self._taken >= self.limit or self._resuming:
            return False
        self._taken += 1
        return True

    def wait(self, key: Hashable, start: Start) -> None:
        """Call `start` with a slot when one comes free; `key` withdraws it."""
        self._waiting[key] = start

    def withdraw(self, key: Hashable) -> None:
        """Forget a start that has no slot yet; its owner disposes of the work."""
        self._waiting.pop(key, None)

    def resume(self, start: Start) -> None:
        """Call `start` with a slot, now or when one comes free, before all that has not begun."""
        if self._taken < self.limit:
            self._taken += 1
            start()
        else:
            self._resuming.append(start)

    def take_now(self) -> None:
        """A slot at once, beyond the limit if need be: for a handler that is being stopped."""
        self._taken += 1

    def release(self) -> None:
        self._taken -= 1
        if not self._waiting and not self._resuming:
            return
        if self._dealing:  # a start that gives its slot back at once; the loop below goes on
            return
        self._dealing = True
        try:
            self._deal()
        finally:
            self._dealing = False

    def _deal(self) -> None:
        while self._taken < self.limit:
            if self._resuming:
                start = self._resuming.popleft()
            elif self._waiting:
                _, start = self._waiting.popitem(last=False)
            else:
                return
            self._taken += 1
            start()
