"""Names the `async def` that blocks the event loop, while it does.

A thread asks the loop for a sign of life; when it stays away for over a second, the running task and the
line it stands at are logged, once for each block. The loop itself keeps no timer for it.
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
        self._answered = True

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._look, name="rpckit-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _look(self) -> None:
        asked_at, told = 0.0, False
        while not self._ended.wait(BEAT_S):
            if self._answered:
                asked_at, told = time.monotonic(), False
                if not self._ask():
                    return
            elif not told and time.monotonic() - asked_at > BLOCKED_S:
                told = True
                self._tell()

    def _ask(self) -> bool:
        """False when the loop was closed with its server still running."""
        self._answered = False
        try:
            self._loop.call_soon_threadsafe(self._answer)
        except RuntimeError:
            return False
        return True

    def _answer(self) -> None:
        self._answered = True

    def _tell(self) -> None:
        task = asyncio.current_task(self._loop)
        handler = self._name_of(task)
        name = handler or (task.get_name() if task is not None else "something that is no task")
        advice = "; make it a plain def, which runs in a thread" if handler else ""
        frame = sys._current_frames().get(self._loop_thread)
        where = traceback.format_stack(frame)[-1].strip() if frame is not None else "unknown"
        log.warning(
            "%s blocks the event loop for over %.0f s%s. It stands at %s",
            name,
            BLOCKED_S,
            advice,
            where,
        )
