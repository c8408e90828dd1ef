"""aio-pika's own RPC pattern in its JSON variant (the default one pickles), set up as its documentation does.

Without publisher confirms, which it is a little faster without: the answer is the confirmation.
"""

import asyncio
from collections.abc import Callable

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.patterns import RPC, JsonRPC

__all__ = ["connect", "serve"]

METHOD = "bench_aio_pika_rpc"


class PatternCaller:
    def __init__(self, connection: AbstractConnection, rpc: RPC) -> None:
        self._connection = connection
        self._rpc = rpc

    async def call(self, n: int) -> int:
        result: int = await self._rpc.call(METHOD, {"n": n})
        return result

    async def close(self) -> None:
        await self._rpc.close()
        await self._connection.close()


async def increment(*, n: int) -> int:
    return n + 1


async def serve(url: str, ready: Callable[[], None]) -> None:
    connection = await aio_pika.connect_robust(url)
    rpc = await JsonRPC.create(await connection.channel(publisher_confirms=False))
    await rpc.register(METHOD, increment, auto_delete=True)
    ready()
    await asyncio.Event().wait()


async def connect(url: str) -> PatternCaller:
    connection = await aio_pika.connect_robust(url)
    return PatternCaller(connection, await JsonRPC.create(await connection.channel(publisher_confirms=False)))
