"""Call a function on another machine through the broker you already run.

One service, one client; RabbitMQ, Redis, WebSocket, memory or a transport of your own by changing one URL.

Each name is imported from its module when it is first asked for (PEP 562): whoever needs the errors need not wait for
the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from rpckit.settings import Settings, load_settings
    from rpckit.typed import TypedClient

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

_MODULES = {
    "blocking": ("BlockingClient", "BlockingTypedClient"),
    "call": ("Call", "CallOptions", "Reply"),
    "client": ("Client",),
    "context": ("CallLogFilter", "Context", "Response", "current_context"),
    "contract": ("Service",),
    "peer": ("Peer",),
    "peers": ("RemotePeer",),
    "server": ("Server",),
    "settings": ("Settings", "load_settings"),
    "typed": ("TypedClient",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(f"rpckit.{_PLACES.get(name, 'errors')}"), name)
        globals()[name] = found
        return found
