"""What may be said in a `redis…://` URL's query."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rpckit.transport import TransportOptions

__all__ = ["RedisOptions"]


class RedisOptions(TransportOptions):
    """Options of `redis+stream://`, `redis+list://`, `redis+pubsub://` and their `rediss` forms."""

    dialect: Literal["native", "faststream", "plain"] = Field(
        "native", description="faststream, or plain: the envelope of FastStream, for its servers"
    )
    heartbeat: float = Field(
        5.0, ge=0.2, le=600, description="seconds; a silent connection is given up after two of them"
    )
    share: Literal["claim", "broadcast"] = Field(
        "claim", description="Pub/Sub: a request is run by the one server that claims it, or by every one"
    )
    unix: str | None = Field(None, description="path of a unix socket, instead of a host")
    sentinel_password: str | None = Field(None, description="password of the sentinels, if they have one")
    cafile: str | None = Field(None, description="rediss: a PEM file of authorities to trust instead of the system's")
    certfile: str | None = Field(None, description="rediss: this side's certificate, PEM")
    keyfile: str | None = Field(None, description="rediss: its private key, PEM")
