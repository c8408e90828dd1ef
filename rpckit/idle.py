"""Whether anything is left to do, and how long somebody waits until nothing is."""

from __future__ import annotations

import asyncio

__all__ = ["Idle"]


class Idle(asyncio.Event):
    """Set while nothing is left to do, as at first.

    Invariant: who waits `within` some time waits no longer than that; once hurried, nobody waits any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set()
        self.hurried = False
        self._patience: asyncio.Timeout | None = None  # of who waits

    async def within(self, seconds: float) -> bool:
        """Whether it is set in time. Cancelling is safe. One waits at a time."""
        try:
            async with asyncio.timeout(0 if self.hurried else seconds) as self._patience:
                await self.wait()
        except TimeoutError:
            return False
        finally:
            self._patience = None
        return True

    def hurry(self) -> bool:
        """The time of who waits is over now, and that of who waits later. False if it was told before."""
        told, self.hurried = self.hurried, True
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())
        return not told
