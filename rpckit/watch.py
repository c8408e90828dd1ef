"""Names the `async def` that blocks the event loop, while it does.

A thread looks at a beat that the loop keeps; when it stays away for over a second, the running
task and the line it stands at are logged, once for each block.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

__all__ = ["BLOCKED_S", "LoopWatch"]

log = logging.getLogger(__name__)

BLOCKED_S = 1.0  # seconds without a beat that are worth a warning
BEAT_S = 0.25


class LoopWatch:
    """Watches the running loop between `start` and `stop`. `name_of(task)` says what a task runs, or None."""

    def __init__(self, name_of: Callable[[asyncio.Task[object] | None], str | None]) -> None:
        self._name_of = name_of
        self._ended = threading.Event()
        self._beat_at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        self._thread = threading.Thread(target=self._look, name="rpckit-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._handle is not None:
            self._handle.cancel()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._handle = self._loop.call_later(BEAT_S, self._beat)

    def _look(self) -> None:
        told_of = 0.0
        while not self._ended.wait(BEAT_S):
            beat_at = self._beat_at
            if time.monotonic() - beat_at > BLOCKED_S + BEAT_S and told_of != beat_at:
                told_of = beat_at
                self._tell()

    def _tell(self) -> None:
        task = asyncio.current_task(self._loop)
        name = self._name_of(task) or (task.get_name() if task is not None else "a callback")
        frame = sys._current_frames().get(self._loop_thread)
        where = traceback.format_stack(frame)[-1].strip() if frame is not None else "unknown"
        log.warning(
            "%s blocks the event loop for over %.0f s; make it a plain def, which runs in a thread. It stands at %s",
            name,
            BLOCKED_S,
            where,
        )
