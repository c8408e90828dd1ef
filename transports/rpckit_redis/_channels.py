"""Which Pub/Sub channels this process hears, and who wants to know. Survives reconnects."""

from __future__ import annotations

from collections.abc import Callable

from ._connection import Session

__all__ = ["Channels", "OnData"]

OnData = Callable[[bytes], None]


class Channels:
    """Callbacks by channel. A subscription is confirmed by Redis before `listen` returns."""

    def __init__(self) -> None:
        self._listening: dict[bytes, list[OnData]] = {}
        self._session: Session | None = None

    @property
    def session(self) -> Session | None:
        """Which they come from; None between two connections."""
        return self._session

    async def attach(self, session: Session) -> None:
        """A new session: everything is subscribed again before anything is sent."""
        session.main.on_push = self._on_push
        self._session = session
        for channel in list(self._listening):
            await session.main.subscribe(channel.decode())

    def detach(self) -> None:
        self._session = None

    def forget(self, channel: str) -> None:
        """Of a session that is gone: the next one does not subscribe it."""
        self._listening.pop(channel.encode(), None)

    async def listen(self, channel: str, on_data: OnData) -> None:
        """Twice is once. Raises as `Link.ask`; then nothing is left."""
        session, name = self._session, channel.encode()
        callbacks = self._listening.setdefault(name, [])
        if on_data in callbacks:
            return
        callbacks.append(on_data)
        try:
            if session is not None and len(callbacks) == 1:
                await session.main.subscribe(channel)
        except BaseException:
            self._forget(name, on_data)
            raise

    async def leave(self, channel: str, on_data: OnData) -> None:
        """Nothing more comes once this returns."""
        self._forget(channel.encode(), on_data)
        session = self._session
        if session is not None and session.alive and channel.encode() not in self._listening:
            await session.main.unsubscribe(channel)

    def _forget(self, name: bytes, on_data: OnData) -> None:
        callbacks = self._listening.get(name, [])
        if on_data in callbacks:
            callbacks.remove(on_data)
        if not callbacks:
            self._listening.pop(name, None)

    def _on_push(self, channel: bytes, data: bytes) -> None:
        for on_data in self._listening.get(channel, ()):
            on_data(data)
