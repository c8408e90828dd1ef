"""FastStream over Redis: `RedisBroker.request` to a subscriber of a channel, a list or a stream, by the URL's scheme.

Without a logger, so that a log line per message costs it nothing. A request subscribes to a channel of its own
for the reply, on a connection of its own besides the one that sends: 512 for 256 callers, where redis-py's
pool ends at 100. The stream is read by a group, as several servers would have to.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from faststream.redis import RedisBroker, StreamSub

from ._redis_url import kind_and_url

__all__ = ["connect", "serve"]

NAME = "bench_faststream"
TIMEOUT = 30.0  # seconds
CONNECTIONS = 1_000
WORDS = {"pubsub": "channel", "list": "list", "stream": "stream"}  # a kind's argument in FastStream


class FastStreamCaller:
    def __init__(self, broker: RedisBroker, destination: dict[str, Any]) -> None:
        self._broker = broker
        self._destination = destination

    async def call(self, n: int) -> int:
        message = await self._broker.request(n, timeout=TIMEOUT, **self._destination)
        return int(await message.decode())  # type: ignore[arg-type]

    async def close(self) -> None:
        await self._broker.stop()


async def increment(n: int) -> int:
    return n + 1


async def serve(url: str, ready: Callable[[], None]) -> None:
    kind, plain = kind_and_url(url)
    broker = RedisBroker(plain, logger=None)  # type: ignore[arg-type]
    source: Any = StreamSub(_name(kind), group=NAME, consumer=NAME) if kind == "stream" else _name(kind)
    broker.subscriber(**{WORDS[kind]: source})(increment)
    async with broker:
        await broker.start()
        ready()
        await asyncio.Event().wait()


async def connect(url: str) -> FastStreamCaller:
    kind, plain = kind_and_url(url)
    broker = RedisBroker(plain, logger=None, max_connections=CONNECTIONS)  # type: ignore[arg-type]
    await broker.connect()
    return FastStreamCaller(broker, {WORDS[kind]: _name(kind)})


def _name(kind: str) -> str:
    return f"{NAME}_{kind}"
