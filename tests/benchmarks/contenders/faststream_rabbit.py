"""FastStream over RabbitMQ: `RabbitBroker.request` to a subscriber.

Without a logger, so that a log line per message costs it nothing. A broker object of it has one request under
way at a time, which is why more callers do not make it faster.
"""

import asyncio
from collections.abc import Callable

from faststream.rabbit import RabbitBroker, RabbitQueue

__all__ = ["connect", "serve"]

QUEUE = RabbitQueue("bench_faststream", auto_delete=True)
TIMEOUT = 30.0  # seconds; waiting for its turn included


class FastStreamCaller:
    def __init__(self, broker: RabbitBroker) -> None:
        self._broker = broker

    async def call(self, n: int) -> int:
        message = await self._broker.request(n, queue=QUEUE, timeout=TIMEOUT)
        return int(await message.decode())  # type: ignore[arg-type]

    async def close(self) -> None:
        await self._broker.stop()


async def increment(n: int) -> int:
    return n + 1


async def serve(url: str, ready: Callable[[], None]) -> None:
    broker = RabbitBroker(url, logger=None)
    broker.subscriber(QUEUE)(increment)
    async with broker:
        await broker.start()
        ready()
        await asyncio.Event().wait()


async def connect(url: str) -> FastStreamCaller:
    broker = RabbitBroker(url, logger=None)
    await broker.connect()
    return FastStreamCaller(broker)
