"""SIGINT and SIGTERM as callbacks of the running loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

__all__ = ["on_signals"]


def on_signals(callback: Callable[[], None]) -> Callable[[], None]:
    """Call back on SIGINT and SIGTERM; returns what undoes it. Without signals (Windows, threads) nothing."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, callback)
    except (NotImplementedError, RuntimeError, ValueError):
        return lambda: None

    def undo() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    return undo
