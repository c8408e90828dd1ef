"""aioamqp as its RPC tutorial has it, with one waiter per call so that calls may overlap.

The tutorial's client has a single `asyncio.Event`; here a dict holds one for each correlation id. The server
keeps the tutorial's prefetch of 1, and publishes the reply before it acknowledges.
"""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import aioamqp

__all__ = ["connect", "serve"]

QUEUE = "bench_aioamqp_tutorial"


class Waiter(asyncio.Event):
    """The tutorial's event, and the body it announces."""

    body = b""


class TutorialCaller:
    def __init__(self, protocol: Any, channel: Any) -> None:
        self._protocol = protocol
        self._channel = channel
        self._callback_queue = ""
        self._waiters: dict[str, Waiter] = {}

    async def start(self) -> None:
        result = await self._channel.queue_declare(exclusive=True)
        self._callback_queue = result["queue"]
        await self._channel.basic_consume(self._on_response, queue_name=self._callback_queue, no_ack=True)

    async def call(self, n: int) -> int:
        correlation_id = str(uuid.uuid4())
        waiter = self._waiters[correlation_id] = Waiter()
        await self._channel.basic_publish(
            payload=str(n).encode(),
            exchange_name="",
            routing_key=QUEUE,
            properties={"reply_to": self._callback_queue, "correlation_id": correlation_id},
        )
        await waiter.wait()
        return int(waiter.body)

    async def close(self) -> None:
        await self._protocol.close(timeout=2)

    async def _on_response(self, channel: Any, body: bytes, envelope: Any, properties: Any) -> None:
        waiter = self._waiters.pop(properties.correlation_id, None)
        if waiter is not None:
            waiter.body = body
            waiter.set()


async def on_request(channel: Any, body: bytes, envelope: Any, properties: Any) -> None:
    await channel.basic_publish(
        payload=str(int(body) + 1).encode(),
        exchange_name="",
        routing_key=properties.reply_to,
        properties={"correlation_id": properties.correlation_id},
    )
    await channel.basic_client_ack(delivery_tag=envelope.delivery_tag)


async def serve(url: str, ready: Callable[[], None]) -> None:
    _, protocol = await aioamqp.from_url(url)
    channel = await protocol.channel()
    await channel.queue_declare(queue_name=QUEUE, auto_delete=True)
    await channel.basic_qos(prefetch_count=1, prefetch_size=0, connection_global=False)
    await channel.basic_consume(on_request, queue_name=QUEUE)
    ready()
    await protocol.wait_closed()


async def connect(url: str) -> TutorialCaller:
    _, protocol = await aioamqp.from_url(url)
    caller = TutorialCaller(protocol, await protocol.channel())
    await caller.start()
    return caller
