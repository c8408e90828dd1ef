"""rpckit as its users write it: one service, one client, the defaults; the URL says over what."""

import asyncio
from collections.abc import Callable

from rpckit import Client, Server, Service

__all__ = ["connect", "serve"]

ADDRESS = "rpckit_bench"

service = Service("bench", address=ADDRESS)


@service.method
async def increment(n: int) -> int:
    return n + 1


class RpckitCaller:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._increment = client.at(ADDRESS).increment

    async def call(self, n: int) -> int:
        result: int = await self._increment(n)
        return result

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)


async def serve(url: str, ready: Callable[[], None]) -> None:
    async with Server(service, url=url):
        ready()
        await asyncio.Event().wait()


async def connect(url: str) -> RpckitCaller:
    return RpckitCaller(await Client(url).__aenter__())
