"""WebSocket: both sides call, in three dialects."""

from __future__ import annotations

from ._transport import WebSocketTransport

__all__ = ["WebSocketTransport"]
