"""What may be said in an `amqp://` URL's query."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rpckit.transport import TransportOptions

from ._topology import Declare

__all__ = ["AmqpOptions"]


class AmqpOptions(TransportOptions):
    """Options of `amqp://` and `amqps://`."""

    dialect: Literal["native", "plain"] = Field(
        "native", description="plain: as in RabbitMQ's tutorials, the body is the argument"
    )
    heartbeat: int = Field(
        10,
        ge=1,
        le=600,
        description="seconds; a silent connection is given up after two of them",
    )
    reply: Literal["queue", "direct"] = Field(
        "queue", description="replies come on an exclusive queue, or by RabbitMQ's direct reply-to"
    )
    declare: Declare = Field("classic", description="the kind of request queue that is created where none exists")
    cafile: str | None = Field(None, description="amqps: a PEM file of authorities to trust instead of the system's")
    certfile: str | None = Field(None, description="amqps: this side's certificate, PEM")
    keyfile: str | None = Field(None, description="amqps: its private key, PEM")
