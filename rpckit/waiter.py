"""The waiter of one call: an asyncio.Event and the outcome it announces."""

from __future__ import annotations

from asyncio import Event
from typing import Generic, TypeVar

from rpckit.errors import RpcError

__all__ = ["Waiter"]

T = TypeVar("T")


class Waiter(Generic[T]):
    """Set once, by whoever takes the call out of its table; later outcomes are ignored.

    Cancelling `wait` is safe: the outcome stays where it is.
    """

    __slots__ = ("_error", "_event", "_value")

    def __init__(self) -> None:
        self._event = Event()
        self._value: T | None = None
        self._error: RpcError | None = None

    @property
    def done(self) -> bool:
        return self._event.is_set()

    def succeed(self, value: T) -> None:
        if not self._event.is_set():
            self._value = value
            self._event.set()

    def fail(self, error: RpcError) -> None:
        if not self._event.is_set():
            self._error = error
            self._event.set()

    async def wait(self) -> T:
        """The value, or the error raised."""
        await self._event.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set by succeed before the event
