"""The contenders: who is measured, and what each of them needs.

Every contender is a module here with the same two functions, so that the harness treats them alike:

    async def serve(url: str, ready: Callable[[], None]) -> None    answers until it is cancelled
    async def connect(url: str) -> Caller                           with `call(n)` and `close()`

A module may stand behind several contenders: they differ in the URL, or in the event loop.
The work is the same everywhere: the server takes an integer n and answers n + 1. Nothing is imported before a
worker process asks for its own contender, so that one missing package costs one contender only.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, cast

__all__ = ["BY_NAME", "CONTENDERS", "Caller", "Contender", "ContenderModule", "load", "missing_package", "named"]

Broker = Literal["amqp", "redis", "nats", "none"]
Group = Literal["RabbitMQ", "Redis streams", "Redis lists", "Redis Pub/Sub", "WebSocket", "others"]


class Caller(Protocol):
    """One client connection. `call` may be awaited by many tasks at once."""

    def call(self, n: int, /) -> Awaitable[int]: ...

    async def close(self) -> None: ...


class ContenderModule(Protocol):
    """What a module of this package offers."""

    async def serve(self, url: str, ready: Callable[[], None]) -> None: ...

    async def connect(self, url: str) -> Caller: ...


@dataclass(frozen=True)
class Contender:
    """One row of the table. `packages` are the import names it cannot run without."""

    name: str
    group: Group  # under which it is shown
    label: str  # what it is called there
    packages: tuple[str, ...]
    module: str = ""  # else it is called as the contender
    broker: Broker = "amqp"
    scheme: str = ""  # of its URL, if not the broker's
    query: str = ""  # of its URL
    floor: str = "floor"  # the contender it is measured against; "" for none
    uvloop: bool = False

    @property
    def title(self) -> str:
        """What it is called where its group is not shown."""
        return f"{self.group}: {self.label}"


def on_redis(kind: str, group: Group, peer: str, *variants: tuple[str, str, str]) -> tuple[Contender, ...]:
    """One kind of place in Redis: its floor, rpckit, what else of rpckit (name, label, query), FastStream."""
    place = partial(Contender, group=group, broker="redis", scheme=f"redis+{kind}", floor=f"floor_redis_{kind}")
    ours = ((f"rpckit_redis_{kind}", "rpckit", ""), *variants)
    return (
        place(f"floor_redis_{kind}", label="floor: hand-laid commands", packages=("hiredis",), module="floor_redis"),
        *(place(name, label=label, packages=RPCKIT_REDIS, module="rpckit", query=query) for name, label, query in ours),
        place(peer, label="FastStream", packages=("faststream", "redis"), module="faststream_redis"),
    )


RPCKIT_AMQP = ("rpckit", "aioamqp")
RPCKIT_REDIS = ("rpckit", "hiredis")
RPCKIT_WEBSOCKET = ("rpckit", "websockets")
on_websocket = partial(Contender, group="WebSocket", broker="none", scheme="ws", floor="websocket_bare")
CONTENDERS = (
    Contender("floor", "RabbitMQ", "floor: hand-laid frames", ("aioamqp",)),
    Contender("rpckit_amqp", "RabbitMQ", "rpckit", RPCKIT_AMQP, "rpckit"),
    Contender("rpckit_uvloop", "RabbitMQ", "rpckit + uvloop", (*RPCKIT_AMQP, "uvloop"), "rpckit", uvloop=True),
    Contender("aioamqp_tutorial", "RabbitMQ", "aioamqp, tutorial", ("aioamqp",)),
    Contender("aio_pika_hand", "RabbitMQ", "aio-pika, tutorial", ("aio_pika",)),
    Contender("aio_pika_rpc", "RabbitMQ", "aio-pika JsonRPC", ("aio_pika",)),
    Contender("faststream_rabbit", "RabbitMQ", "FastStream", ("faststream", "aio_pika")),
    *on_redis("stream", "Redis streams", "faststream_redis_stream"),
    *on_redis("list", "Redis lists", "faststream_redis_list"),
    *on_redis(
        *("pubsub", "Redis Pub/Sub", "faststream_redis_channel"),
        ("rpckit_redis_broadcast", "rpckit, each server runs all", "share=broadcast"),
    ),
    on_websocket("websocket_bare", label="bare program on websockets, JSON", packages=("websockets",)),
    on_websocket("rpckit_websocket", label="rpckit", packages=RPCKIT_WEBSOCKET, module="rpckit"),
    on_websocket(
        "rpckit_jsonrpc", label="rpckit, JSON-RPC", packages=RPCKIT_WEBSOCKET, module="rpckit", query="dialect=jsonrpc"
    ),
    on_websocket("fastapi_websocket_rpc", label="fastapi_websocket_rpc", packages=("fastapi_websocket_rpc", "uvicorn")),
    Contender("grpc_aio", "others", "gRPC asyncio, no broker", ("grpc",), broker="none", scheme="grpc", floor=""),
    Contender("nats", "others", "NATS, nats-py", ("nats",), broker="nats", floor=""),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def named(word: str) -> list[Contender]:
    """The contender of this name, or all that share this broker or scheme; none if there are none."""
    return [contender for contender in CONTENDERS if word in (contender.name, contender.broker, contender.scheme)]


def load(name: str) -> ContenderModule:
    """The module of a contender, imported now."""
    return cast(ContenderModule, import_module(f"{__name__}.{BY_NAME[name].module or name}"))


def missing_package(contender: Contender) -> str | None:
    """The first package that is not installed here; None when all are."""
    return next((name for name in contender.packages if find_spec(name) is None), None)
