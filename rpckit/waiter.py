"""The waiter of one call: an asyncio.Event and the outcome it announces."""

from __future__ import annotations

from asyncio import Event
from typing import Generic, TypeVar

from rpckit.errors import RpcError

__all__ = ["Waiter"]

T = TypeVar("T")


class Waiter(Event, Generic[T]):
    """Set once, by whoever takes the call out of its table; later outcomes are ignored.

    ``await waiter.wait()``, then `outcome`. Cancelling `wait` is safe: the outcome stays where it is.
    """

    _result: T | None = None
    _error: RpcError | None = None

    def succeed(self, result: T) -> None:
        if not self.is_set():
            self._result = result
            self.set()

    def fail(self, error: RpcError) -> None:
        if not self.is_set():
            self._error = error
            self.set()

    def outcome(self) -> T:
        """The result, or the error raised, once it is set."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set by succeed before the event
