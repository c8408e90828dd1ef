"""Call a function on another machine through the broker you already run.

One service, one client; RabbitMQ, Redis, WebSocket, memory or a transport of your own by changing one URL.
"""

from typing import TYPE_CHECKING

from rpckit.blocking import BlockingClient, BlockingTypedClient
from rpckit.call import Call, CallOptions, Reply
from rpckit.client import Client
from rpckit.context import CallLogFilter, Context, Response, current_context
from rpckit.contract import Service
from rpckit.errors import (
    BadReply,
    ConnectionLost,
    DeadlineExceeded,
    Expired,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RemoteCancelled,
    RemoteError,
    RpcError,
    UnencodableResult,
    UsageError,
)
from rpckit.peer import Peer
from rpckit.peers import RemotePeer
from rpckit.server import Server
from rpckit.typed import TypedClient

if TYPE_CHECKING:
    from rpckit.settings import Settings, load_settings

__all__ = [
    "BadReply",
    "BlockingClient",
    "BlockingTypedClient",
    "Call",
    "CallLogFilter",
    "CallOptions",
    "Client",
    "ConnectionLost",
    "Context",
    "DeadlineExceeded",
    "Expired",
    "InternalError",
    "InvalidArgument",
    "MethodNotFound",
    "NoResponder",
    "NotSent",
    "OutcomeUnknown",
    "Overloaded",
    "Peer",
    "PermissionDenied",
    "RemoteCancelled",
    "RemoteError",
    "RemotePeer",
    "Reply",
    "Response",
    "RpcError",
    "Server",
    "Service",
    "Settings",
    "TypedClient",
    "UnencodableResult",
    "UsageError",
    "current_context",
    "load_settings",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """The settings, once somebody asks for them: their library takes a tenth of the time of this import."""
        if name in ("Settings", "load_settings"):
            from rpckit import settings

            return getattr(settings, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
