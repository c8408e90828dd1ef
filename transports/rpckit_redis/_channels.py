"""Which Pub/Sub channels this process hears, and who wants to know. Survives reconnects."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ._connection import Session
from ._link import OnPatternPush

__all__ = ["Channels", "OnChannelData", "OnData"]

OnData = Callable[[bytes], None]
OnChannelData = Callable[[str, bytes], None]  # of a pattern: the channel it came from

F = TypeVar("F")


class Channels:
    """Callbacks by channel. A subscription is confirmed by Redis before `listen` returns."""

    def __init__(self) -> None:
        self.on_other_pattern: OnPatternPush = _ignore  # what came by a pattern that was not subscribed here
        self._listening: dict[bytes, list[OnData]] = {}
        self._patterns: dict[bytes, list[OnChannelData]] = {}
        self._session: Session | None = None

    @property
    def session(self) -> Session | None:
        """Which they come from; None between two connections."""
        return self._session

    async def attach(self, session: Session) -> None:
        """A new session: everything is subscribed again before anything is sent."""
        session.main.on_push = self._on_push
        session.main.on_pattern_push = self._on_pattern_push
        self._session = session
        for channel in list(self._listening):
            if channel in self._listening:  # else it was left meanwhile
                await session.main.subscribe(channel.decode())
        for glob in list(self._patterns):
            if glob in self._patterns:
                await session.main.subscribe_pattern(glob.decode())

    def detach(self) -> None:
        self._session = None

    def forget(self, channel: str) -> None:
        """Of a session that is gone: the next one does not subscribe it."""
        self._listening.pop(channel.encode(), None)

    async def listen(self, channel: str, on_data: OnData) -> None:
        """Twice is once. Raises as `Link.ask`; then nothing is left."""
        session = self._session
        first = _add(self._listening, channel, on_data)
        try:
            if session is not None and first:
                await session.main.subscribe(channel)
        except BaseException:
            _remove(self._listening, channel, on_data)
            raise

    async def listen_pattern(self, glob: str, on_data: OnChannelData) -> None:
        """The same, of every channel that matches."""
        session = self._session
        first = _add(self._patterns, glob, on_data)
        try:
            if session is not None and first:
                await session.main.subscribe_pattern(glob)
        except BaseException:
            _remove(self._patterns, glob, on_data)
            raise

    async def leave(self, channel: str, on_data: OnData) -> None:
        """Nothing more comes once this returns."""
        _remove(self._listening, channel, on_data)
        session = self._session
        if session is not None and session.alive and channel.encode() not in self._listening:
            await session.main.unsubscribe(channel)

    async def leave_pattern(self, glob: str, on_data: OnChannelData) -> None:
        _remove(self._patterns, glob, on_data)
        session = self._session
        if session is not None and session.alive and glob.encode() not in self._patterns:
            await session.main.unsubscribe_pattern(glob)

    def _on_push(self, channel: bytes, data: bytes) -> None:
        for on_data in self._listening.get(channel, ()):
            on_data(data)

    def _on_pattern_push(self, glob: bytes, channel: bytes, data: bytes) -> None:
        known = self._patterns.get(glob)
        if known is None:
            self.on_other_pattern(glob, channel, data)
            return
        for on_data in known:
            on_data(channel.decode(errors="replace"), data)


def _add(table: dict[bytes, list[F]], channel: str, on_data: F) -> bool:
    """Whether it is the first one there. Twice is once."""
    callbacks = table.setdefault(channel.encode(), [])
    if on_data in callbacks:
        return False
    callbacks.append(on_data)
    return len(callbacks) == 1


def _remove(table: dict[bytes, list[F]], channel: str, on_data: F) -> None:
    name = channel.encode()
    callbacks = table.get(name, [])
    if on_data in callbacks:
        callbacks.remove(on_data)
    if not callbacks:
        table.pop(name, None)


def _ignore(*_: object) -> None:
    """Nobody has subscribed one."""
