"""WebSocket: both sides call, in three dialects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpckit.errors import UsageError

from ._options import SUBPROTOCOL
from ._transport import WebSocketTransport
from ._utility import RpcUtilityMethods

if TYPE_CHECKING:
    from ._endpoint import WebSocketEndpoint

__all__ = ["JAVASCRIPT", "SUBPROTOCOL", "RpcUtilityMethods", "WebSocketEndpoint", "WebSocketTransport"]

JAVASCRIPT = Path(__file__).with_name("rpckit.js")  # the client for browsers and Node, to be served as it is


def __getattr__(name: str) -> Any:
    """The endpoint needs a web framework, which who only dials or listens need not have."""
    if name != "WebSocketEndpoint":
        raise AttributeError(name)
    try:
        from ._endpoint import WebSocketEndpoint
    except ModuleNotFoundError as error:
        raise UsageError(
            f'WebSocketEndpoint needs the package {error.name!r}: pip install "rpckit[fastapi]"'
        ) from error
    return WebSocketEndpoint
