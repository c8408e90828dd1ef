"""Where calls wait until they can be sent: connected, and with room in the table."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from rpckit.errors import NotSent, RpcError, UsageError

__all__ = ["Gate"]


class Gate:
    """Waiting calls, first come first let through; each waits to a moment of its own."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, until: float, late: Callable[[], RpcError]) -> None:
        """Until let through; from `until` (the loop's clock) on it raises what `late()` gives. Cancelling is safe."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(until, _give_up, waiting, late)
        self._waiting.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.exception() is None:
                self.let_one()  # it was let through just now, and will not go
            raise
        finally:
            timer.cancel()
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def let_one(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def let_all(self) -> None:
        for _ in range(len(self._waiting)):
            self.let_one()

    def refuse_all(self, error: UsageError | NotSent) -> None:
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            if not each.done():
                each.set_exception(type(error)(str(error)))  # each its own, with its own traceback


def _give_up(waiting: asyncio.Future[None], late: Callable[[], RpcError]) -> None:
    if not waiting.done():
        waiting.set_exception(late())
