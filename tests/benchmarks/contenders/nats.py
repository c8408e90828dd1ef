"""NATS core request/reply with nats-py, text bodies; another broker and another driver, for the scale."""

import asyncio
from collections.abc import Callable

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

__all__ = ["connect", "serve"]

SUBJECT = "bench.increment"
TIMEOUT = 30.0  # seconds


class NatsCaller:
    def __init__(self, client: Client) -> None:
        self._client = client

    async def call(self, n: int) -> int:
        message = await self._client.request(SUBJECT, str(n).encode(), timeout=TIMEOUT)
        return int(message.data)

    async def close(self) -> None:
        await self._client.close()


async def increment(message: Msg) -> None:
    await message.respond(str(int(message.data) + 1).encode())


async def serve(url: str, ready: Callable[[], None]) -> None:
    client = await nats.connect(url)
    await client.subscribe(SUBJECT, cb=increment)
    await client.flush()
    ready()
    await asyncio.Event().wait()


async def connect(url: str) -> NatsCaller:
    return NatsCaller(await nats.connect(url))
