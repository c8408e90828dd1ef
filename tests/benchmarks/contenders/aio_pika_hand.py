"""aio-pika by hand: an exclusive callback queue, correlation ids and futures, as in its RPC tutorial.

Two changes in its favour: the server handles requests as they come instead of one after the other, and the
channels do without publisher confirms, since the answer is the confirmation.
"""

import asyncio
import uuid
from collections.abc import Callable

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

__all__ = ["connect", "serve"]

QUEUE = "bench_aio_pika_hand"


class HandCaller:
    def __init__(self, connection: AbstractConnection, channel: AbstractChannel) -> None:
        self._connection = connection
        self._channel = channel
        self._callback_queue = ""
        self._futures: dict[str, asyncio.Future[bytes]] = {}

    async def start(self) -> None:
        queue = await self._channel.declare_queue(exclusive=True)
        self._callback_queue = queue.name
        await queue.consume(self._on_response, no_ack=True)

    async def call(self, n: int) -> int:
        correlation_id = str(uuid.uuid4())
        future = self._futures[correlation_id] = asyncio.get_running_loop().create_future()
        message = aio_pika.Message(
            str(n).encode(),
            content_type="text/plain",
            correlation_id=correlation_id,
            reply_to=self._callback_queue,
        )
        await self._channel.default_exchange.publish(message, routing_key=QUEUE)
        return int(await future)

    async def close(self) -> None:
        await self._connection.close()

    async def _on_response(self, message: AbstractIncomingMessage) -> None:
        if message.correlation_id is not None:
            self._futures.pop(message.correlation_id).set_result(message.body)


async def serve(url: str, ready: Callable[[], None]) -> None:
    connection = await aio_pika.connect(url)
    channel = await connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue(QUEUE, auto_delete=True)

    async def on_request(message: AbstractIncomingMessage) -> None:
        async with message.process(requeue=False):
            reply = aio_pika.Message(str(int(message.body) + 1).encode(), correlation_id=message.correlation_id)
            await channel.default_exchange.publish(reply, routing_key=message.reply_to or "")

    await queue.consume(on_request)
    ready()
    await asyncio.Event().wait()


async def connect(url: str) -> HandCaller:
    connection = await aio_pika.connect(url)
    caller = HandCaller(connection, await connection.channel(publisher_confirms=False))
    await caller.start()
    return caller
