"""The bare program on `websockets`: JSON, a future for each call, a send for each message, and nothing else."""

import asyncio
import json
from collections.abc import Callable
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen

__all__ = ["connect", "serve"]


class BareCaller:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._futures: dict[int, asyncio.Future[int]] = {}
        self._ids = count()
        self._reading = asyncio.ensure_future(self._read())

    async def call(self, n: int) -> int:
        identity = next(self._ids)
        future = self._futures[identity] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps({"id": identity, "n": n}))
        return await future

    async def close(self) -> None:
        self._reading.cancel()
        await self._connection.close()

    async def _read(self) -> None:
        async for frame in self._connection:
            answer: dict[str, Any] = json.loads(frame)
            self._futures.pop(answer["id"]).set_result(answer["result"])


async def serve(url: str, ready: Callable[[], None]) -> None:
    parts = urlsplit(url)
    async with listen(_answer, parts.hostname, parts.port, compression=None):
        ready()
        await asyncio.Event().wait()


async def connect(url: str) -> BareCaller:
    return BareCaller(await dial(url, compression=None))


async def _answer(connection: ServerConnection) -> None:
    async for frame in connection:
        request = json.loads(frame)
        await connection.send(json.dumps({"id": request["id"], "result": request["n"] + 1}))
