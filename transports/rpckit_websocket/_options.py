"""Options of `ws://` and `wss://`, as query parameters, settings or `transport_options=`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from tenacity import AsyncRetrying

from rpckit.message import NATIVE
from rpckit.transport import TransportOptions

__all__ = ["FASTAPI_RPC", "JSONRPC", "MAX_MESSAGE", "SUBPROTOCOL", "DialectName", "WebSocketOptions"]

SUBPROTOCOL = "rpckit.v1"
JSONRPC = "jsonrpc"
FASTAPI_RPC = "fastapi_websocket_rpc"
MAX_MESSAGE = 2 * 1024 * 1024  # bytes, unless an option says otherwise
DialectName = Literal["native", "jsonrpc", "fastapi_websocket_rpc"]


class WebSocketOptions(TransportOptions):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    dialect: DialectName = Field("native", description="the form in which a client speaks; a server answers all")
    default_dialect: DialectName | None = Field(
        None, description="of a peer that has said nothing for 5 seconds; without it the server keeps silent"
    )
    binary: bool = Field(False, description="JSON in binary frames, for a peer that takes no others")
    name: str = Field("", max_length=200, description="what this side is called in the peers of the other")
    headers: dict[str, str] = Field(default_factory=dict, description="of the opening request, such as a token")
    heartbeat: float = Field(10.0, gt=0, description="seconds; a silent peer is found dead within two of them")
    attempts: int = Field(0, ge=0, description="attempts to reconnect before giving up for good; 0 for ever")
    retry: AsyncRetrying | None = Field(
        None, exclude=True, description="a policy of tenacity for reconnecting, in place of attempts"
    )
    max_message: int = Field(MAX_MESSAGE, ge=1024, description="bytes of one message; a larger one ends the session")
    max_unsent: int = Field(
        8 * 1024 * 1024,
        ge=1024,
        description="bytes that may wait for a slow peer; then it is dropped, events before it",
    )
    peer_limit: int = Field(100, ge=1, description="requests of one peer in hand at once; further ones wait their turn")
    ordered: bool = Field(False, description="one request of each peer at a time, in the order sent")
    origins: str = Field("", description="pages that may connect beside those of this host, by comma; * for all")
    compression: bool = Field(False, description="permessage-deflate: less on the wire, more work, for large messages")
    proxy: bool = Field(True, description="go through the proxy that the environment names")
    cafile: str | None = Field(None, description="who signed the certificate of wss://, as PEM")
    certfile: str | None = Field(None, description="this side's certificate, PEM; a listening wss:// needs one")
    keyfile: str | None = Field(None, description="its private key, PEM")

    @property
    def form(self) -> str:
        """Its JSON dialects are laid out here, from native messages."""
        return NATIVE

    @property
    def limit(self) -> int:
        """Requests of one peer in hand at once."""
        return 1 if self.ordered else self.peer_limit
