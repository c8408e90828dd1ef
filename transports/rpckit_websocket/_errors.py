"""What `websockets` and the system raise, as errors of ours. The one place that knows."""

from __future__ import annotations

import ssl

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)

from rpckit.errors import ConnectionLost, NotSent, RpcError, UsageError
from rpckit.tls import untrusted

__all__ = ["REFUSALS", "Refused", "explain"]

REFUSALS = frozenset((401, 403))  # a server that answers so has decided: asking again cannot help


class Refused(UsageError):
    """The server does not want this client."""


def explain(error: BaseException, where: str) -> RpcError:
    """Why there is no session at `where`."""
    if isinstance(error, ConnectionLost):  # while it was opened: nothing of a caller's had left
        return NotSent(f"{where}: {error}")
    if isinstance(error, RpcError):
        return error
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        if status in REFUSALS:
            return Refused(f"{where} refused the connection (HTTP {status}): check path, token, headers and origin")
        if status == 404:
            return UsageError(
                f"{where}: there is no WebSocket at that path (HTTP 404); a server says its URL when it starts"
            )
        return NotSent(f"{where} answered HTTP {status} instead of opening a WebSocket")
    if isinstance(error, TimeoutError):
        return NotSent(f"{where} did not answer in time: is it a WebSocket server, and well?")
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(where, error)
    if isinstance(error, InvalidURI):
        return UsageError(f"{where}: not a URL that can be dialled: {error.msg}")
    if isinstance(error, InvalidProxy):
        return UsageError(f"{where}: the proxy that the environment names cannot be used: {error.msg}")
    if isinstance(error, ProxyError | InvalidHandshake | ConnectionClosed | WebSocketException):
        return NotSent(f"{where} did not open a WebSocket: {error}")
    return NotSent(f"cannot connect to {where}: {str(error) or type(error).__name__}")
