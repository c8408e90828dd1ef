"""The contenders: who is measured, and what each of them needs.

Every contender is one module here with the same two functions, so that the harness treats them alike:

    async def serve(url: str, ready: Callable[[], None]) -> None    answers until it is cancelled
    async def connect(url: str) -> Caller                           with `call(n)` and `close()`

The work is the same everywhere: the server takes an integer n and answers n + 1. Nothing is imported before a
worker process asks for its own contender, so that one missing package costs one contender only.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Literal, Protocol, cast

__all__ = ["CONTENDERS", "Caller", "Contender", "ContenderModule", "load", "missing_package"]

Broker = Literal["amqp", "nats", "none"]


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
    """One row of the table. `name` is its module; `packages` are the import names it cannot run without."""

    name: str
    label: str
    packages: tuple[str, ...]
    broker: Broker = "amqp"
    uvloop: bool = False


CONTENDERS = (
    Contender("floor", "floor: hand-laid frames", ("aioamqp",)),
    Contender("rpckit_amqp", "rpckit", ("rpckit", "aioamqp")),
    Contender("rpckit_uvloop", "rpckit + uvloop", ("rpckit", "aioamqp", "uvloop"), uvloop=True),
    Contender("aioamqp_tutorial", "aioamqp, tutorial", ("aioamqp",)),
    Contender("aio_pika_hand", "aio-pika, tutorial", ("aio_pika",)),
    Contender("aio_pika_rpc", "aio-pika JsonRPC", ("aio_pika",)),
    Contender("faststream_rabbit", "FastStream RabbitMQ", ("faststream", "aio_pika")),
    Contender("grpc_aio", "gRPC asyncio, no broker", ("grpc",), broker="none"),
    Contender("nats", "NATS, nats-py", ("nats",), broker="nats"),
)


def load(name: str) -> ContenderModule:
    """The module of a contender, imported now."""
    return cast(ContenderModule, import_module(f"{__name__}.{name}"))


def missing_package(contender: Contender) -> str | None:
    """The first package that is not installed here; None when all are."""
    return next((name for name in contender.packages if find_spec(name) is None), None)
